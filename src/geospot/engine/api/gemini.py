"""Google's Gemini, through its SDK."""

from collections.abc import Iterable

from google import genai
from google.genai import errors, types

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import ApiModel
from geospot.engine.api.exchange import Options, Wanted
from geospot.engine.api.trouble import page_instead, truncated

_SAFETY = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR", "LANGUAGE")


class GeminiProtocol:
    """See `ApiProtocol`."""

    def __init__(self, model: ApiModel, options: Options):
        self._model, self._options = model, options
        self.left_out: set[str] = set()
        self._client = genai.Client(
            api_key=model.key(),
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=model.base_url,
                timeout=int(options.timeout_s * 1000),
                retry_options=types.HttpRetryOptions(attempts=1),
                extra_body=dict(options.extra) or None,
            ),
        )

    def served(self) -> list[str]:
        """See `ApiProtocol`."""
        return [(model.name or "").removeprefix("models/") for model in self._client.models.list()]

    def close(self) -> None:
        """See `ApiProtocol`."""
        self._client.close()

    def ask(self, wanted: Wanted) -> Reply:
        """See `ApiProtocol`."""
        parts = [types.Part.from_bytes(data=data, mime_type=f"image/{kind}") for data, kind in wanted.pictures]
        parts.append(types.Part.from_text(text=wanted.text))
        while True:
            sent = "temperature" not in self.left_out
            try:
                return _read(
                    self._client.models.generate_content_stream(
                        model=self._model.name, contents=types.Content(role="user", parts=parts),
                        config=self._config(wanted, sent),
                    )
                )  # fmt: skip
            except errors.ClientError as error:
                if not sent or error.code != 400 or "temperature" not in str(error):
                    raise
                self.left_out = self.left_out | {"temperature"}

    def _config(self, wanted: Wanted, heat: bool) -> types.GenerateContentConfig:
        budget, effort = self._options.budget, self._options.effort
        thinking = None
        if budget is not None or effort == "none":
            thinking = types.ThinkingConfig(thinking_budget=budget or 0, include_thoughts=bool(budget))
        elif effort is not None:
            thinking = types.ThinkingConfig(thinking_level=types.ThinkingLevel(effort.upper()), include_thoughts=True)
        return types.GenerateContentConfig(
            max_output_tokens=wanted.max_tokens + (budget or 0),
            temperature=wanted.temperature if heat else None,
            seed=wanted.seed,
            thinking_config=thinking,
        )


def _read(stream: Iterable[types.GenerateContentResponse]) -> Reply:
    text, thoughts, served, finish, blocked = "", "", "", "", ""
    tokens_in = tokens_out = None
    for chunk in stream:
        served = chunk.model_version or served
        if (usage := chunk.usage_metadata) is not None:
            tokens_in = usage.prompt_token_count
            tokens_out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            blocked = chunk.prompt_feedback.block_reason.value
        for candidate in chunk.candidates or ():
            finish = candidate.finish_reason.value if candidate.finish_reason is not None else finish
            for part in (candidate.content.parts if candidate.content is not None else None) or ():
                if part.thought:
                    thoughts += part.text or ""
                else:
                    text += part.text or ""
    if not (finish or blocked):
        raise truncated() if served else page_instead("")
    ended = "safety" if blocked or finish in _SAFETY else "length" if finish == "MAX_TOKENS" else "stop"
    detail = blocked or finish if ended == "safety" else ""
    return Reply(text, ended, detail, thoughts, served, tokens_in, tokens_out)
