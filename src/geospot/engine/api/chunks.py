"""What servers that speak OpenAI's protocol send back, read leniently: the SDK's types hold for OpenAI's own.

Many servers differ: they send one document where a stream was asked for, parts in place of a text, errors with status
200, no reason for the end. None of that may cost an answer, let alone end a command.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from geospot.answer.reply import Reply
from geospot.engine.api.trouble import Trouble, page_instead, trouble_of_status, truncated

DONE = "[DONE]"
_LENGTH = ("length", "max_tokens", "model_length")
_SAFETY = ("content_filter", "safety")
_BROKEN = ("error", "abort", "insufficient_system_resource")  # the server ended the answer, not the model
_THOUGHTS = ("reasoning_content", "reasoning")
_MOST = 64 << 20  # characters that are kept of what is no stream


def reply_of(lines: Iterable[str], content_type: str) -> Reply:
    """The reply in the lines of a body: server-sent events, or one JSON document. Trouble where there is none."""
    text = refusal = thoughts = finish = served = ""
    tokens: dict[str, Any] = {}
    answered = complete = False
    for kind, data in _documents(lines):
        if data == DONE:
            complete = True
            continue
        _raise_error(kind, data)
        if not isinstance(data, dict):
            continue  # null and the like, to keep the connection alive
        served = str(data.get("model") or served)
        tokens = data["usage"] if isinstance(data.get("usage"), dict) else tokens
        for choice in _list(data.get("choices")):
            if not isinstance(choice, dict) or choice.get("index"):
                continue  # one answer was asked for
            whole = isinstance(choice.get("message"), dict)
            said = choice["message"] if whole else choice.get("delta")
            answered, complete = True, complete or (whole and kind == "document")
            finish = str(choice.get("finish_reason") or finish)
            if isinstance(said, dict):
                words, thought = _words(said.get("content"))
                text += words
                refusal += _words(said.get("refusal"))[0]
                thoughts += thought + next((w for key in _THOUGHTS if (w := _words(said.get(key))[0])), "")
    if not finish and not (complete and answered):
        raise truncated() if answered or served else page_instead(content_type)
    ends = finish.lower()
    if ends in _BROKEN:
        raise Trouble("server error in the answer", f"it ended the answer with {finish!r}", passing=True)
    is_unsafe = ends.startswith(_SAFETY)
    ended = "refusal" if refusal else "length" if ends in _LENGTH else "safety" if is_unsafe else "stop"
    detail = refusal if refusal else finish if is_unsafe else ""
    counts = (_count(tokens.get("prompt_tokens")), _count(tokens.get("completion_tokens")))
    return Reply(text or refusal, ended, detail[:300], thoughts, served, *counts).without_thoughts()


def names_of(body: str, content_type: str) -> list[str]:
    """The names in a list of models: OpenAI's, a bare list, or Ollama's. Trouble where it is none of them."""
    try:
        data = json.loads(body)
    except ValueError:
        raise page_instead(content_type) from None
    _raise_error("document", data)
    listed = (data.get("data") or data.get("models")) if isinstance(data, dict) else data
    names = [one.get("id") or one.get("name") if isinstance(one, dict) else one for one in _list(listed)]
    return [name for name in names if isinstance(name, str)]


def _documents(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """(event, JSON or DONE) of server-sent events; where there are none, ("document", JSON) of the whole, or of its
    lines."""
    event, n_others, found = "", 0, False
    parts: list[str] = []
    others: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        if line and field not in ("data", "event", "id", "retry", "") and not found and n_others < _MOST:
            others.append(line)
            n_others += len(line)
        elif field == "event":
            event = value.strip()
        elif field == "data":
            parts.append(value.removeprefix(" "))
            found = True
        if parts and not line:
            yield event, _json("\n".join(parts))
            event, parts = "", []
    if parts:
        yield event, _json("\n".join(parts))
    if not found and others and others[0].lstrip()[:1] in ("{", "["):
        whole = "\n".join(others)
        try:
            yield "document", json.loads(whole)
        except ValueError:
            yield from (("line", _json(line)) for line in others)  # newline-delimited JSON


def _words(content: Any) -> tuple[str, str]:
    """(text, thoughts) of a content: a text, or parts of several kinds, as Mistral's thinking models send them."""
    if isinstance(content, list):
        pairs = [_words(part) for part in content]
        return "".join(text for text, _ in pairs), "".join(thought for _, thought in pairs)
    if isinstance(content, dict):
        if str(content.get("type")).startswith(("thinking", "reasoning")):
            inner = content.get("thinking") or content.get("reasoning") or content.get("text")
            return "", "".join(_words(inner))
        return _words(content.get("text"))
    return ("" if content is None else str(content)), ""


def _raise_error(kind: str, data: Any) -> None:
    """Trouble where a document is an error, which has no status of its own once a stream has begun."""
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(data, dict) and not error and (kind == "error" or data.get("object") == "error"):
        error = data
    if isinstance(data, dict) and not error and "choices" not in data and kind == "document":
        error = data.get("detail") or data.get("message")
    if not error:
        return
    inner = error if isinstance(error, dict) else {"message": error}
    said = str(inner.get("message") or error)
    code = inner.get("code") or inner.get("status") or inner.get("type")
    if isinstance(code, str) and not code.isdecimal():
        said = f"{said} ({code})" if code not in said else said
        code = 429 if "rate_limit" in code else None
    status = int(code) if code is not None and str(code).isdecimal() and 400 <= int(code) < 600 else None
    raise trouble_of_status(status, " ".join(said.split())[:300])


def _json(text: str) -> Any:
    if text.strip() == DONE:
        return DONE
    try:
        return json.loads(text)
    except ValueError:
        raise Trouble("unreadable response", f"no JSON: {text[:80]!r}", passing=True) from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
