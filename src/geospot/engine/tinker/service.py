"""The service client of the engine `tinker`: the SDK's own, with start-up checks, time limits and clear errors.

Methods, arguments and results are those of the SDK; futures are `WatchedFuture`s.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import tinker
from tinker import types
from tinker.lib.retry_handler import RetryConfig

from geospot.engine.tinker.checks import Server, check_lora_rank
from geospot.engine.tinker.compress import compressing_client
from geospot.engine.tinker.watch import Watch, WatchedFuture
from geospot.errors import EngineError

# Loggers of the SDK that print a line for each failed request; what failed is counted and said once by the run.
_LOUD = ("tinker.lib.retry_handler",)
START_S = 40.0  # for what a start asks of the server before any work


@dataclass(frozen=True)
class TinkerOptions:
    """Which server, and how long it may take."""

    server: Server
    silent_s: float = 45.0  # a server that answers no health check for so long is dead
    stuck_s: float = 900.0  # sample requests of which none has finished for so long are given up


@dataclass
class _Sdk:
    """What the clients of one service share."""

    service: tinker.ServiceClient
    watch: Watch
    retry: RetryConfig

    def follow(self, future: tinker.APIFuture, convert: Callable[[Any], Any] = lambda result: result) -> WatchedFuture:
        return WatchedFuture(future.future(), self.watch, convert)

    def call(self, work: Callable[[], Any], convert: Callable[[Any], Any] = lambda result: result) -> WatchedFuture:
        """For calls of the SDK that block before they give a future."""
        future: Future = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        # A daemon, unlike an executor's threads: one that hangs in the SDK must not keep the program from ending.
        threading.Thread(target=run, name="geospot-sdk", daemon=True).start()
        return WatchedFuture(future, self.watch, convert)


class TinkerServiceClient:
    """Stands for `tinker.ServiceClient`. Close it, or use it as a context manager."""

    def __init__(self, options: TinkerOptions):
        """Connects and opens a session; EngineError where the server cannot be used."""
        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        server = options.server
        watch = Watch(server.base_url, options.silent_s)
        accepts = server.check_alive(watch)
        service = tinker.ServiceClient(base_url=server.base_url, api_key=server.api_key)
        self._sdk = _Sdk(service, watch, RetryConfig(progress_timeout=options.stuck_s))
        try:
            holder = self._sdk.call(lambda: service.holder).result(START_S)
        except TimeoutError:
            raise EngineError(f"{server.base_url} did not open a session within {START_S:.0f} s") from None
        if "zstd" in accepts:
            # Its connection pools are made when first used, with these arguments.
            holder._constructor_kwargs["http_client"] = compressing_client()
        self._server = server

    def __enter__(self):
        return self

    def __exit__(self, kind: type | None, *exc: object) -> None:
        self.close("success" if kind is None else "errored" if issubclass(kind, Exception) else "interrupted")

    def close(self, status: str = "success", detail: str | None = None) -> None:
        """Finish the session; a server that does not answer is left alone after a few seconds."""
        with suppress(Exception):
            self._sdk.service.close(status, detail).result(timeout=5)
        self._sdk.watch.close()

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> WatchedFuture:
        """A `TinkerTrainingClient` on a fresh adapter.

        Unlike the SDK it leaves the unembedding alone by default, as the local engine does.
        """
        check_lora_rank(self._server, rank)
        options = {"train_mlp": train_mlp, "train_attn": train_attn, "train_unembed": train_unembed}
        create = self._sdk.service.create_lora_training_client
        return self._training(lambda: create(base_model, rank, seed, user_metadata=user_metadata, **options))

    def create_training_client_from_state(self, path: str) -> WatchedFuture:
        """A training client that starts from a checkpoint's weights with a new optimizer."""
        _check_path(path)
        return self._training(lambda: self._sdk.service.create_training_client_from_state(path))

    def create_training_client_from_state_with_optimizer(self, path: str) -> WatchedFuture:
        """A training client that goes on where the checkpoint was taken."""
        _check_path(path)
        return self._training(lambda: self._sdk.service.create_training_client_from_state_with_optimizer(path))

    def _training(self, create) -> WatchedFuture:
        return self._sdk.follow(create(), lambda client: TinkerTrainingClient(self._sdk, client))

    def create_sampling_client(self, model_path: str | None = None, base_model: str | None = None) -> WatchedFuture:
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


class TinkerTrainingClient:
    """Stands for `tinker.TrainingClient`: one set of trained weights with its optimizer."""

    def __init__(self, sdk: _Sdk, client: tinker.TrainingClient):
        self._sdk, self._client = sdk, client

    def get_info(self) -> types.GetInfoResponse:
        """The model's name and the adapter's rank."""
        return self._client.get_info()

    def get_tokenizer(self):
        """The model's tokenizer."""
        return self._client.get_tokenizer()

    def forward_backward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> WatchedFuture:
        """Add the gradient of the summed loss; the SDK splits the data into requests that the service takes."""
        return self._sdk.follow(self._client.forward_backward(list(data), loss_fn, loss_fn_config))

    def forward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> WatchedFuture:
        """Like `forward_backward`, without the gradient."""
        return self._sdk.follow(self._client.forward(list(data), loss_fn, loss_fn_config))

    def optim_step(self, adam_params: types.AdamParams) -> WatchedFuture:
        """One step of Adam on the gradients gathered so far."""
        return self._sdk.follow(self._client.optim_step(adam_params))

    def save_state(self, name: str, ttl_seconds: int | None = None, overwrite: bool = False) -> WatchedFuture:
        """Save weights and optimizer with the service; answers a response with their tinker:// path."""
        return self._sdk.follow(self._client.save_state(name, ttl_seconds=ttl_seconds, overwrite=overwrite))

    def save_weights_for_sampler(self, name: str, ttl_seconds: int | None = None) -> WatchedFuture:
        """Save the weights alone."""
        return self._sdk.follow(self._client.save_weights_for_sampler(name, ttl_seconds=ttl_seconds))

    def save_weights_external(self, name: str, ttl_seconds: int | None = None) -> WatchedFuture:
        """Save the weights in PEFT's form, for download."""
        return self._sdk.follow(self._client.save_weights_external(name, ttl_seconds=ttl_seconds))

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> WatchedFuture:
        """A sampling client on a copy of the weights as they are now."""
        future = self._client.save_weights_and_get_sampling_client(retry_config=self._sdk.retry)
        return self._sdk.follow(future, lambda client: TinkerSamplingClient(self._sdk, client))


class TinkerSamplingClient:
    """Stands for `tinker.SamplingClient`: answers of one snapshot of the weights."""

    def __init__(self, sdk: _Sdk, client: tinker.SamplingClient):
        self._sdk, self._client = sdk, client

    def get_tokenizer(self):
        """The model's tokenizer."""
        return self._client.get_tokenizer()

    def sample(
        self, prompt: types.ModelInput, num_samples: int, sampling_params: types.SamplingParams
    ) -> WatchedFuture:
        """`num_samples` answers to a prompt as a `SampleResponse`; one request, the picture is sent once."""
        return self._sdk.follow(self._client.sample(prompt, num_samples, sampling_params))

    def compute_logprobs(self, prompt: types.ModelInput) -> WatchedFuture:
        """For each token of the prompt its log-probability given those before it; None for the first and for images."""
        return self._sdk.follow(self._client.compute_logprobs(prompt))


def _check_path(path: str) -> None:
    if not path.startswith("tinker://"):
        raise EngineError(
            f"{path} is a checkpoint of the local engine: a server loads only its own (tinker://...). "
            "Set engine=local, or start from a run that was trained there"
        )
