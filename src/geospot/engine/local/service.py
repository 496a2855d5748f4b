"""The service client of the local engine. It stands for the Tinker SDK's (0.38), method for method.

Only what geospot's loops use is here; signatures and results are the SDK's.
"""

import itertools
import weakref
from collections.abc import Collection, Mapping, MutableSet
from types import TracebackType
from typing import Self

import torch

from geospot.engine.futures import LocalFuture
from geospot.engine.local import memory, state
from geospot.engine.local.batch import SampleBatch
from geospot.engine.local.network import Base, Network
from geospot.engine.local.options import ALL, LocalOptions, NetworkSpec
from geospot.engine.local.sampling import LocalSamplingClient, Snapshot
from geospot.engine.local.scheduler import Scheduler
from geospot.engine.local.team import Team
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.local.turns import Turns
from geospot.engine.local.work import R, Work
from geospot.engine.protocols import Status
from geospot.engine.workload import Workload
from geospot.errors import EngineError, RunError

# Of weights, for whoever keeps something by them: one count for all engines of a process.
_KEYS = itertools.count()


class LocalServiceClient:
    """Stands for `tinker.ServiceClient`. Close it, or use it as a context manager."""

    def __init__(self, options: LocalOptions | None = None):
        self.options = options or LocalOptions()
        self.team = Team.of(self.options.device)
        self.turns = Turns(self.options.threads) if self.options.takes_turns and self.team is None else None
        self.scheduler = self.turns or Scheduler(self.options.threads)
        self.sampled: MutableSet[SampleBatch] = weakref.WeakSet()  # what is being sampled, in turn
        self._bases: dict[tuple[str, str], Base] = {}  # by model and precision
        self._networks: dict[NetworkSpec, Network] = {}
        self._base_snapshots: dict[str, Snapshot] = {}
        # What was said of its memory, where a server makes clients that do not say what they will ask for.
        self.announces: set[NetworkSpec] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("success" if kind is None else "errored")

    def close(self, status: Status = "success", detail: str | None = None) -> None:
        """Finish what was asked (after an error: only what is running) and stop the engine's thread."""
        self.scheduler.close(finish=status == "success")

    def interrupt(self) -> None:
        """Give up what runs, at its next layer, token or block of weights; only what saves is done from now on."""
        self.scheduler.interrupt()

    def expect(self, work: Workload | None = None) -> str:
        """Settle the limits of the model in use for this work (None: unknown); returns what it will need of memory."""

        return self.scheduler.submit(lambda: self._settled(list(self._networks)[-1], work)).result()

    def _settled(self, spec: NetworkSpec, work: Workload | None) -> str:
        network, own = self.network(spec), (spec.base_model, self._dtype(spec))
        others = sum(base.n_bytes for key, base in self._bases.items() if key != own)
        return memory.settle(network, work, dtype=own[1], beside=others)

    def activity(self) -> str:
        """What the engine's thread is at, in words; empty where that is nothing."""
        return self.scheduler.activity.text

    def follow(self) -> None:
        """In a process that another leads (see `Team`): do shares of its work until it ends."""
        if (team := self.team) is None:
            raise EngineError("there is no other process to follow: start several with torchrun")
        self.scheduler.submit(lambda: team.follow(self.network)).result()
        team.close()
        self.scheduler.close()

    def run(self, spec: NetworkSpec, weights: Mapping[str, torch.Tensor], key: int, work: Work[R]) -> R:
        """Do a `Scoring` or `Sampling` with these weights, which `key` stands for; in the engine's thread."""
        network = self.network(spec)
        if self.team is not None:
            return self.team.execute(spec, network, dict(weights), key, work)
        network.activate(weights)
        if (turns := self.turns) is not None:
            network.between = lambda: network.activate(weights) if turns.breathe() else None
        return work.run(network)

    def next_key(self) -> int:
        """A number that stands for weights that no other has stood for."""
        return next(_KEYS)

    def network(self, spec: NetworkSpec) -> Network:
        """The one model with these LoRA settings; to be called in the engine's thread.

        Base weights are loaded once for each precision, and one network at a time has merged copies of them.
        """
        for other in self._networks.values():
            if other.spec != spec:
                other.release()
        if spec not in self._networks:
            key = spec.base_model, self._dtype(spec)
            if key not in self._bases:
                self._bases[key] = Base(spec.base_model, self.options, dtype=key[1])
            self._networks[spec] = Network(spec, self.options, self._bases[key])
        return self._networks[spec]

    def _dtype(self, spec: NetworkSpec) -> str:
        # Weights that are themselves trained stay in float32: most updates are too small for bfloat16.
        if spec.lora_rank == 0 and not spec.frozen:
            return "float32"
        if self.options.dtype != "auto":
            return self.options.dtype
        return memory.dtype_for(spec.base_model, self.options.device)

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
    ) -> LocalFuture[LocalTrainingClient]:
        """A `LocalTrainingClient` on a fresh adapter; rank 0 trains all weights of the model.

        parts: of `PARTS`, what has adapters in place of the three flags, or with rank 0 whose weights are trained.
        Unlike the service it leaves the unembedding alone by default: with tied embeddings it is the input's, too.
        """
        if rank < 0:
            raise ValueError(f"rank={rank}: must be 0 (train all weights) or above")
        flags = {"attention": train_attn, "mlp": train_mlp, "head": train_unembed}
        if not any(flags.values()) or (parts is not None and not parts):
            raise ValueError("nothing to train: set train_attn, train_mlp or train_unembed")
        if parts is None:
            parts = [part for part, on in flags.items() if on] if rank else ALL
        spec = NetworkSpec.of(base_model, rank, parts)

        def create() -> LocalTrainingClient:
            return self._trained(spec, self.network(spec).initial_weights(seed))

        return self.scheduler.submit(create)

    def _trained(self, spec: NetworkSpec, weights: Mapping[str, torch.Tensor]) -> LocalTrainingClient:
        if self.announces is not None and spec not in self.announces:
            self.announces.add(spec)
            print(self._settled(spec, None), flush=True)
        return LocalTrainingClient(self, spec, weights)

    def create_training_client_from_state(
        self, path: str, parts: Collection[str] | None = None
    ) -> LocalFuture[LocalTrainingClient]:
        """A training client that starts from a checkpoint's weights with a new optimizer.

        parts: what learns from here on (None: what did); what the checkpoint has beside them stays as it is there.
        """
        return self.scheduler.submit(lambda: self._from_state(path, with_optimizer=False, parts=parts))

    def create_training_client_from_state_with_optimizer(self, path: str) -> LocalFuture[LocalTrainingClient]:
        """A training client that goes on where the checkpoint was taken."""
        return self.scheduler.submit(lambda: self._from_state(path, with_optimizer=True))

    def _from_state(
        self, path: str, *, with_optimizer: bool, parts: Collection[str] | None = None
    ) -> LocalTrainingClient:
        saved, n_steps = state.read_spec(path)
        weights = self._read_weights(saved, path)
        spec = saved
        if parts is not None:
            spec = NetworkSpec.of(saved.base_model, saved.lora_rank, parts, held={*saved.parts} - {*parts})
        if spec.parts != saved.parts:  # what is new begins as it would in a client of its own
            weights = self.network(spec).initial_weights(0) | weights
            weights = {name: weights[name] for name in self.network(spec).trainable}
        client = self._trained(spec, weights)
        if with_optimizer:
            client.restore_optimizer(state.read_optimizer(path, self.options.device), n_steps)
        return client

    def _read_weights(self, spec: NetworkSpec, path: str) -> dict[str, torch.Tensor]:
        weights, wanted = state.read_tensors(path, "weights", self.options.device), self.network(spec).trainable
        if weights.keys() != wanted.keys() or any(weights[k].shape != p.shape for k, p in wanted.items()):
            raise RunError(f"{path} holds other tensors than {spec.base_model} has: is the model the same?")
        return {name: weights[name] for name in wanted}  # in the model's order: sums over tensors round the same

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> LocalFuture[LocalSamplingClient]:
        """Sample with a checkpoint's weights (`model_path`) or with an untouched model (`base_model`)."""
        if (model_path is None) == (base_model is None):
            raise ValueError("give one of model_path (a checkpoint) and base_model (a model's name)")

        def create() -> LocalSamplingClient:
            if model_path is None:
                return LocalSamplingClient(self, self._base_snapshot(str(base_model)))
            spec, _ = state.read_spec(model_path)
            return LocalSamplingClient(self, Snapshot(spec, self._read_weights(spec, model_path), next(_KEYS)))

        return self.scheduler.submit(create)

    def _base_snapshot(self, base_model: str) -> Snapshot:
        """The untouched model, in a copy that is loaded already where there is one that has its precision."""
        if base_model not in self._base_snapshots:
            alone = NetworkSpec(base_model, 0, ())
            like = [s for s in self._networks if s.base_model == base_model and self._dtype(s) == self._dtype(alone)]
            spec = like[0] if like else alone
            self._base_snapshots[base_model] = Snapshot(spec, self.network(spec).base_weights(), next(_KEYS))
        return self._base_snapshots[base_model]
