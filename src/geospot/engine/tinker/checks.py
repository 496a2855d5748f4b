"""What can be refused before any work: the key, the server, the model, the adapter's rank."""

import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import tinker
from tinker import types
from tinker.lib.base_url import resolve_base_url

from geospot.engine.tinker.deadlines import Watch
from geospot.engine.tinker.refusals import translate
from geospot.errors import EngineError
from geospot.net.loopback import LOOPBACK

T = TypeVar("T")

START_S = 15.0  # how long a start waits for a first sign of life
# Families that take pictures and whose prompts can be written here, among the names that the service lists without
# saying what they take; and what the others need.
_VISION = re.compile(r"-VL\b|Qwen3\.[5-9]|Qwen[4-9]|Kimi-K2\.[5-9]|geospot/")
_NEEDS = (
    (re.compile(r"Kimi-K2\.[5-9]"), "torchvision", "torchvision, which is not installed"),
    (re.compile(r"Kimi-K[3-9]"), None, "a tokenizer that is on no index"),
    (re.compile(r"Inkling"), None, "its maker's tokenizer and torchvision"),
    (re.compile(r"Nemotron-3"), None, "a processor that transformers does not have without torchvision"),
)
_ANY_KEY = "tml-loopback"  # the SDK wants a key, a server on this machine without one wants none


@dataclass(frozen=True)
class Server:
    """Where the API is, and the key for it; the key is shown nowhere."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)  # None: the SDK finds one (a stored key, a command)
    hosted: bool = False

    @classmethod
    def find(cls, base_url: str | None) -> "Server":
        """The server at `base_url`, $TINKER_BASE_URL or the hosted one; EngineError without a well-formed key."""
        url = resolve_base_url(base_url)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(f"base_url={url!r}: must be http://HOST:PORT or https://HOST")
        hosted = is_hosted(url)
        key = os.environ.get("TINKER_API_KEY") or None
        if key is not None and not key.startswith(("tml-", "eyJ")):
            raise EngineError(
                "TINKER_API_KEY is not well-formed: a key starts with tml-; copy it again from the console"
            )
        if key is None and not _stored_key():
            if parts.hostname not in LOOPBACK:
                raise EngineError(f"no key for {url}: set TINKER_API_KEY (or `tinker auth login`), or set engine=local")
            key = _ANY_KEY
        if key not in (None, _ANY_KEY) and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            print(f"warning: the key goes to {url} unencrypted; an SSH tunnel or https keeps it secret")
        return cls(url, key, hosted)

    def check_alive(self, watch: Watch) -> str:
        """What the server says it reads compressed (its Accept-Encoding); EngineError where it does not answer."""
        deadline, reason = time.monotonic() + min(START_S, watch.silent_s), ""
        while True:
            try:
                return watch.ping(timeout_s=5.0).headers.get("accept-encoding", "")
            except (httpx.HTTPError, OSError) as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                mend = "check the network" if self.hosted else "start it with `geospot serve`, or check base_url"
                raise EngineError(f"no server answers at {self.base_url} ({reason}): {mend}")
            time.sleep(0.5)

    def _rest(self, ask: Callable[[tinker.RestClient], tinker.APIFuture[T]]) -> T:
        client = tinker.RestClient(base_url=self.base_url, api_key=self.api_key)
        try:
            return ask(client).result(timeout=START_S)
        except TimeoutError:
            raise EngineError(f"{self.base_url} took more than {START_S:.0f} s to say what it serves") from None
        except Exception as error:
            raise translate(error, self.base_url) from error

    def models(self) -> list[types.SupportedModel]:
        """What the server serves."""
        self.check_alive(Watch(self.base_url, START_S))
        return self._rest(lambda client: client.get_server_capabilities()).supported_models

    def weights_info(self, path: str) -> types.WeightsInfoResponse:
        """What the checkpoint at a tinker:// path belongs to."""
        self.check_alive(Watch(self.base_url, START_S))
        return self._rest(lambda client: client.get_weights_info_by_tinker_path(path))

    def download_urls(self, path: str) -> dict[str, str]:
        """File -> URL of weights that `save_weights_external` has saved."""
        return self._rest(lambda client: client.get_external_weights_urls(path)).urls


def is_hosted(url: str) -> bool:
    """Whether an address is the hosted service's."""
    return (urlsplit(url).hostname or "").endswith("thinkingmachines.dev")


def _stored_key() -> bool:
    return bool(os.environ.get("TINKER_CREDENTIAL_CMD")) or (Path.home() / ".tinker" / "credentials.json").is_file()


def takes_pictures(model_name: str) -> bool:
    """Whether a model of this name is known to take pictures."""
    return bool(_VISION.search(model_name)) and needs(model_name) is None


def needs(model_name: str) -> str | None:
    """What a vision model lacks here, in words; None where it works."""
    for family, module, words in _NEEDS:
        if family.search(model_name) and (module is None or find_spec(module) is None):
            return words
    return None


def check_model(server: Server, model_name: str) -> None:
    """EngineError, with the models that would do, where the server does not train this one."""
    listed = {model.model_name: model for model in server.models() if model.model_name}
    if model_name not in listed:
        fitting = [name for name in listed if takes_pictures(name)]
        what = "its vision models" if fitting else "what it lists (none is known to take pictures)"
        raise EngineError(
            f"model_name={model_name!r}: {server.base_url} does not serve it. {what}: "
            + (", ".join(sorted(fitting or listed)) or "none")
            + "".join(f"; {name} needs {why}" for name in sorted(listed) if (why := needs(name)) and fitting)
        )
    if (why := needs(model_name)) is not None:
        raise EngineError(f"model_name={model_name!r}: it needs {why}")
    if listed[model_name].trainable is False:
        raise EngineError(f"model_name={model_name!r}: {server.base_url} samples from it but does not train it")


def check_lora_rank(server: Server, rank: int) -> None:
    """EngineError for a rank that the server has not got; the server itself has the last word on its upper limit."""
    if rank < 0 or (rank == 0 and server.hosted):
        raise EngineError(
            f"lora_rank={rank}: the service trains adapters only (0 would be all weights); set lora_rank=32 or less"
        )


_FLAGS = {"attention": "train_attn", "mlp": "train_mlp", "head": "train_unembed"}  # parts, in the protocol's words


def check_parts(parts: Collection[str] | None, rank: int) -> None:
    """EngineError for parts of a model that the protocol has no words for; None is what it does by itself."""
    if parts is None:
        return
    if rank == 0:
        raise EngineError(
            "lora_targets, train_vision: with lora_rank=0 engine=tinker trains all weights or none; omit them, or set "
            "engine=local"
        )
    if beyond := [part for part in parts if part not in _FLAGS]:
        raise EngineError(
            f"lora_targets={','.join(beyond)}: engine=tinker puts adapters on {', '.join(_FLAGS)} only (its "
            "LoraConfig); leave it out, or set engine=local"
        )


def check_parts_of(info: types.WeightsInfoResponse, parts: Collection[str], path: str) -> None:
    """EngineError where a checkpoint says that its adapters are on other parts: a server cannot change them."""
    said = {part: getattr(info, flag, None) for part, flag in _FLAGS.items()}
    check_parts(parts, info.lora_rank or 0)
    if any(on is not None and on != (part in parts) for part, on in said.items()):
        theirs = ",".join(part for part, on in said.items() if on)
        raise EngineError(
            f"lora_targets={','.join(parts)}: the checkpoint {path} has adapters on {theirs}, and engine=tinker "
            f"cannot change that; set lora_targets={theirs}"
        )
