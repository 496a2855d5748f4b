"""The clients of the engine `tinker`: the SDK's own, with futures that notice a dead server.

Methods, arguments and results are those of the SDK; futures are `WatchedFuture`s.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import tinker
from tinker import types
from tinker.lib.retry_handler import RetryConfig

from geospot.engine.tinker.deadlines import Watch, WatchedFuture

T = TypeVar("T")


@dataclass
class Sdk:
    """What the clients of one service share."""

    service: tinker.ServiceClient
    watch: Watch
    retry: RetryConfig

    def follow(
        self, future: tinker.APIFuture[Any], convert: Callable[[Any], T] = lambda result: result
    ) -> WatchedFuture[T]:
        return WatchedFuture(future.future(), self.watch, convert)

    def call(self, work: Callable[[], Any], convert: Callable[[Any], T] = lambda result: result) -> WatchedFuture[T]:
        """For calls of the SDK that block before they give a future."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        # A daemon, unlike an executor's threads: one that hangs in the SDK must not keep the program from ending.
        threading.Thread(target=run, name="geospot-sdk", daemon=True).start()
        return WatchedFuture(future, self.watch, convert)


class TinkerTrainingClient:
    """Stands for `tinker.TrainingClient`: one set of trained weights with its optimizer."""

    def __init__(self, sdk: Sdk, client: tinker.TrainingClient):
        self._sdk, self._client = sdk, client
        self.n_updates = 0  # that were asked for

    def get_info(self) -> types.GetInfoResponse:
        """The model's name and the adapter's rank."""
        return self._client.get_info()

    def get_tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._client.get_tokenizer()

    def forward_backward(
        self,
        data: Sequence[types.Datum],
        loss_fn: types.LossFnType,
        loss_fn_config: Mapping[str, float] | None = None,
    ) -> WatchedFuture[types.ForwardBackwardOutput]:
        """Add the gradient of the summed loss; the SDK splits the data into requests that the service takes."""
        return self._sdk.follow(self._client.forward_backward(list(data), loss_fn, loss_fn_config))

    def forward(
        self,
        data: Sequence[types.Datum],
        loss_fn: types.LossFnType,
        loss_fn_config: Mapping[str, float] | None = None,
    ) -> WatchedFuture[types.ForwardBackwardOutput]:
        """Like `forward_backward`, without the gradient."""
        return self._sdk.follow(self._client.forward(list(data), loss_fn, loss_fn_config))

    def optim_step(self, adam_params: types.AdamParams) -> WatchedFuture[types.OptimStepResponse]:
        """One step of Adam on the gradients gathered so far."""
        self.n_updates += 1
        return self._sdk.follow(self._client.optim_step(adam_params))

    def save_state(
        self, name: str, ttl_seconds: int | None = None, overwrite: bool = False
    ) -> WatchedFuture[types.SaveWeightsResponse]:
        """Save weights and optimizer with the service; answers a response with their tinker:// path."""
        return self._sdk.follow(self._client.save_state(name, ttl_seconds=ttl_seconds, overwrite=overwrite))

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None
    ) -> WatchedFuture[types.SaveWeightsForSamplerResponse]:
        """Save the weights alone."""
        return self._sdk.follow(self._client.save_weights_for_sampler(name, ttl_seconds=ttl_seconds))

    def save_weights_external(
        self, name: str, ttl_seconds: int | None = None
    ) -> WatchedFuture[types.SaveWeightsExternalResponse]:
        """Save the weights in PEFT's form, for download."""
        return self._sdk.follow(self._client.save_weights_external(name, ttl_seconds=ttl_seconds))

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> "WatchedFuture[TinkerSamplingClient]":
        """A sampling client on a copy of the weights as they are now."""
        future = self._client.save_weights_and_get_sampling_client(retry_config=self._sdk.retry)
        return self._sdk.follow(future, lambda client: TinkerSamplingClient(self._sdk, client))


class TinkerSamplingClient:
    """Stands for `tinker.SamplingClient`: answers of one snapshot of the weights."""

    def __init__(self, sdk: Sdk, client: tinker.SamplingClient):
        self._sdk, self._client = sdk, client

    def get_tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._client.get_tokenizer()

    def sample(
        self, prompt: types.ModelInput, num_samples: int, sampling_params: types.SamplingParams
    ) -> WatchedFuture[types.SampleResponse]:
        """`num_samples` answers to a prompt as a `SampleResponse`; one request, the picture is sent once."""
        return self._sdk.follow(self._client.sample(prompt, num_samples, sampling_params))

    def compute_logprobs(self, prompt: types.ModelInput) -> WatchedFuture[list[float | None]]:
        """For each token of the prompt its log-probability given those before it; None for the first and for images."""
        return self._sdk.follow(self._client.compute_logprobs(prompt))
