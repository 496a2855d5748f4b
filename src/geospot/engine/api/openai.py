"""OpenAI's chat completions, through its SDK: OpenAI itself, and every server that speaks like it."""

import re
import threading
from typing import Any

import httpx2
import openai

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import AT_ADDRESS, ApiModel
from geospot.engine.api.chunks import names_of, reply_of
from geospot.engine.api.exchange import Options, SharedBySdks, Wanted, data_url

# What a server may not know: left out from then on where it says so.
_DISPENSABLE = ("temperature", "seed", "stream_options", "reasoning_effort", "stream")
_NEW = "max_completion_tokens"
_LONGEST = ("max_tokens", _NEW)
_UNKNOWN = re.compile(
    r"unknown|unrecogni[sz]ed|unexpected|unsupported|not supported|extra|not permitted", re.IGNORECASE
)


class OpenAIProtocol(SharedBySdks):
    """See `ApiProtocol`. Parameters that the server refuses by name are left out from then on; `left_out` has them."""

    def __init__(self, model: ApiModel, options: Options):
        self._model, self._options = model, options
        self.left_out: set[str] = set()
        # OpenAI's reasoning models know only the new name, many other servers only the old one.
        self._longest = "max_tokens" if model.provider == AT_ADDRESS else _NEW
        self._swapped = False
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
                with self._client.chat.completions.with_streaming_response.create(
                    model=self._model.name, messages=messages, extra_body=self._extra(), **settings
                ) as response:
                    return reply_of(response.iter_lines(), response.headers.get("content-type", ""))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._leave_out(str(error), settings):
                    raise

    def served(self) -> list[str]:
        """See `ApiProtocol`."""
        response = self._client.models.with_raw_response.list().http_response
        return names_of(response.text, response.headers.get("content-type", ""))

    def _settings(self, wanted: Wanted) -> dict[str, Any]:
        with self._lock:
            left_out, longest = set(self.left_out), self._longest
        settings: dict[str, Any] = {
            longest: wanted.max_tokens + (self._options.budget or 0),
            "temperature": wanted.temperature,
            "seed": wanted.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if "stream" in left_out:
            del settings["stream_options"]
        if self._options.effort is not None:
            settings["reasoning_effort"] = self._options.effort
        return {key: value for key, value in settings.items() if key not in left_out}

    def _extra(self) -> dict[str, Any]:
        budget = {} if self._options.budget is None else {"thinking_budget": self._options.budget}
        return {**budget, **self._options.extra}

    def _leave_out(self, said: str, settings: dict[str, Any]) -> bool:
        """Whether a refusal names a parameter that was sent and need not be."""
        used = next(key for key in _LONGEST if key in settings)
        with self._lock:
            if used != self._longest:
                return True  # another request has found out meanwhile
            if not self._swapped and _NEW in said and (used != _NEW or _UNKNOWN.search(said)):
                self._swapped, self._longest = True, next(key for key in _LONGEST if key != used)
                return True
        named = {key for key in _DISPENSABLE if key in settings and re.search(rf"\b{key}\b", said)}
        with self._lock:
            self.left_out |= named
        return bool(named)
