"""What a cell of an answer file says: text, messages, a completion of any provider, a tool call; and how it ended."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geospot.answer.candidates import most_likely_first
from geospot.answer.endings import REFUSED, REQUEST_FAILED, failed_request
from geospot.answer.places import has_place

_DEPTH = 12  # of wrappers around an answer
_ASSISTANT = ("assistant", "model", "gpt", "bot", "ai")
_STOPS = ("finish_reason", "stop_reason", "finishReason", "stopReason", "finish_type")
_WRAPPERS = (  # the most telling first: Inspect repeats the text of its choices as `completion`, without their ends
    "choices", "candidates", "response", "body", "result", "output", "message", "completion", "raw_response",
    "prediction", "messages", "content", "parts", "text", "value", "output_text", "answer",
)  # fmt: skip
_CALLS = ("tool_calls", "function_call", "functionCall")
_THOUGHTS = ("thinking", "reasoning", "redacted_thinking", "thought")
_NO_REPLY = "[LMMS_EVAL_REQUEST_FAILED"  # what lmms-eval writes in place of an answer; what failed follows
# A list or an object written as text, by JSON or by Python: worth parsing for what it holds.
_PACKED = re.compile(r"""\s*[\[{].{0,400}?["'](?:role|choices|candidates|parts|tool_calls|from)["']\s*:""", re.DOTALL)


@dataclass(frozen=True)
class CellReply:
    """The visible text of an answer with the arguments of its last tool call, the provider's word for how it ended,
    and the reason where a request failed. `others`: further answers to the same question, which were not read.
    """

    text: str = ""
    stop: str | None = None
    error: str | None = None
    others: int = 0


def read_cell(value: object, depth: int = 0) -> CellReply:
    """The answer that a cell holds, whatever it is wrapped in; the text of what is no known form. Never raises.

    Thoughts that a provider keeps apart are left out, unless there is nothing else: then they are `<think>...</think>`.
    Of a conversation the last turn of the model counts, of several answers the first, or the most likely where they say
    how likely they are.
    """
    if value is None or depth > _DEPTH:
        return CellReply()
    if isinstance(value, str):
        if value.startswith(_NO_REPLY):
            return CellReply(error=REQUEST_FAILED)
        held = _unpacked(value) if _PACKED.match(value) else None
        return CellReply(value) if held is None else read_cell(held, depth + 1)
    if isinstance(value, Mapping):
        return _of_object(value, depth + 1)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return _of_list(list(value), depth + 1)
    return CellReply(str(value))


def _unpacked(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _of_list(items: list, depth: int) -> CellReply:
    if len(items) == 2 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in items):
        return CellReply(f"Latitude: {items[0]}\nLongitude: {items[1]}")
    objects = [item for item in items if isinstance(item, Mapping)]
    if not objects:  # lmms-eval: [["text"]]
        first = read_cell(items[0], depth) if items else CellReply()
        return CellReply(first.text, first.stop, first.error, max(len(items) - 1, first.others))
    if any("role" in o or "from" in o for o in objects) and not _is_output(objects):
        return _last_turn(objects, depth)
    if any(key in objects[0] for key in (*_STOPS, "message", "logprobs")):  # choices, candidates
        first = _of_object(objects[0], depth)
        return CellReply(first.text, first.stop, first.error, len(objects) - 1)
    if _is_output(objects) or any(o.get("type") in ("text", "tool_use", *_THOUGHTS) or "text" in o for o in objects):
        return _of_blocks(objects, depth)
    if any("functionCall" in o or "function" in o for o in objects):
        return _of_blocks(objects, depth)
    best = most_likely_first(objects, lambda item: item.items()) or objects
    first = read_cell(best[0], depth)
    return CellReply(first.text, first.stop, first.error, len(objects) - 1)


def _is_output(objects: list[Mapping]) -> bool:
    """The items of OpenAI's Responses API, of which messages have a role, too."""
    return any(o.get("type") in ("message", "function_call", "reasoning") for o in objects)


def _last_turn(messages: list[Mapping], depth: int) -> CellReply:
    """The last turn of the model that says something."""
    turns = [m for m in messages if str(m.get("role", m.get("from"))).lower() in _ASSISTANT]
    for message in reversed(turns):
        reply = _of_object(message, depth)
        if reply.text.strip() or reply.stop or reply.error:
            return reply
    return CellReply()


def _of_blocks(blocks: list[Mapping], depth: int) -> CellReply:
    """Blocks of content, one after the other; tool calls last, since they are the answer where there are any."""
    said, thought, called, stop, error = [], [], [], None, None
    for block in blocks:
        kind = block.get("type")
        if kind in _THOUGHTS or block.get("thought") is True:
            thought += [str(block[k]) for k in ("thinking", "reasoning", "text", "summary") if block.get(k)][:1]
        elif kind in ("tool_use", "function_call") or any(call in block for call in ("functionCall", "function")):
            called.append(_arguments(block))
        elif kind == "refusal" or block.get("refusal"):
            said.append(str(block.get("refusal") or ""))
            stop = REFUSED
        else:
            reply = _of_object(block, depth)
            said.append(reply.text)
            stop, error = reply.stop or stop, reply.error or error
    text = "\n".join(part for part in (*said, *called) if part)
    if not text.strip() and any(thought):
        text = f"<think>{' '.join(thought)}</think>"
    return CellReply(text, stop, error)


def _arguments(call: Mapping) -> str:
    """What a tool is called with, as JSON: {"latitude": 1, "longitude": 2}."""
    kinds = ("function", "functionCall", "function_call")
    inner = next((call[kind] for kind in kinds if isinstance(call.get(kind), Mapping)), call)
    value = next((inner[k] for k in ("arguments", "input", "args", "parameters") if inner.get(k) is not None), "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _of_object(value: Mapping, depth: int) -> CellReply:
    stop = next((read_stop(value[key]) for key in (*_STOPS, "incomplete_details") if value.get(key)), None)
    if isinstance(feedback := value.get("promptFeedback"), Mapping) and feedback.get("blockReason"):
        stop = "SAFETY"
    if value.get("refusal"):
        return CellReply(str(value["refusal"]), stop or REFUSED)
    if error := _failure(value):
        return CellReply("", stop, error)
    calls = [call for key in _CALLS if value.get(key) for call in _listed(value[key])]
    inner = CellReply()
    held = next((key for key in _WRAPPERS if key in value and value[key] not in (None, "", [])), None)
    if has_place(value):
        inner = CellReply(json.dumps(value, ensure_ascii=False, default=str))
    elif held is not None:
        inner = read_cell(value[held], depth)
    elif not calls and stop is None and not _is_empty_turn(value):
        inner = CellReply(
            json.dumps(value, ensure_ascii=False, default=str)
        )  # an object of the answer's own: its fields
    called = [_arguments(call) for call in calls if isinstance(call, Mapping)]
    text = "\n".join(part for part in (inner.text, *called) if part)
    if not text and isinstance(thought := value.get("reasoning_content") or value.get("reasoning"), str):
        text = f"<think>{thought}</think>"
    return CellReply(text, inner.stop or stop, inner.error, inner.others)


def _is_empty_turn(value: Mapping) -> bool:
    return any(key in value for key in ("role", "from", *_WRAPPERS))


def _failure(value: Mapping) -> str | None:
    """The reason of a request that failed: an error in place of an answer, a status of 400 or above."""
    error, status = value.get("error"), value.get("status_code")
    if isinstance(status, int) and status >= 400:
        return f"{REQUEST_FAILED} ({status})"
    if error and not any(value.get(key) for key in ("choices", "candidates", "output", "content", "response", "text")):
        return failed_request(error)
    if value.get("type") in ("errored", "expired", "canceled"):
        return failed_request(value.get("error") or value["type"])
    return None


def read_stop(value: object) -> str | None:
    """A provider's word for how an answer ended; some dumps hold a list of one, the Responses API an object."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if isinstance(value, Mapping):
        value = value.get("reason")
    return value if isinstance(value, str) else None


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]
