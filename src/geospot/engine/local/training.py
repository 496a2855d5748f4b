"""The training client of the local engine: one set of trained weights with its optimizer."""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tinker import types
from tinker.types import ModelData

from geospot.engine.futures import LocalFuture
from geospot.engine.local import state
from geospot.engine.local.inputs import Row
from geospot.engine.local.losses import check_datum, check_loss
from geospot.engine.local.network import Network, NetworkSpec
from geospot.engine.local.sampling import LocalSamplingClient, Snapshot
from geospot.engine.local.work import Scoring

if TYPE_CHECKING:
    from geospot.engine.local.service import LocalServiceClient


class LocalTrainingClient:
    """Stands for `tinker.TrainingClient`: one set of trained weights with its optimizer."""

    def __init__(self, service: "LocalServiceClient", spec: NetworkSpec, weights: Mapping[str, torch.Tensor]):
        self._service, self._spec = service, spec
        self._weights = {name: torch.nn.Parameter(w.detach()) for name, w in weights.items()}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=0.0, foreach=True)
        self._n_steps, self._key = 0, service.next_key()
        self._snapshot: Callable[[], Snapshot | None] = lambda: None  # of the present weights, while someone holds it

    def get_tokenizer(self):
        """The model's tokenizer."""
        return self._service.scheduler.submit(lambda: self._service.network(self._spec).processing.tokenizer).result()

    def get_info(self) -> types.GetInfoResponse:
        """The model's name and the adapter's rank (0: all weights are trained)."""
        spec = self._spec
        return types.GetInfoResponse(
            model_data=ModelData(model_name=spec.base_model),
            model_id=f"local:{id(self)}",
            is_lora=spec.lora_rank > 0,
            lora_rank=spec.lora_rank,
            model_name=spec.base_model,
        )

    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(w.numel() for w in self._weights.values())

    def forward_backward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> LocalFuture:
        """Add the gradient of the summed loss; answers a `ForwardBackwardOutput` with each datum's logprobs.

        Positions without weight or advantage are not computed: their logprob is reported as 0.
        """
        config = check_loss(loss_fn, loss_fn_config)
        data = list(data)
        return self._service.scheduler.submit(lambda: self._forward(data, loss_fn, config, backward=True))

    def forward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> LocalFuture:
        """Like `forward_backward`, without the gradient."""
        config = check_loss(loss_fn, loss_fn_config)
        data = list(data)
        return self._service.scheduler.submit(lambda: self._forward(data, loss_fn, config, backward=False))

    def _forward(self, data, loss_fn, config, *, backward: bool) -> types.ForwardBackwardOutput:
        network = self._service.network(self._spec)
        rows, inputs = zip(*(_check(datum, loss_fn, network) for datum in data), strict=True) if data else ((), ())
        work = Scoring(rows, inputs, loss_fn, config, backward)
        scored = self._service.run(self._spec, self._weights, self._key, work)
        for name, gradient in scored.gradients.items():  # all of a call's gradient or none
            owner = self._weights[name]
            owner.grad = gradient if owner.grad is None else owner.grad.add_(gradient)
        return types.ForwardBackwardOutput(
            loss_fn_output_type="ArrayRecord",
            loss_fn_outputs=[{"logprobs": _tensor(o)} for o in scored.logprobs],
            metrics={"loss:sum": scored.loss},
        )

    def optim_step(self, adam_params: types.AdamParams) -> LocalFuture:
        """One step of AdamW on the gradients gathered so far; answers the gradient's norm before clipping.

        A gradient that is not finite is thrown away (`skipped` = 1) rather than written into the weights.
        """
        return self._service.scheduler.submit(lambda: self._optim_step(adam_params))

    def _optim_step(self, adam: types.AdamParams) -> types.OptimStepResponse:
        for group in self._optimizer.param_groups:
            group.update(
                lr=adam.learning_rate, betas=(adam.beta1, adam.beta2), eps=adam.eps, weight_decay=adam.weight_decay
            )
        limit = adam.grad_clip_norm if adam.grad_clip_norm > 0 else math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), limit))
        finite = math.isfinite(grad_norm)
        if finite:
            self._optimizer.step()
            self._n_steps += 1
            self._key = self._service.next_key()
            self._snapshot = lambda: None
        self._optimizer.zero_grad(set_to_none=True)
        return types.OptimStepResponse(metrics={"grad_norm": grad_norm, "skipped": float(not finite)})

    def restore_optimizer(self, saved: Mapping[str, Mapping[str, torch.Tensor]], n_steps: int) -> None:
        """Put back Adam's moments; names that the checkpoint lacks have seen no gradient yet."""
        for name, weight in self._weights.items():
            if name in saved:
                self._optimizer.state[weight] = dict(saved[name])
        self._n_steps = n_steps

    def save_state(self, name: str, ttl_seconds: int | None = None, overwrite: bool = False) -> LocalFuture:
        """Write weights and optimizer to the checkpoint folder; answers a response whose `path` loads them again."""
        return self._save(name, with_optimizer=True, overwrite=overwrite)

    def save_weights_for_sampler(self, name: str, ttl_seconds: int | None = None) -> LocalFuture:
        """Write the weights alone."""
        return self._save(name, with_optimizer=False, overwrite=False)

    def _save(self, name: str, *, with_optimizer: bool, overwrite: bool) -> LocalFuture:
        if not name or Path(name).is_absolute() or ".." in Path(name).parts or Path(name) == Path("."):
            raise ValueError(f"name={name!r}: must be a folder name inside the checkpoint folder")
        folder = Path(self._service.options.checkpoint_dir) / name
        response = types.SaveWeightsResponse if with_optimizer else types.SaveWeightsForSamplerResponse

        def save():
            if folder.exists() and not overwrite:
                raise FileExistsError(f"{folder} exists: choose another name, or overwrite=True")
            moments = None
            if with_optimizer:
                by_tensor = self._optimizer.state
                moments = {n: by_tensor[w] for n, w in self._weights.items() if w in by_tensor}
            state.save_checkpoint(folder, self._spec, self._weights, moments, self._n_steps)
            return response(path=str(folder))

        return self._service.scheduler.submit(save)

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> LocalFuture:
        """A sampling client on a copy of the weights as they are now; clients of the same weights share it."""

        def create():
            snapshot = self._snapshot()
            if snapshot is None:
                snapshot = self._service.snapshot(self._spec, self._weights)
                self._snapshot = weakref.ref(snapshot)
            return LocalSamplingClient(self._service, snapshot)

        return self._service.scheduler.submit(create)


def _check(datum: types.Datum, loss_fn: str, network: Network) -> tuple[Row, dict[str, np.ndarray]]:
    """A datum as what is scored and the loss's other inputs; ValueError where it does not fit the loss or the model."""
    tokens = network.tokens(datum.model_input)
    inputs = check_datum(datum, loss_fn, len(tokens))
    targets = inputs.pop("target_tokens").astype(np.int64)
    scored = inputs["weights" if loss_fn == "cross_entropy" else "advantages"] != 0
    _check_targets(targets[scored], network)
    return Row(tokens, targets, scored), {key: array.astype(np.float32) for key, array in inputs.items()}


def _check_targets(targets: np.ndarray, network: Network) -> None:
    banned = np.isin(targets, network.processing.banned_token_ids)
    if banned.any():
        raise ValueError(f"a target is token {targets[banned][0]}, which stands for pictures: no answer may hold it")
    if len(targets) and (targets.min() < 0 or targets.max() >= network.vocabulary):
        raise ValueError(f"a target token is outside the vocabulary of {network.vocabulary}")


def _tensor(array: np.ndarray) -> types.TensorData:
    return types.TensorData(data=array, dtype="float32", shape=list(array.shape))
