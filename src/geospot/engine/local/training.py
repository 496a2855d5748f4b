"""The training client of the local engine: one set of trained weights with its optimizer."""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tinker import types
from tinker.types import ModelData

from geospot.engine.futures import LocalFuture
from geospot.engine.local import state
from geospot.engine.local.inputs import Row
from geospot.engine.local.network import Network
from geospot.engine.local.options import NetworkSpec
from geospot.engine.local.sampling import LocalSamplingClient, Snapshot
from geospot.engine.local.work import Host, Scoring
from geospot.engine.losses import check_datum, check_loss, counted


class LocalTrainingClient:
    """Stands for `tinker.TrainingClient`: one set of trained weights with its optimizer."""

    def __init__(self, service: Host, spec: NetworkSpec, weights: Mapping[str, torch.Tensor]):
        self._service, self._spec = service, spec
        self._weights = {name: torch.nn.Parameter(w.detach()) for name, w in weights.items()}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=0.0, foreach=True)
        self._n_steps, self._key = 0, service.next_key()
        self._snapshot: Callable[[], Snapshot | None] = lambda: None  # of the present weights, while someone holds it

    def get_tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._service.scheduler.submit(lambda: self._service.network(self._spec).processing.tokenizer).result()

    @property
    def spec(self) -> NetworkSpec:
        """The model, and what of it is trained."""
        return self._spec

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

    @property
    def n_updates(self) -> int:
        """How often the weights have changed."""
        return self._n_steps

    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(w.numel() for w in self._weights.values())

    def forward_backward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> LocalFuture[types.ForwardBackwardOutput]:
        """Add the gradient of the summed loss; answers a `ForwardBackwardOutput` with each datum's logprobs.

        0 is reported where a target is a picture's token or none of the vocabulary, which only positions without weight
        may have, and with `LocalOptions.skip_unweighted` for all of these.
        """
        config = check_loss(loss_fn, loss_fn_config)
        data = list(data)
        return self._service.scheduler.submit(lambda: self._forward(data, loss_fn, config, backward=True))

    def forward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> LocalFuture[types.ForwardBackwardOutput]:
        """Like `forward_backward`, without the gradient."""
        config = check_loss(loss_fn, loss_fn_config)
        data = list(data)
        return self._service.scheduler.submit(lambda: self._forward(data, loss_fn, config, backward=False))

    def _forward(
        self, data: Sequence[types.Datum], loss_fn: str, config: Mapping[str, float], *, backward: bool
    ) -> types.ForwardBackwardOutput:
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

    def optim_step(self, adam_params: types.AdamParams) -> LocalFuture[types.OptimStepResponse]:
        """One step of AdamW on the gradients gathered so far; answers the gradient's norm before clipping.

        A gradient that is not finite is thrown away (`skipped` = 1) rather than written into the weights.
        """
        check_adam(adam_params)
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

    def save_state(
        self, name: str, ttl_seconds: int | None = None, overwrite: bool = False
    ) -> LocalFuture[types.SaveWeightsResponse]:
        """Write weights and optimizer to the checkpoint folder; answers a response whose `path` loads them again."""
        folder = self._folder(name)

        def save() -> types.SaveWeightsResponse:
            by_tensor = self._optimizer.state
            self._write(folder, {n: by_tensor[w] for n, w in self._weights.items() if w in by_tensor}, overwrite)
            return types.SaveWeightsResponse(path=str(folder))

        return self._service.scheduler.submit(save, kept=True)

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None
    ) -> LocalFuture[types.SaveWeightsForSamplerResponse]:
        """Write the weights alone."""
        folder = self._folder(name)

        def save() -> types.SaveWeightsForSamplerResponse:
            self._write(folder, None, overwrite=False)
            return types.SaveWeightsForSamplerResponse(path=str(folder))

        return self._service.scheduler.submit(save, kept=True)

    def _folder(self, name: str) -> Path:
        if not name or Path(name).is_absolute() or ".." in Path(name).parts or Path(name) == Path("."):
            raise ValueError(f"name={name!r}: must be a folder name inside the checkpoint folder")
        return Path(self._service.options.checkpoint_dir) / name

    def _write(self, folder: Path, moments: Mapping[str, state.Tensors] | None, overwrite: bool) -> None:
        if folder.exists() and not overwrite:
            raise FileExistsError(f"{folder} exists: choose another name, or overwrite=True")
        state.save_checkpoint(folder, self._spec, self._weights, moments, self._n_steps)

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> LocalFuture[LocalSamplingClient]:
        """A sampling client on a copy of the weights as they are now; clients of the same weights share it."""

        def create() -> LocalSamplingClient:
            snapshot = self._snapshot()
            if snapshot is None:
                copies = {name: weight.detach().clone() for name, weight in self._weights.items()}
                snapshot = Snapshot(self._spec, copies, self._service.next_key())
                self._snapshot = weakref.ref(snapshot)
            return LocalSamplingClient(self._service, snapshot)

        return self._service.scheduler.submit(create)


def check_adam(adam: types.AdamParams) -> None:
    """ValueError that names the value and the range, for values that AdamW cannot step with."""
    for name in ("beta1", "beta2"):
        if not 0 <= (value := getattr(adam, name)) < 1:
            raise ValueError(f"{name}={value}: must be from 0 to below 1")
    for name in ("learning_rate", "eps", "weight_decay"):
        if not 0 <= (value := getattr(adam, name)) < math.inf:
            raise ValueError(f"{name}={value}: must be 0 or above, and finite")
    if not math.isfinite(adam.grad_clip_norm):
        raise ValueError(f"grad_clip_norm={adam.grad_clip_norm}: must be finite; 0 clips nothing")


def _check(datum: types.Datum, loss_fn: str, network: Network) -> tuple[Row, dict[str, np.ndarray]]:
    """A datum as what is scored and the loss's other inputs; ValueError where it does not fit the loss or the model."""
    tokens = network.tokens(datum.model_input)
    inputs = check_datum(datum, loss_fn, len(tokens))
    targets = inputs.pop("target_tokens").astype(np.int64)
    scored = counted(loss_fn, inputs)
    _check_targets(targets[scored], network)
    also = None
    if not network.options.skip_unweighted:
        known = (targets >= 0) & (targets < network.vocabulary) & ~np.isin(targets, network.processing.banned_token_ids)
        also = known & ~scored
    return Row(tokens, targets, scored, also), {key: array.astype(np.float32) for key, array in inputs.items()}


def _check_targets(targets: np.ndarray, network: Network) -> None:
    banned = np.isin(targets, network.processing.banned_token_ids)
    if banned.any():
        raise ValueError(f"a target is token {targets[banned][0]}, which stands for pictures: no answer may hold it")
    if len(targets) and (targets.min() < 0 or targets.max() >= network.vocabulary):
        raise ValueError(f"a target token is outside the vocabulary of {network.vocabulary}")


def _tensor(array: np.ndarray) -> types.TensorData:
    return types.TensorData(data=array, dtype="float32", shape=list(array.shape))
