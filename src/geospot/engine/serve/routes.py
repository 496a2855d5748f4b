"""Routes over one `Core`: models in training, sampling, checkpoints."""

import asyncio
import itertools
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.core import LONG_POLL_S, Core, all_of, promise, read_body, submitted
from geospot.engine.serve.pending import Pending
from geospot.engine.serve.sessions import Sampler
from geospot.engine.serve.wire import (
    Refused,
    pack_forward_backward,
    pack_sample,
    read_forward_backward,
    read_json,
    read_model,
)
from geospot.engine.weights import write_external

# What no model here does: asked for, it is refused rather than left out of the answer.
_NOT_SERVED = ("topk_prompt_logprobs", "topk_sample_logprobs", "target_prompt_logprobs", "prompt_alt_tokens_k")


class TrainingRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core

    async def create_model(self, request: Request) -> Response:
        """A fresh adapter, or all weights with rank 0."""
        wanted = read_model(types.CreateModelRequest, await read_body(request))
        session, model_id = (
            self.core.sessions.get(wanted.session_id),
            f"{wanted.session_id}:train:{wanted.model_seq_id}",
        )
        lora = wanted.lora_config or types.LoraConfig(rank=32)
        self.core.check_model(wanted.base_model)
        if not 0 <= lora.rank <= self.core.options.max_rank:
            raise Refused(422, f"lora rank {lora.rank}: 0 (all weights) to {self.core.options.max_rank}")
        if wanted.optimizer_config.type != "adamw":
            raise Refused(422, f"optimizer {wanted.optimizer_config.type!r}: only adamw is served")

        def start() -> LocalFuture[LocalTrainingClient]:
            session.models[model_id] = self.core.service.create_lora_training_client(
                wanted.base_model,
                rank=lora.rank,
                seed=lora.seed,
                train_mlp=lora.train_mlp,
                train_attn=lora.train_attn,
                train_unembed=lora.train_unembed,
            )
            return session.models[model_id]

        return self.core.accept(
            ("create", model_id), start, lambda _: {"type": "create_model", "model_id": model_id}, model_id=model_id
        )

    async def get_info(self, request: Request) -> Response:
        """Name and rank of a model."""
        model_id = read_model(types.GetInfoRequest, await read_body(request)).model_id
        info = (await self.core.training(model_id)).get_info()
        data = {"arch": "transformers", "model_name": info.model_name, "tokenizer_id": info.model_name}
        rank = {"is_lora": info.is_lora, "lora_rank": info.lora_rank}
        return JSONResponse(
            {"type": "get_info", "model_data": data, "model_id": model_id, "model_name": info.model_name, **rank}
        )

    async def forward_backward(self, request: Request) -> Response:
        """Add a gradient, or only compute the loss."""
        message, data, config = read_forward_backward(await read_body(request))
        training = await self.core.training(message.model_id)
        method = training.forward if message.forward_only else training.forward_backward
        return self.core.accept_step(message, lambda: method(data, message.loss_fn, config), pack_forward_backward)

    async def optim_step(self, request: Request) -> Response:
        """One step of Adam."""
        wanted = read_model(types.OptimStepRequest, await read_body(request))
        if not isinstance(wanted.optim_params, types.AdamParams):
            raise Refused(422, "only Adam's parameters are served")
        training = await self.core.training(wanted.model_id)
        return self.core.accept_step(
            wanted, lambda: training.optim_step(wanted.optim_params), lambda answer: {"metrics": answer.metrics}
        )


class SamplingRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core

    async def create_sampling_session(self, request: Request) -> Response:
        """A sampler on a checkpoint's weights or on the model as it is."""
        wanted = read_model(types.CreateSamplingSessionRequest, await read_body(request))
        self.core.sessions.get(wanted.session_id)
        sampler_id = f"{wanted.session_id}:sample:client-{wanted.sampling_session_seq_id}"
        base_model = wanted.base_model
        self.core.check_model(base_model)
        if wanted.model_path is not None:
            base_model = self.core.checkpoints.spec(wanted.model_path).base_model
            self.core.check_model(base_model)
            client = self.core.service.create_sampling_client(
                model_path=str(self.core.checkpoints.find(wanted.model_path))
            )
        elif base_model is not None:
            client = self.core.service.create_sampling_client(base_model=base_model)
        else:
            raise Refused(422, "give base_model or model_path")
        named = wanted.model_path or f"base:{base_model}"
        self.core.sessions.add_sampler(Sampler(wanted.session_id, base_model, client, named), sampler_id)
        return JSONResponse({"type": "create_sampling_session", "sampling_session_id": sampler_id})

    async def get_sampler(self, request: Request) -> Response:
        """What a sampler is."""
        sampler_id = request.path_params["sampler_id"]
        sampler = self.core.sessions.sampler(sampler_id)
        path = sampler.model_path if sampler.model_path and "://" in sampler.model_path else None
        return JSONResponse({"sampler_id": sampler_id, "base_model": sampler.base_model, "model_path": path})

    async def sample(self, request: Request) -> Response:
        """Ask for answers to one prompt."""
        wanted = read_model(types.SampleRequest, await read_body(request))
        if wanted.sampling_session_id is None or wanted.seq_id is None:
            raise Refused(422, "sampling_session_id and seq_id are needed: requests belong to a sampling session")
        for name in _NOT_SERVED:
            if getattr(wanted, name):
                raise Refused(422, f"{name} is not served here")
        key = ("sample", wanted.sampling_session_id, wanted.seq_id)
        if (known := self.core.pending.known(key)) is not None:
            return promise(known)
        loading = self.core.sessions.sampler(wanted.sampling_session_id).client.future()
        try:
            client = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(loading)), LONG_POLL_S)
        except TimeoutError:  # a large model is on its way from the disk: the SDK asks again after 429
            raise Refused(429, "the weights are still being loaded") from None
        if (known := self.core.pending.known(key)) is not None:  # it was sent again meanwhile
            return promise(known)
        futures: list[LocalFuture[Any]] = [
            submitted(lambda: client.sample(wanted.prompt, wanted.num_samples, wanted.sampling_params))
        ]
        if wanted.prompt_logprobs:
            futures.append(submitted(lambda: client.compute_logprobs(wanted.prompt)))
        pending = Pending(
            start=lambda: all_of(futures),
            pack=lambda answers: pack_sample(answers[0].sequences, answers[1] if len(answers) > 1 else None),
            extra={"sample_sequence_ids": [uuid.uuid4().hex for _ in range(wanted.num_samples)]},
        )
        self.core.gatherer.add(self.core.pending.add(key, pending))
        return promise(pending)


class WeightsRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core
        self._numbers = itertools.count()

    async def save_weights(self, request: Request) -> Response:
        """Weights and optimizer, to the disk."""
        wanted = read_model(types.SaveWeightsRequest, await read_body(request))
        training = await self.core.training(wanted.model_id)
        name = self.core.checkpoints.folder_name(wanted.model_id, "weights", wanted.path)

        def pack(answer: types.SaveWeightsResponse) -> dict[str, Any]:
            self.core.checkpoints.note(answer.path, wanted.ttl_seconds, wanted.user_metadata)
            return {"type": "save_weights", "path": f"tinker://{wanted.model_id}/weights/{wanted.path}"}

        return self.core.accept_step(wanted, lambda: training.save_state(name, overwrite=wanted.overwrite), pack)

    async def save_weights_for_sampler(self, request: Request) -> Response:
        """The weights alone: to the disk under a name, or as a sampler without one."""
        wanted = read_model(types.SaveWeightsForSamplerRequest, await read_body(request))
        training = await self.core.training(wanted.model_id)
        if wanted.kind != "snapshot":
            raise Refused(422, f"kind {wanted.kind!r}: only snapshots are served")
        if wanted.path is not None:
            name = self.core.checkpoints.folder_name(wanted.model_id, "sampler_weights", wanted.path)

            def pack(answer: types.SaveWeightsForSamplerResponse) -> dict[str, Any]:
                self.core.checkpoints.note(answer.path, wanted.ttl_seconds, wanted.user_metadata)
                path = f"tinker://{wanted.model_id}/sampler_weights/{wanted.path}"
                return {"type": "save_weights_for_sampler", "path": path}

            return self.core.accept_step(wanted, lambda: training.save_weights_for_sampler(name), pack)
        session_id = wanted.model_id.partition(":")[0]
        sampler_id = f"{session_id}:sample:{next(self._numbers)}"

        def start() -> LocalFuture[LocalSamplingClient]:
            client = training.save_weights_and_get_sampling_client()
            base_model = training.get_info().model_name
            self.core.sessions.add_sampler(Sampler(session_id, base_model, client), sampler_id)
            return client

        return self.core.accept_step(
            wanted, start, lambda _: {"type": "save_weights_for_sampler", "sampling_session_id": sampler_id}
        )

    async def save_weights_external(self, request: Request) -> Response:
        """The weights in PEFT's form, for download."""
        wanted = read_model(types.SaveWeightsExternalRequest, await read_body(request))
        training = await self.core.training(wanted.model_id)
        if wanted.age_encryption_recipients:
            raise Refused(422, "age_encryption_recipients: this server does not encrypt")
        folder = self.core.checkpoints.root / self.core.checkpoints.folder_name(
            wanted.model_id, "external_weights", wanted.path
        )
        if folder.exists():
            raise Refused(422, f"external weights named {wanted.path!r} exist: choose another name")
        # Saved as the engine does, then written in PEFT's form from there: both in the engine's own thread.
        temporary = self.core.checkpoints.folder_name(wanted.model_id, "sampler_weights", f"export-{uuid.uuid4().hex}")

        def start() -> LocalFuture[Path]:
            saved = training.save_weights_for_sampler(temporary)
            return self.core.service.scheduler.submit(lambda: write_external(saved.result().path, folder, discard=True))

        def pack(_: Path) -> dict[str, Any]:
            self.core.checkpoints.note(folder, wanted.ttl_seconds, None)
            path = f"tinker://{wanted.model_id}/external_weights/{wanted.path}"
            return {"type": "save_weights_external", "path": path}

        return self.core.accept_step(wanted, start, pack)

    async def external_weights_urls(self, request: Request) -> Response:
        """Where the files of such weights are."""
        where = request.path_params
        folder = self.core.checkpoints.find(f"tinker://{where['model_id']}/external_weights/{where['name']}")
        urls = {path.name: f"{request.url_for('file', **where, file=path.name)}" for path in sorted(folder.iterdir())}
        return JSONResponse({"urls": urls, "expires": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})

    async def external_file(self, request: Request) -> Response:
        """One of them."""
        where = request.path_params
        folder = self.core.checkpoints.find(f"tinker://{where['model_id']}/external_weights/{where['name']}")
        if where["file"] not in {path.name for path in folder.iterdir()}:
            raise Refused(404, f"no file {where['file']!r}")
        return FileResponse(folder / where["file"])

    async def load_weights(self, request: Request) -> Response:
        """A model in training from a checkpoint."""
        wanted = read_model(types.LoadWeightsRequest, await read_body(request))
        model_id = wanted.model_id or f"{wanted.session_id}:train:{wanted.model_seq_id}"
        session = self.core.sessions.get(model_id.partition(":")[0])
        self.core.check_model(wanted.base_model)
        self.core.check_model(self.core.checkpoints.spec(wanted.path).base_model)
        folder = str(self.core.checkpoints.find(wanted.path))

        def start() -> LocalFuture[LocalTrainingClient]:
            make = self.core.service.create_training_client_from_state
            if wanted.optimizer:
                make = self.core.service.create_training_client_from_state_with_optimizer
            session.models[model_id] = make(folder)
            return session.models[model_id]

        return self.core.accept(
            ("load", model_id, wanted.seq_id),
            start,
            lambda _: {"type": "load_weights", "path": wanted.path},
            model_id=model_id,
        )

    async def weights_info(self, request: Request) -> Response:
        """What a checkpoint belongs to."""
        spec = self.core.checkpoints.spec(read_json(await read_body(request)).get("tinker_path", ""))
        rank = {"is_lora": spec.lora_rank > 0, "lora_rank": spec.lora_rank}
        return JSONResponse({"base_model": spec.base_model, **rank, **spec.sdk_flags})
