"""OpenAI's chat completions, through its SDK: OpenAI itself, and every server that speaks like it."""

import re
import threading
from typing import Any

import httpx2
import openai

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import AT_ADDRESS, ApiModel
from geospot.engine.api.exchange import Options, SharedBySdks, Wanted, data_url
from geospot.engine.api.trouble import page_instead, truncated

# What a server may not know: left out from then on where it says so.
_DISPENSABLE = ("temperature", "seed", "stream_options", "reasoning_effort")
_FINISH = {"length": "length", "content_filter": "safety"}
_THOUGHTS = ("reasoning_content", "reasoning")


class OpenAIProtocol(SharedBySdks):
    """See `ApiProtocol`. Parameters that the server refuses by name are left out from then on; `left_out` has them."""

    def __init__(self, model: ApiModel, options: Options):
        self._model, self._options = model, options
        self.left_out: set[str] = set()
        # OpenAI's reasoning models know only the new name, many other servers only the old one.
        self._longest = "max_tokens" if model.provider == AT_ADDRESS else "max_completion_tokens"
        self._lock = threading.Lock()
        self._client = openai.OpenAI(
            api_key=model.key(), base_url=model.base_url, max_retries=0,
            timeout=httpx2.Timeout(options.timeout_s, connect=min(10.0, options.timeout_s)),
        )  # fmt: skip

    def ask(self, wanted: Wanted) -> Reply:
        """See `ApiProtocol`."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(data, kind)}} for data, kind in wanted.pictures
        ]
        messages: Any = [{"role": "user", "content": [*content, {"type": "text", "text": wanted.text}]}]
        while True:
            settings = self._settings(wanted)
            try:
                stream = self._client.chat.completions.create(
                    model=self._model.name, messages=messages, stream=True, extra_body=self._extra(), **settings
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._leave_out(str(error), settings):
                    raise
            else:
                with stream:
                    return _read(stream)

    def _settings(self, wanted: Wanted) -> dict[str, Any]:
        with self._lock:
            left_out, longest = set(self.left_out), self._longest
        settings: dict[str, Any] = {
            longest: wanted.max_tokens + (self._options.budget or 0),
            "temperature": wanted.temperature,
            "seed": wanted.seed,
            "stream_options": {"include_usage": True},
        }
        if self._options.effort is not None:
            settings["reasoning_effort"] = self._options.effort
        return {key: value for key, value in settings.items() if key not in left_out}

    def _extra(self) -> dict[str, Any]:
        budget = {} if self._options.budget is None else {"thinking_budget": self._options.budget}
        return {**budget, **self._options.extra}

    def _leave_out(self, said: str, settings: dict[str, Any]) -> bool:
        """Whether a refusal names a parameter that was sent and need not be."""
        if "max_completion_tokens" in said and "max_tokens" in settings:
            with self._lock:
                self._longest = "max_completion_tokens"
            return True
        named = {key for key in _DISPENSABLE if key in settings and re.search(rf"\b{key}\b", said)}
        with self._lock:
            self.left_out |= named
        return bool(named)


def _read(stream: "openai.Stream[Any]") -> Reply:
    text, refusal, thoughts = "", "", ""
    finish = served = None
    tokens_in = tokens_out = None
    for chunk in stream:
        served = chunk.model or served
        if chunk.usage is not None:
            tokens_in, tokens_out = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        for choice in chunk.choices or ():
            finish = choice.finish_reason or finish
            if choice.delta is None:
                continue
            text += choice.delta.content or ""
            refusal += choice.delta.refusal or ""
            thoughts += next((str(part) for key in _THOUGHTS if (part := getattr(choice.delta, key, None))), "")
    if finish is None:
        kind = stream.response.headers.get("content-type", "")
        raise truncated() if served is not None else page_instead(kind)
    ended = "refusal" if refusal else _FINISH.get(finish, "stop")
    detail = refusal if refusal else finish if ended == "safety" else ""
    found = Reply(text or refusal, ended, detail[:300], thoughts, served or "", tokens_in, tokens_out)
    return found.without_thoughts()
