"""The seam between loops and engines: what the loops use of both, method for method as the Tinker SDK (0.38) has it.

Arguments and results are the SDK's own (`tinker.types`), but for `parts`: which parts of the model learn, of
`engine.local.options.PARTS` (None: by the SDK's three flags, or what learned before the checkpoint). An operation
answers a future at once and is carried out in the order of the calls; ValueError says what is wrong with a request,
EngineError what is wrong with the engine.
"""

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future as ConcurrentFuture

    from tinker import types

    from geospot.engine.workload import Workload

T_co = TypeVar("T_co", covariant=True)
Status = Literal["success", "errored", "interrupted"]  # how a session ended


class Future(Protocol[T_co]):
    """The `APIFuture` of the SDK: a result to wait for."""

    def future(self) -> "ConcurrentFuture[Any]": ...
    def result(self, timeout: float | None = None) -> T_co: ...


class SamplingClient(Protocol):
    """Answers of one snapshot of the weights."""

    def sample(
        self, prompt: "types.ModelInput", num_samples: int, sampling_params: "types.SamplingParams"
    ) -> "Future[types.SampleResponse]": ...
    def compute_logprobs(self, prompt: "types.ModelInput") -> Future[list[float | None]]: ...


class TrainingClient(Protocol):
    """One set of trained weights with its optimizer."""

    @property
    def n_updates(self) -> int: ...  # not the SDK's: how often the weights have changed
    def get_info(self) -> "types.GetInfoResponse": ...
    def forward_backward(
        self,
        data: Sequence["types.Datum"],
        loss_fn: "types.LossFnType",
        loss_fn_config: Mapping[str, float] | None = None,
    ) -> "Future[types.ForwardBackwardOutput]": ...
    def optim_step(self, adam_params: "types.AdamParams") -> "Future[types.OptimStepResponse]": ...
    def save_state(
        self, name: str, ttl_seconds: int | None = None, overwrite: bool = False
    ) -> "Future[types.SaveWeightsResponse]": ...
    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None
    ) -> "Future[types.SaveWeightsForSamplerResponse]": ...
    def save_weights_and_get_sampling_client(self, name: str | None = None) -> Future[SamplingClient]: ...


class ServiceClient(Protocol):
    """Makes the clients; close it, or use it as a context manager.

    Beside the SDK's methods: `interrupt` gives up what runs and is queued, as far as the engine can: those futures
    raise Interrupted, and only what saves is done from then on. `activity` says what the engine is at. `expect`
    settles what is sized by the work of the command, and returns what it will need of memory here, in words; empty
    where that is elsewhere.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self, status: Status = "success", detail: str | None = None) -> None: ...
    def interrupt(self) -> None: ...
    def activity(self) -> str: ...
    def expect(self, work: "Workload | None" = None) -> str: ...
    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = False,
        *,
        parts: Collection[str] | None = None,
    ) -> Future[TrainingClient]: ...
    def create_training_client_from_state(
        self, path: str, parts: Collection[str] | None = None
    ) -> Future[TrainingClient]: ...
    def create_training_client_from_state_with_optimizer(self, path: str) -> Future[TrainingClient]: ...
    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> Future[SamplingClient]: ...
