"""Why a text holds no answer: the model refused, a filter stopped it, it was cut off, or nobody can read it.

A provider's word for how an answer ended (`finish_reason`, `stop_reason`) goes before what the text looks like.
"""

import re
from dataclasses import replace

from geospot.answer.markup import strip_thinking
from geospot.answer.parse import (
    EMPTY,
    NO_COORDINATES,
    NO_LATITUDE,
    NO_LONGITUDE,
    NOT_A_NUMBER,
    ONLY_THINKING,
    Answer,
    parse_answer,
)
from geospot.answer.regex import lazy

REFUSED = "refused"
FILTERED = "stopped by a safety filter"
CUT_OFF = "cut off"
REQUEST_FAILED = "request failed"

# OpenAI, Azure, Anthropic, Gemini, Mistral, vLLM, Inspect; compared in small letters without marks.
_STOPS = {
    REFUSED: ("refusal", "refused"),
    FILTERED: (
        "contentfilter", "contentfiltered", "safety", "recitation", "blocklist", "prohibitedcontent", "spii",
        "imagesafety", "imageprohibitedcontent", "guardrailintervened", "blocked", "sensitive",
    ),
    CUT_OFF: (
        "length", "maxtokens", "maxoutputtokens", "modellength", "modelcontextwindowexceeded", "incomplete",
        "tokenlimit", "truncated",
    ),
    REQUEST_FAILED: ("error", "errored", "expired", "canceled", "cancelled", "aborted", "abort"),
}  # fmt: skip
_ENDINGS = {word: reason for reason, words in _STOPS.items() for word in words}

_ABLE = r"(?:help|assist|comply|fulfil|fulfill|provide|identify|determine|tell|say|share|give|answer|locate|geolocate|do|infer|pinpoint|engage|support|make|disclose|reveal|guess)"  # noqa: E501
_REFUSAL = lazy(
    rf"\b(?:i|we)(?: a|['’])m (?:sorry|afraid|unable|not able|not comfortable|not going to)\b"
    rf"|\b(?:i|we) (?:can(?:not|['’]t| not)|could(?: not|n['’]t)|won['’]t|will not|must decline|have to decline|decline"
    rf"|am not able|do not feel comfortable|don['’]t feel comfortable)(?: \w+){{0,2}} {_ABLE}\b"
    r"|\b(?:my apologies|i apologi[sz]e)\b.{0,80}\b(?:can(?:not|['’]t)|unable)\b|\bas an ai\b|\bunable to (?:assist|help|comply|determine|identify|provide|locate)\b"  # noqa: E501
    r"|\bje (?:ne peux pas|suis désolée?)\b|\bich kann (?:nicht|das nicht|dabei nicht|leider)\b|\btut mir leid\b"
    r"|\blo siento\b|\bno puedo\b|\bdesculpe\b|\bnão posso\b|\bmi dispiace\b|\bnon posso\b"
    r"|抱歉|对不起|我无法|我不能|申し訳|できません|извините|не могу|죄송",
    re.IGNORECASE,
)
_LOOKED_AT = 1500  # characters at either end of a text
# What a refusal may be read in place of: coordinates that are out of range were meant as an answer.
_NOTHING = (NO_COORDINATES, NO_LATITUDE, NO_LONGITUDE, NOT_A_NUMBER)
_LAST_NUMBER = lazy(r"[-+−]?[0-9]*[.,]?[0-9]*°?\s*$")


def ending(stop: object) -> str | None:
    """REFUSED, FILTERED, CUT_OFF or REQUEST_FAILED where a provider's word for the end of an answer means that."""
    if not isinstance(stop, str):
        return None
    word = "".join(c for c in stop.lower() if c.isalnum()).removeprefix("finishreason")
    return _ENDINGS.get(word)


def is_refusal(text: str) -> bool:
    """Whether a text that names no coordinates says that it will not or cannot."""
    return bool(_REFUSAL.search(text[:_LOOKED_AT]) or _REFUSAL.search(text[-_LOOKED_AT:]))


def is_cut_off(text: str) -> bool:
    """Whether a text ends inside what it began: a JSON object, a code fence, `<think>`."""
    if text.rfind("<think>") > text.rfind("</think>") or text.count("```") % 2:
        return True
    start = text.find("{")
    return start >= 0 and text.count("{", start) > text.count("}", start)


def with_ending(answer: Answer, text: str, stop: object = None) -> Answer:
    """The answer with the reason why it failed told apart by `stop` and by what the text says.

    One that was cut off within its last number has failed, too: 2 may have been on its way to 2.35 or 24.
    """
    end = ending(stop)
    if answer.ok:
        cut = end == CUT_OFF and _LAST_NUMBER.search(text)
        if cut and cut[0].strip() and not _same(parse_answer(text[: cut.start()]), answer):
            return replace(answer, lat=None, lon=None, error=CUT_OFF)
        return answer
    if end is not None:
        return replace(answer, error=end)
    if answer.error in _NOTHING and is_refusal(strip_thinking(text)):
        return replace(answer, error=REFUSED)
    if answer.error in (*_NOTHING, ONLY_THINKING) and is_cut_off(text):
        return replace(answer, error=CUT_OFF)
    return answer


def failed_request(said: object) -> str:
    """The reason of a row that holds an error instead of an answer: a word of the kinds above, or what it says."""
    if isinstance(said, dict):
        inner = said.get("error") if isinstance(said.get("error"), dict) else said
        code = next((inner[k] for k in ("code", "type", "status", "status_code") if inner.get(k)), None)
        return ending(code) or (REQUEST_FAILED if code is None else f"{REQUEST_FAILED} ({code})")
    if said is True:
        return REFUSED
    text = " ".join(str(said).split())
    if reason := ending(text):
        return reason
    return REFUSED if is_refusal(text) else (text if len(text) <= 60 else text[:57] + "...") or EMPTY


def _same(one: Answer, other: Answer) -> bool:
    return (one.lat, one.lon) == (other.lat, other.lon)
