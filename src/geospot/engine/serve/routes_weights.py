"""Routes over one `Core`: checkpoints of models in training, and files for download."""

import itertools
import uuid
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.core import Core, check_optimizer, read_body
from geospot.engine.serve.exports import age_recipients, export
from geospot.engine.serve.samplers import Sampler, check_memory
from geospot.engine.serve.store import check_ttl
from geospot.engine.serve.wire import Refused, read_model, read_text, unknown


class WeightsRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core
        self._numbers = itertools.count()

    async def save_weights(self, request: Request) -> Response:
        """Weights and optimizer, to the disk."""
        wanted = read_model(types.SaveWeightsRequest, await read_body(request))
        check_ttl(wanted.ttl_seconds)
        training = await self.core.training(wanted.model_id)
        name = self.core.checkpoints.folder_name(wanted.model_id, "weights", wanted.path)

        def pack(answer: types.SaveWeightsResponse) -> dict[str, Any]:
            self.core.checkpoints.note(answer.path, wanted.ttl_seconds, wanted.user_metadata)
            return {"type": "save_weights", "path": f"tinker://{wanted.model_id}/weights/{wanted.path}"}

        return self.core.accept_step(
            wanted, "save_weights", lambda: training.save_state(name, overwrite=wanted.overwrite), pack
        )

    async def save_weights_for_sampler(self, request: Request) -> Response:
        """The weights alone: to the disk under a name, or as a sampler without one."""
        wanted = read_model(types.SaveWeightsForSamplerRequest, await read_body(request))
        check_ttl(wanted.ttl_seconds)
        training = await self.core.training(wanted.model_id)
        if wanted.kind != "snapshot":
            raise Refused(422, f"kind {wanted.kind!r}: only snapshots are served")
        if wanted.path is not None:
            name = self.core.checkpoints.folder_name(wanted.model_id, "sampler_weights", wanted.path)

            def pack(answer: types.SaveWeightsForSamplerResponse) -> dict[str, Any]:
                self.core.checkpoints.note(answer.path, wanted.ttl_seconds, wanted.user_metadata)
                path = f"tinker://{wanted.model_id}/sampler_weights/{wanted.path}"
                return {"type": "save_weights_for_sampler", "path": path}

            return self.core.accept_step(
                wanted, "save_weights_for_sampler", lambda: training.save_weights_for_sampler(name), pack
            )
        session_id = wanted.model_id.partition(":")[0]
        sampler_id = f"{session_id}:sample:{next(self._numbers)}"
        self.core.samplers.check_room(4 * training.n_parameters())

        def start() -> LocalFuture[LocalSamplingClient]:
            client = training.save_weights_and_get_sampling_client()
            base_model = self.core.options.model_name
            self.core.samplers.add(Sampler(sampler_id, base_model, None, client))
            return client

        return self.core.accept_step(
            wanted, "snapshot", start, lambda _: {"type": "save_weights_for_sampler", "sampling_session_id": sampler_id}
        )

    async def save_weights_external(self, request: Request) -> Response:
        """The weights in PEFT's form, for download."""
        wanted = read_model(types.SaveWeightsExternalRequest, await read_body(request))
        check_ttl(wanted.ttl_seconds)
        training = await self.core.training(wanted.model_id)
        recipients = age_recipients(wanted.age_encryption_recipients or ())
        folder = self.core.checkpoints.root / self.core.checkpoints.folder_name(
            wanted.model_id, "external_weights", wanted.path
        )
        if folder.exists():
            raise Refused(422, f"external weights named {wanted.path!r} exist: choose another name")
        # Saved as the engine does, then written in PEFT's form from there: both in the engine's own thread.
        temporary = self.core.checkpoints.folder_name(wanted.model_id, "sampler_weights", f"export-{uuid.uuid4().hex}")

        def start() -> LocalFuture[Path]:
            saved = training.save_weights_for_sampler(temporary)
            return self.core.service.scheduler.submit(lambda: export(saved.result().path, folder, recipients))

        def pack(_: Path) -> dict[str, Any]:
            self.core.checkpoints.note(folder, wanted.ttl_seconds, None)
            path = f"tinker://{wanted.model_id}/external_weights/{wanted.path}"
            return {"type": "save_weights_external", "path": path}

        return self.core.accept_step(wanted, "save_weights_external", start, pack)

    async def external_weights_urls(self, request: Request) -> Response:
        """Where the files of such weights are."""
        where = dict(request.path_params)
        if (kind := where.pop("kind")) != "external_weights":
            raise Refused(422, f"{kind}: only external weights are downloaded; save_weights_external makes them")
        folder = self.core.checkpoints.find(f"tinker://{where['model_id']}/external_weights/{where['name']}")
        urls = {path.name: f"{request.url_for('file', **where, file=path.name)}" for path in sorted(folder.iterdir())}
        return JSONResponse({"urls": urls, "expires": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})

    async def external_file(self, request: Request) -> Response:
        """One of them."""
        where = request.path_params
        folder = self.core.checkpoints.find(f"tinker://{where['model_id']}/external_weights/{where['name']}")
        if where["file"] not in {path.name for path in folder.iterdir()}:
            raise unknown(f"file {where['file']!r}")
        return FileResponse(folder / where["file"])

    async def load_weights(self, request: Request) -> Response:
        """A model in training from a checkpoint."""
        wanted = read_model(types.LoadWeightsRequest, await read_body(request))
        model_id = _addressed(wanted)
        session = self.core.sessions.get(model_id.partition(":")[0])
        if wanted.model_id is not None:
            self.core.sessions.model(model_id)
        elif model_id not in session.models:
            check_memory(self.core.service.options.device, "another model in training")
        self.core.check_model(wanted.base_model)
        spec = self.core.checkpoints.spec(wanted.path)
        self.core.check_model(spec.base_model)
        if wanted.weights_access_token is not None:
            raise Refused(422, "weights_access_token: this server has no accounts; leave it out")
        check_optimizer(wanted.optimizer_config)
        if model_id in session.models:
            here = (await self.core.training(model_id)).spec
            differing = [
                f"{k}={v!r} (the model's is {getattr(here, k)!r})"
                for k, v in asdict(spec).items()
                if v != getattr(here, k)
            ]
            if differing:
                raise Refused(422, f"{wanted.path} does not fit this model: {', '.join(differing)}")
        folder = str(self.core.checkpoints.find(wanted.path))

        def start() -> LocalFuture[LocalTrainingClient]:
            said = {} if wanted.user_metadata is None else {"user_metadata": wanted.user_metadata}
            self.core.note_model(
                model_id.partition(":")[0], model_id, lora_rank=spec.lora_rank, base_model=spec.base_model, **said
            )
            make = self.core.service.create_training_client_from_state
            if wanted.optimizer:
                make = self.core.service.create_training_client_from_state_with_optimizer
            session.models[model_id] = make(folder)
            return session.models[model_id]

        return self.core.accept(
            ("load", model_id, wanted.seq_id),
            "load_weights",
            start,
            lambda _: {"type": "load_weights", "path": wanted.path},
            model_id=model_id,
        )

    async def weights_info(self, request: Request) -> Response:
        """What a checkpoint belongs to."""
        spec = self.core.checkpoints.spec(read_text(await read_body(request), "tinker_path"))
        rank = {"is_lora": spec.lora_rank > 0, "lora_rank": spec.lora_rank}
        return JSONResponse({"base_model": spec.base_model, **rank, **spec.sdk_flags})


def _addressed(wanted: types.LoadWeightsRequest) -> str:
    """The model that a request means: one in training, or the session's next, which it creates."""
    if (wanted.model_id is None) != (wanted.seq_id is None) or (wanted.session_id is None) != (
        wanted.model_seq_id is None
    ):
        raise Refused(422, "model_id goes with seq_id, and session_id with model_seq_id")
    if (wanted.model_id is None) == (wanted.session_id is None):
        raise Refused(422, "give model_id, or session_id for a new model")
    return wanted.model_id or f"{wanted.session_id}:train:{wanted.model_seq_id}"
