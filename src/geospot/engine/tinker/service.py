"""The service client of the engine `tinker`: the SDK's own, with start-up checks, time limits and clear errors.

Methods, arguments and results are those of the SDK; futures are `WatchedFuture`s.
"""

import logging
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import tinker
import zstandard
from tinker.lib.retry_handler import RetryConfig

from geospot.engine.adapter_names import use_model_names
from geospot.engine.protocols import Status
from geospot.engine.tinker.checks import Server, check_lora_rank, check_parts, check_parts_of
from geospot.engine.tinker.clients import Sdk, TinkerSamplingClient, TinkerTrainingClient
from geospot.engine.tinker.deadlines import Watch, WatchedFuture
from geospot.engine.workload import Workload
from geospot.errors import EngineError
from geospot.files import atomic_folder
from geospot.progress import Progress

# Loggers of the SDK that print a line for each failed request; what failed is counted and said once by the run.
_LOUD = ("tinker.lib.retry_handler",)
START_S = 40.0  # for what a start asks of the server before any work
_LEAST_BYTES = 4096  # of a JSON body that is worth compressing
_TTL_S = 6 * 3600  # of the copy of weights that the service makes for a download


@dataclass(frozen=True)
class TinkerOptions:
    """Which server, and how long it may take."""

    server: Server
    silent_s: float = 45.0  # a server that answers no health check for so long is dead
    stuck_s: float = 900.0  # sample requests of which none has finished for so long are given up
    display_name: str | None = None  # of the session, in the service's lists
    user_metadata: dict[str, str] = field(default_factory=dict)  # of the session and of its runs


class TinkerServiceClient:
    """Stands for `tinker.ServiceClient`. Close it, or use it as a context manager."""

    def __init__(self, options: TinkerOptions):
        """Connects and opens a session; EngineError where the server cannot be used."""
        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        server = options.server
        watch = Watch(server.base_url, options.silent_s)
        accepts = server.check_alive(watch)
        self._about = options.user_metadata or None
        service = tinker.ServiceClient(
            self._about, display_name=options.display_name, base_url=server.base_url, api_key=server.api_key
        )
        self._sdk = Sdk(service, watch, RetryConfig(progress_timeout=options.stuck_s))
        try:
            holder = self._sdk.call(lambda: service.holder).result(START_S)
        except TimeoutError:
            raise EngineError(f"{server.base_url} did not open a session within {START_S:.0f} s") from None
        if "zstd" in accepts:
            # Its connection pools are made when first used, with these arguments.
            holder._constructor_kwargs["http_client"] = compressing_client()
        self._server = server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("success" if kind is None else "errored" if issubclass(kind, Exception) else "interrupted")

    def close(self, status: Status = "success", detail: str | None = None) -> None:
        """Finish the session; a server that does not answer is left alone after a few seconds."""
        with suppress(Exception):
            self._sdk.service.close(status, detail).result(timeout=5)
        self._sdk.watch.close()

    def interrupt(self) -> None:
        """Nothing: what a service computes cannot be called back."""

    def expect(self, work: Workload | None = None) -> str:
        """Nothing: the memory is the service's."""
        return ""

    def activity(self) -> str:
        """What the service is at, which it does not say."""
        return "the service's answer"

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = False,
        user_metadata: dict[str, str] | None = None,
        parts: Collection[str] | None = None,
    ) -> WatchedFuture[TinkerTrainingClient]:
        """A `TinkerTrainingClient` on a fresh adapter.

        parts: what has adapters, in place of the three flags. Unlike the SDK it leaves the unembedding alone by
        default, as the local engine does. EngineError for a rank or parts that the service cannot train.
        """
        check_lora_rank(self._server, rank)
        check_parts(parts, rank)
        if parts is not None:
            train_mlp, train_attn, train_unembed = ("mlp" in parts, "attention" in parts, "head" in parts)
        options = {"train_mlp": train_mlp, "train_attn": train_attn, "train_unembed": train_unembed}
        create = self._sdk.service.create_lora_training_client
        about = {**(self._about or {}), **(user_metadata or {})} or None
        return self._training(lambda: create(base_model, rank, seed, user_metadata=about, **options))

    def create_training_client_from_state(
        self, path: str, parts: Collection[str] | None = None
    ) -> WatchedFuture[TinkerTrainingClient]:
        """A training client that starts from a checkpoint's weights with a new optimizer.

        EngineError where the checkpoint's adapters are on other parts than `parts`: the service goes on with its own.
        """
        _check_path(path)
        if parts is not None:
            check_parts_of(self._server.weights_info(path), parts, path)
        create = self._sdk.service.create_training_client_from_state
        return self._training(lambda: create(path, user_metadata=self._about))

    def create_training_client_from_state_with_optimizer(self, path: str) -> WatchedFuture[TinkerTrainingClient]:
        """A training client that goes on where the checkpoint was taken."""
        _check_path(path)
        create = self._sdk.service.create_training_client_from_state_with_optimizer
        return self._training(lambda: create(path, user_metadata=self._about))

    def _training(
        self, create: Callable[[], tinker.APIFuture[tinker.TrainingClient]]
    ) -> WatchedFuture[TinkerTrainingClient]:
        return self._sdk.follow(create(), lambda client: TinkerTrainingClient(self._sdk, client))

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> WatchedFuture[TinkerSamplingClient]:
        """Sample with a checkpoint's weights (`model_path`) or with an untouched model (`base_model`).

        A checkpoint for training that the server does not sample from is loaded and published as sampler weights.
        """
        if model_path is not None:
            _check_path(model_path)

        def create() -> tinker.SamplingClient:
            try:
                return self._sdk.service.create_sampling_client(
                    model_path=model_path, base_model=base_model, retry_config=self._sdk.retry
                ).result()
            except (tinker.BadRequestError, tinker.UnprocessableEntityError, tinker.RequestFailedError):
                if model_path is None or "/weights/" not in model_path:
                    raise
            training = self._sdk.service.create_training_client_from_state(model_path).result()
            return training.save_weights_and_get_sampling_client(retry_config=self._sdk.retry).result()

        return self._sdk.call(create, lambda client: TinkerSamplingClient(self._sdk, client))


