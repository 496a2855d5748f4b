"""What is asked of a model behind an API, and the one thing that each protocol does: send it, and read the reply."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import ApiModel
from geospot.errors import EngineError

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True)
class Wanted:
    """One answer: encoded pictures with their formats ("jpeg", "png"), the question, and how it is drawn."""

    pictures: tuple[tuple[bytes, str], ...]
    text: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Options:
    """How requests are sent: a silent server is given up after `timeout_s`; `thinking` is a budget in tokens or an
    effort; `extra` goes into the body of every request as it is."""

    timeout_s: float = 120.0
    thinking: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def budget(self) -> int | None:
        """The thinking budget, tokens; None where none is set, or an effort."""
        return int(self.thinking) if self.thinking is not None and self.thinking.isdecimal() else None

    @property
    def effort(self) -> str | None:
        """The effort, one of EFFORTS; None where none is set, or a budget."""
        return self.thinking if self.thinking is not None and not self.thinking.isdecimal() else None


class ApiProtocol(Protocol):
    """One protocol, through its own SDK."""

    def ask(self, wanted: Wanted) -> Reply:
        """Send one request once; whatever the SDK raises comes out as it is."""
        ...

    def served(self) -> list[str]:
        """The names of the models that the server lists."""
        ...

    def close(self) -> None:
        """End its connections."""
        ...


class SharedBySdks:
    """What OpenAI's SDK and Anthropic's do in the same way, see `ApiProtocol`; they share their generator."""

    _client: Any

    def served(self) -> list[str]:
        """See `ApiProtocol`."""
        return [model.id for model in self._client.models.list()]

    def close(self) -> None:
        """See `ApiProtocol`."""
        self._client.close()


def data_url(picture: bytes, kind: str) -> str:
    """A picture as a URL that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def open_protocol(model: ApiModel, options: Options) -> ApiProtocol:
    """The protocol that a model is spoken to in; its SDK is imported here."""
    if model.provider == "anthropic":
        from geospot.engine.api.anthropic import AnthropicProtocol

        return AnthropicProtocol(model, options)
    if model.provider == "gemini":
        from geospot.engine.api.gemini import GeminiProtocol

        return GeminiProtocol(model, options)
    if model.provider in ("openai", "http"):
        from geospot.engine.api.openai import OpenAIProtocol

        return OpenAIProtocol(model, options)
    raise EngineError(f"{model}: no such provider")
