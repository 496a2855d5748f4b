"""Anthropic's messages, through its SDK."""

import base64
from typing import Any

import anthropic
import httpx2

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import ApiModel
from geospot.engine.api.exchange import Options, SharedBySdks, Wanted
from geospot.engine.api.trouble import page_instead, truncated

_FINISH = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal"}


class AnthropicProtocol(SharedBySdks):
    """See `ApiProtocol`. A model that thinks takes no temperature, and none takes a seed."""

    def __init__(self, model: ApiModel, options: Options):
        self._model, self._options = model, options
        self.left_out = {"seed"}
        self._client = anthropic.Anthropic(
            api_key=model.key(), base_url=model.base_url, max_retries=0,
            timeout=httpx2.Timeout(options.timeout_s, connect=min(10.0, options.timeout_s)),
        )  # fmt: skip

    def ask(self, wanted: Wanted) -> Reply:
        """See `ApiProtocol`."""
        content: list[Any] = [
            {"type": "image", "source": {"type": "base64", "media_type": f"image/{kind}",
                                         "data": base64.b64encode(data).decode()}}
            for data, kind in wanted.pictures
        ]  # fmt: skip
        messages: Any = [{"role": "user", "content": [*content, {"type": "text", "text": wanted.text}]}]
        while True:
            extra = self._heat(wanted) | dict(self._options.extra)
            try:
                stream = self._client.messages.create(
                    model=self._model.name, messages=messages, stream=True, **self._thinking(),
                    max_tokens=wanted.max_tokens + (self._options.budget or 0), extra_body=extra,
                )  # fmt: skip
            except anthropic.BadRequestError as error:
                if "temperature" not in extra or "temperature" not in str(error):
                    raise
                self.left_out = self.left_out | {"temperature"}
            else:
                with stream:
                    return _read(stream)

    def _thinking(self) -> dict[str, Any]:
        budget, effort = self._options.budget, self._options.effort
        if budget == 0 or effort == "none":
            return {"thinking": {"type": "disabled"}}
        if budget is not None:
            return {"thinking": {"type": "enabled", "budget_tokens": budget}}
        return {} if effort is None else {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}

    def _heat(self, wanted: Wanted) -> dict[str, Any]:
        """The SDK has no argument for it any more, since new models take none; older ones do."""
        thinks = bool(self._options.budget) or self._options.effort not in (None, "none")
        return {} if thinks or "temperature" in self.left_out else {"temperature": wanted.temperature}


def _read(stream: "anthropic.Stream[Any]") -> Reply:
    text, thoughts = "", ""
    stop = served = None
    tokens_in = tokens_out = None
    complete = False
    for event in stream:
        if event.type == "message_start":
            served, usage = event.message.model, event.message.usage
            cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
            tokens_in = usage.input_tokens + cached
        elif event.type == "content_block_delta":
            text += event.delta.text if event.delta.type == "text_delta" else ""
            thoughts += event.delta.thinking if event.delta.type == "thinking_delta" else ""
        elif event.type == "message_delta":
            stop, tokens_out = event.delta.stop_reason or stop, event.usage.output_tokens
        complete = complete or event.type == "message_stop"
    if not complete or stop is None:
        raise truncated() if served is not None else page_instead(stream.response.headers.get("content-type", ""))
    return Reply(text, _FINISH.get(stop, "stop"), "", thoughts, served or "", tokens_in, tokens_out)