def _check_path(path: str) -> None:
    if not path.startswith("tinker://"):
        raise EngineError(
            f"{path} is a checkpoint of the local engine: a server loads only its own (tinker://...). "
            "Set engine=local, or start from a run that was trained there"
        )


class CompressingTransport(httpx.AsyncBaseTransport):
    """Compresses large JSON bodies with zstd on their way to another transport.

    The SDK sends sample requests as JSON with pictures in base64, a third larger than they are. Training requests it
    compresses by itself, if the server wishes.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport):
        self._inner = inner
        self._compressor = zstandard.ZstdCompressor(level=1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; one whose body is large JSON goes out as zstd."""
        is_json = request.headers.get("content-type", "").startswith("application/json")
        if is_json and "content-encoding" not in request.headers:
            body = await request.aread()
            if len(body) >= _LEAST_BYTES:
                packed = self._compressor.compress(body)
                headers = httpx.Headers(request.headers)
                headers["content-encoding"], headers["content-length"] = "zstd", str(len(packed))
                request = httpx.Request(
                    request.method, request.url, headers=headers, content=packed, extensions=request.extensions
                )
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()


def compressing_client() -> httpx.AsyncClient:
    """An HTTP client for the SDK, its own transport with compression in front."""
    from tinker._base_client import DEFAULT_TIMEOUT, _default_pyqwest_transport

    transport = CompressingTransport(_default_pyqwest_transport())
    return httpx.AsyncClient(transport=transport, timeout=DEFAULT_TIMEOUT)


def download(server: Server, path: str, out: str | Path, silent_s: float = 45.0) -> Path:
    """Fetch the checkpoint at a tinker:// path into the folder `out`, whole or not at all; EngineError says why not."""
    with TinkerServiceClient(TinkerOptions(server, silent_s=silent_s)) as service:
        training = service.create_training_client_from_state(path).result()
        name = f"geospot-export-{uuid.uuid4().hex[:8]}"
        external = training.save_weights_external(name, ttl_seconds=_TTL_S).result().path
        urls = server.download_urls(external)
        with atomic_folder(out) as temp, Progress("downloading", total=len(urls)) as bar:
            for file, url in urls.items():
                target = (temp / file).resolve()
                if not target.is_relative_to(temp.resolve()):
                    raise EngineError(f"{server.base_url} names a file outside the checkpoint: {file!r}")
                target.parent.mkdir(parents=True, exist_ok=True)
                _fetch(url, target)
                bar.advance()
            use_model_names(temp, training.get_info().model_name or "")
    return Path(out)


def _fetch(url: str, target: Path) -> None:
    try:
        with httpx.stream("GET", url, timeout=60, follow_redirects=True) as response, open(target, "wb") as file:
            response.raise_for_status()
            for part in response.iter_bytes(1 << 20):
                file.write(part)
    except httpx.HTTPError as error:
        # Not the URL: its signature opens the file to anybody.
        raise EngineError(f"{target.name} cannot be downloaded ({type(error).__name__}); try again") from None
