"""The clients of the local engine: the Tinker SDK's service, training and sampling clients, method for method.

Only what geospot's loops use is here; signatures and results are the SDK's (0.38).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local import state
from geospot.engine.local.inputs import Row
from geospot.engine.local.losses import check_datum, check_loss, token_losses
from geospot.engine.local.network import Network, NetworkSpec
from geospot.engine.local.sampler import SampleRequest, batches, check_params, sample
from geospot.engine.local.scheduler import Scheduler


@dataclass(frozen=True)
class LocalOptions:
    """How the local engine uses the machine."""

    checkpoint_dir: str = "checkpoints"  # where save_state and save_weights_for_sampler write
    dtype: str = "float32"  # of the frozen base weights
    device: str = "cpu"
    threads: int | None = None  # of torch on a CPU; None leaves torch's choice
    max_batch_tokens: int = 16_384  # padded tokens of one training pass; longer batches are split, with equal gradients
    max_sample_tokens: int = 131_072  # positions in the key-value caches of one sampling batch
    picture_cache_bytes: int = 1 << 30  # features of pictures, kept while the vision tower is frozen


@dataclass(frozen=True)
class Snapshot:
    """Weights to sample with: what `save_weights_and_get_sampling_client` froze."""

    spec: NetworkSpec
    weights: Mapping[str, torch.Tensor]
    key: int


class LocalServiceClient:
    """Stands for `tinker.ServiceClient`. Close it, or use it as a context manager."""

    def __init__(self, options: LocalOptions | None = None):
        self.options = options or LocalOptions()
        self.scheduler = Scheduler(self.options.threads)
        self._networks: dict[NetworkSpec, Network] = {}
        self._keys = itertools.count()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self, status: str = "success", detail: str | None = None) -> None:
        """Finish what was asked and stop the engine's thread."""
        self.scheduler.close()

    def network(self, spec: NetworkSpec) -> Network:
        """The one copy of a model with these LoRA settings; to be called in the engine's thread."""
        if spec not in self._networks:
            o = self.options
            self._networks[spec] = Network(
                spec,
                dtype="float32" if spec.lora_rank == 0 else o.dtype,
                device=o.device,
                max_batch_tokens=o.max_batch_tokens,
                cache_bytes=o.picture_cache_bytes,
            )
        return self._networks[spec]

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> LocalFuture:
        """A `LocalTrainingClient` on a fresh adapter; rank 0 trains all weights of the model.

        Unlike the service it leaves the unembedding alone by default: with tied embeddings it is the input's, too.
        """
        if rank < 0:
            raise ValueError(f"rank={rank}: must be 0 (train all weights) or above")
        spec = NetworkSpec(base_model, rank, train_attn, train_mlp, train_unembed)

        def create():
            return LocalTrainingClient(self, spec, self.network(spec).initial_weights(seed))

        return self.scheduler.submit(create)

    def create_training_client_from_state(self, path: str) -> LocalFuture:
        """A training client that starts from a checkpoint's weights with a new optimizer."""
        return self.scheduler.submit(lambda: self._from_state(path, with_optimizer=False))

    def create_training_client_from_state_with_optimizer(self, path: str) -> LocalFuture:
        """A training client that goes on where the checkpoint was taken."""
        return self.scheduler.submit(lambda: self._from_state(path, with_optimizer=True))

    def _from_state(self, path: str, *, with_optimizer: bool) -> "LocalTrainingClient":
        spec, n_steps = state.read_spec(path)
        client = LocalTrainingClient(self, spec, self._read_weights(spec, path))
        if with_optimizer:
            client.restore_optimizer(state.read_optimizer(path, self.options.device), n_steps)
        return client

    def _read_weights(self, spec: NetworkSpec, path: str) -> dict[str, torch.Tensor]:
        weights, wanted = state.read_tensors(path, "weights", self.options.device), self.network(spec).trainable
        if weights.keys() != wanted.keys() or any(weights[k].shape != p.shape for k, p in wanted.items()):
            raise state.CheckpointError(f"{path} holds other tensors than {spec.base_model} has: is the model the same?")
        return weights

    def create_sampling_client(self, model_path: str | None = None, base_model: str | None = None) -> LocalFuture:
        """Sample with a checkpoint's weights (`model_path`) or with an untouched model (`base_model`)."""
        if (model_path is None) == (base_model is None):
            raise ValueError("give one of model_path (a checkpoint) and base_model (a model's name)")

        def create():
            if base_model is not None:
                spec = NetworkSpec(base_model, 0)
                weights = self.network(spec).base_weights()
            else:
                spec, _ = state.read_spec(model_path)
                weights = self._read_weights(spec, model_path)
            return LocalSamplingClient(self, Snapshot(spec, weights, next(self._keys)))

        return self.scheduler.submit(create)

    def snapshot(self, spec: NetworkSpec, weights: Mapping[str, torch.Tensor]) -> Snapshot:
        """A copy of weights that later training does not change."""
        return Snapshot(spec, {name: w.detach().clone() for name, w in weights.items()}, next(self._keys))


