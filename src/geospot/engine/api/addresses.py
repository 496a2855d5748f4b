"""What a model behind an API is called: `openai/NAME`, `anthropic/NAME`, `gemini/NAME`, or an address with a name."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from geospot.errors import EngineError, ModelError, did_you_mean
from geospot.net.retry import without_secrets

# Provider -> the environment variables in which its own SDK looks for the key.
KEYS = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
AT_ADDRESS = "http"  # the provider of what is at an address of one's own: it speaks OpenAI's protocol
NO_KEY = "none"  # what a server that wants none is sent
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_address(model: str) -> bool:
    """Whether a model is named by the address of its server."""
    return model.lower().startswith(("http://", "https://"))


def is_api_model(model: str | None, engine: str = "auto") -> bool:
    """Whether it is asked through an API: an address, or PROVIDER/NAME where no folder of that name is here.

    With an engine of ours named, PROVIDER/NAME is a name of the hub.
    """
    if not model or engine != "auto":
        return False
    if is_address(model):
        return True
    provider, slash, name = model.partition("/")
    return bool(slash and name and provider in KEYS and not Path(model).expanduser().exists())


@dataclass(frozen=True)
class ApiModel:
    """A model behind an API: whose protocol, its name there, the server's address (None: the provider's own)."""

    provider: str
    name: str
    base_url: str | None = None
    key_env: str | None = None

    @classmethod
    def of(cls, model: str, *, name: str | None = None, base_url: str | None = None, key_env: str | None = None):
        """From `model`, `api_model`, `base_url` and `api_key_env` of a config; `name` is "" where it is left open.

        EngineError for what would put a key into a file or a URL.
        """
        if key_env is not None and not _VARIABLE.fullmatch(key_env):
            raise EngineError("api_key_env: must be the name of an environment variable, never the key itself")
        for key, url in (("model", model), ("base_url", base_url)):
            if url and is_address(url) and ("?" in url or "#" in url or "@" in url):
                raise EngineError(
                    f"{key}={without_secrets(url)}: an address without user, password or query: put the key into an "
                    "environment variable, and its name into api_key_env="
                )
        if is_address(model):
            if base_url is not None:
                raise EngineError(f"model={model}, base_url={base_url}: two addresses; omit base_url")
            return cls(AT_ADDRESS, name or "", model.rstrip("/"), key_env)
        provider, _, own = model.partition("/")
        if name and name != own:
            raise EngineError(f"model={model}, api_model={name}: two names; omit api_model")
        return cls(provider, own, base_url, key_env)

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}" if self.provider == AT_ADDRESS else f"{self.provider}/{self.name}"

    @property
    def where(self) -> str:
        """The server, for people."""
        return self.base_url or {"openai": "OpenAI", "anthropic": "Anthropic", "gemini": "Google"}[self.provider]

    def key(self) -> str:
        """The key; EngineError that names the variable where there is none. Never write it anywhere."""
        names = (self.key_env,) if self.key_env else KEYS.get(self.provider, ())
        for name in names:
            if value := os.environ.get(name, "").strip():
                return value
        if not names:
            return NO_KEY
        raise EngineError(f"{self}: no key: set {' or '.join(names)}, or name another variable with api_key_env=")

    def named(self, served: list[str]) -> "ApiModel":
        """With the name filled in that was left open: the only one that the server lists; ModelError else."""
        if len(served) == 1:
            return ApiModel(self.provider, served[0], self.base_url, self.key_env)
        listed = ", ".join(served[:10]) or "none"
        raise ModelError(f"model={self.where}: name the model with api_model=; the server lists {listed}")


def unknown_model(model: ApiModel, served: list[str]) -> str:
    """What to say of a name that a server does not have."""
    close = did_you_mean(model.name, served)
    listed = f"; it has {', '.join(served[:10])}" if served else ""
    return f"{model.where} has no model {model.name!r}{close}{listed if not close else ''}"
