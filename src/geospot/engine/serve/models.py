"""Routes over one `Core`: models in training."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.core import Core, check_optimizer, in_thread, n_tokens, read_body
from geospot.engine.serve.samplers import check_memory
from geospot.engine.serve.wire import Refused, pack_forward_backward, read_forward_backward, read_model


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
        check_optimizer(wanted.optimizer_config)
        if model_id not in session.models:
            check_memory(self.core.service.options.device, "another model in training")

        known = {"lora_rank": lora.rank, "base_model": wanted.base_model, "user_metadata": wanted.user_metadata}

        def start() -> LocalFuture[LocalTrainingClient]:
            self.core.note_model(wanted.session_id, model_id, **known)
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
            ("create", model_id),
            "create_model",
            start,
            lambda _: {"type": "create_model", "model_id": model_id},
            model_id=model_id,
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
        body = await read_body(request, large=True)
        message, data, config = await in_thread(len(body), read_forward_backward, body)
        for datum in data:
            self.core.check_context(datum.model_input)
        training = await self.core.training(message.model_id)
        method = training.forward if message.forward_only else training.forward_backward
        kind = "forward" if message.forward_only else "forward_backward"
        return self.core.accept_step(
            message,
            kind,
            lambda: method(data, message.loss_fn, config),
            pack_forward_backward,
            n_bytes=len(body),
            tokens={"scored": sum(n_tokens(datum.model_input) for datum in data)},
        )

    async def optim_step(self, request: Request) -> Response:
        """One step of Adam."""
        wanted = read_model(types.OptimStepRequest, await read_body(request))
        if not isinstance(wanted.optim_params, types.AdamParams):
            raise Refused(422, "only Adam's parameters are served")
        training = await self.core.training(wanted.model_id)
        return self.core.accept_step(
            wanted,
            "optim_step",
            lambda: training.optim_step(wanted.optim_params),
            lambda answer: {"metrics": answer.metrics},
        )