class LocalTrainingClient:
    """Stands for `tinker.TrainingClient`: one set of trained weights with its optimizer."""

    def __init__(self, service: LocalServiceClient, spec: NetworkSpec, weights: Mapping[str, torch.Tensor]):
        self._service, self._spec = service, spec
        self._weights = {name: torch.nn.Parameter(w.detach()) for name, w in weights.items()}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=0.0, foreach=True)
        self._n_steps = 0

    def get_tokenizer(self):
        """The model's tokenizer."""
        return self._service.scheduler.submit(
            lambda: self._service.network(self._spec).processing.tokenizer
        ).result()

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
        return self._service.scheduler.submit(lambda: self._forward(list(data), loss_fn, config, backward=True))

    def forward(
        self, data: Sequence[types.Datum], loss_fn: str, loss_fn_config: Mapping[str, float] | None = None
    ) -> LocalFuture:
        """Like `forward_backward`, without the gradient."""
        config = check_loss(loss_fn, loss_fn_config)
        return self._service.scheduler.submit(lambda: self._forward(list(data), loss_fn, config, backward=False))

    def _forward(self, data, loss_fn, config, *, backward: bool) -> types.ForwardBackwardOutput:
        network = self._service.network(self._spec)
        network.activate(self._weights)
        rows, inputs = [], []
        for datum in data:
            tokens = network.tokens(datum.model_input)
            arrays = check_datum(datum, loss_fn, len(tokens))
            scored = arrays["weights" if loss_fn == "cross_entropy" else "advantages"] != 0
            targets = arrays.pop("target_tokens").astype(np.int64)
            _check_targets(targets[scored], network)
            rows.append(Row(tokens, targets, scored))
            inputs.append({key: a.astype(np.float32) for key, a in arrays.items()})
        outputs = [np.zeros(len(row.tokens), dtype=np.float32) for row in rows]
        total = 0.0
        with torch.set_grad_enabled(backward):
            for batch in network.batches(rows):
                logprobs = network.logprobs([rows[i] for i in batch])
                scored_inputs = {
                    key: torch.from_numpy(np.concatenate([inputs[i][key][rows[i].scored] for i in batch])).to(logprobs)
                    for key in inputs[batch[0]]
                }
                loss = token_losses(loss_fn, config, logprobs, scored_inputs).sum()
                if backward:
                    loss.backward()
                total += float(loss)
                ends = np.cumsum([rows[i].scored.sum() for i in batch])[:-1]
                for i, part in zip(batch, np.split(logprobs.detach().float().cpu().numpy(), ends), strict=True):
                    outputs[i][rows[i].scored] = part
        if backward:
            network.take_gradients(self._weights)
        return types.ForwardBackwardOutput(
            loss_fn_output_type="ArrayRecord",
            loss_fn_outputs=[{"logprobs": _tensor(o)} for o in outputs],
            metrics={"loss:sum": total},
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
        self._optimizer.zero_grad(set_to_none=True)
        return types.OptimStepResponse(metrics={"grad_norm": grad_norm, "skipped": float(not finite)})

    def restore_optimizer(self, saved: Mapping[str, Mapping[str, torch.Tensor]], n_steps: int) -> None:
        """Put back Adam's moments; names that the checkpoint lacks have seen no gradient yet."""
        for name, moments in saved.items():
            self._optimizer.state[self._weights[name]] = dict(moments)
        self._n_steps = n_steps

    def save_state(self, name: str, ttl_seconds: int | None = None, overwrite: bool = False) -> LocalFuture:
        """Write weights and optimizer to the checkpoint folder; answers a response whose `path` loads them again."""
        return self._save(name, with_optimizer=True, overwrite=overwrite)

    def save_weights_for_sampler(self, name: str, ttl_seconds: int | None = None) -> LocalFuture:
        """Write the weights alone."""
        return self._save(name, with_optimizer=False, overwrite=False)

    def _save(self, name: str, *, with_optimizer: bool, overwrite: bool) -> LocalFuture:
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
        """A sampling client on a copy of the weights as they are now."""
        return self._service.scheduler.submit(
            lambda: LocalSamplingClient(self._service, self._service.snapshot(self._spec, self._weights))
        )


class LocalSamplingClient:
    """Stands for `tinker.SamplingClient`: answers of one snapshot of the weights."""

    def __init__(self, service: LocalServiceClient, snapshot: Snapshot):
        self._service, self._snapshot = service, snapshot

    def get_tokenizer(self):
        """The model's tokenizer."""
        return self._service.scheduler.submit(
            lambda: self._service.network(self._snapshot.spec).processing.tokenizer
        ).result()

    def sample(
        self, prompt: types.ModelInput, num_samples: int, sampling_params: types.SamplingParams
    ) -> LocalFuture:
        """`num_samples` answers to a prompt as a `SampleResponse`.

        Log-probabilities are those of the model itself, before temperature, top_k and top_p. Requests made before the
        first wait run as one batch.
        """
        check_params(sampling_params, num_samples)
        payload = (prompt, num_samples, sampling_params)
        return self._service.scheduler.submit_sample(("sample", self._snapshot.key), self._run, payload)

    def _run(self, payloads) -> list[types.SampleResponse]:
        network = self._service.network(self._snapshot.spec)
        network.activate(self._snapshot.weights)
        requests = [SampleRequest(network.tokens(prompt), n, params) for prompt, n, params in payloads]
        answers: list = [None] * len(requests)
        for batch in batches(requests, self._service.options.max_sample_tokens):
            for i, sequences in zip(batch, sample(network, [requests[i] for i in batch]), strict=True):
                answers[i] = types.SampleResponse(sequences=sequences)
        return answers

    def compute_logprobs(self, prompt: types.ModelInput) -> LocalFuture:
        """For each token of the prompt its log-probability given those before it; None for the first and for images."""
        return self._service.scheduler.submit_sample(("logprobs", self._snapshot.key), self._logprobs, prompt)

    def _logprobs(self, prompts) -> list[list[float | None]]:
        network = self._service.network(self._snapshot.spec)
        network.activate(self._snapshot.weights)
        rows = []
        for prompt in prompts:
            tokens = network.tokens(prompt)
            targets = np.append(tokens.ids[1:], 0)
            predicts = np.append(~np.isin(tokens.ids[1:], network.processing.banned_token_ids), False)
            rows.append(Row(tokens, targets, predicts))
        out: list = [None] * len(rows)
        with torch.no_grad():
            for batch in network.batches(rows):
                values = network.logprobs([rows[i] for i in batch]).cpu().numpy()
                ends = np.cumsum([rows[i].scored.sum() for i in batch])[:-1]
                for i, part in zip(batch, np.split(values, ends), strict=True):
                    answer: list[float | None] = [None] * len(rows[i].tokens)
                    for where, value in zip(np.flatnonzero(rows[i].scored) + 1, part, strict=True):
                        answer[where] = float(value)
                    out[i] = answer
        return out


def _check_targets(targets: np.ndarray, network: Network) -> None:
    banned = np.isin(targets, network.processing.banned_token_ids)
    if banned.any():
        raise ValueError(f"a target is token {targets[banned][0]}, which stands for pictures: no answer may hold it")
    if len(targets) and (targets.min() < 0 or targets.max() >= len(network.ban)):
        raise ValueError(f"a target token is outside the vocabulary of {len(network.ban)}")


def _tensor(array: np.ndarray) -> types.TensorData:
    return types.TensorData(data=array, dtype="float32", shape=list(array.shape))
