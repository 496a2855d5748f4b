"""Routes over one `Core`: sampling."""

import asyncio
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local.requests import DEFAULT_MAX_TOKENS, check_params
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.serve.core import LONG_POLL_S, Core, in_thread, promise, read_body, submitted
from geospot.engine.serve.pending import Pending
from geospot.engine.serve.samplers import Sampler
from geospot.engine.serve.wire import Refused, pack_sample, read_model

# What no model here does: asked for, it is refused rather than left out of the answer.
_NOT_SERVED = (
    "record_stability_info",
    "topk_prompt_logprobs",
    "topk_sample_logprobs",
    "target_prompt_logprobs",
    "prompt_alt_tokens_k",
)


class SamplingRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core

    def _check(self, wanted: types.SampleRequest) -> None:
        """Refused for what cannot be done, before anything is."""
        for name in _NOT_SERVED:
            if getattr(wanted, name):
                raise Refused(422, f"{name} is not served here")
        check_params(wanted.sampling_params, wanted.num_samples)
        self.core.check_context(wanted.prompt, wanted.sampling_params.max_tokens or DEFAULT_MAX_TOKENS)
        for name in ("base_model", "model_path"):
            if (value := getattr(wanted, name)) is not None:
                raise Refused(422, f"{name}={value!r}: the sampling session says it; leave it out")
        last = wanted.prompt_logprobs_last_n
        if last is not None and not wanted.prompt_logprobs:
            raise Refused(422, f"prompt_logprobs_last_n={last}: set prompt_logprobs")

    async def create_sampling_session(self, request: Request) -> Response:
        """A sampler on a checkpoint's weights or on the model as it is."""
        wanted = read_model(types.CreateSamplingSessionRequest, await read_body(request))
        self.core.sessions.get(wanted.session_id)
        sampler_id = f"{wanted.session_id}:sample:client-{wanted.sampling_session_seq_id}"
        if wanted.model_path is not None:
            base_model = self.core.checkpoints.spec(wanted.model_path).base_model
            self.core.check_model(base_model)
            folder = str(self.core.checkpoints.find(wanted.model_path))

            def load() -> LocalFuture[LocalSamplingClient]:
                return self.core.service.create_sampling_client(model_path=folder)

            sampler = Sampler(sampler_id, base_model, wanted.model_path, load(), load)
        elif wanted.base_model is not None:
            self.core.check_model(wanted.base_model)
            client = self.core.service.create_sampling_client(base_model=wanted.base_model)
            sampler = Sampler(sampler_id, wanted.base_model, None, client, is_base=True)
        else:
            raise Refused(422, "give base_model or model_path")
        self.core.samplers.add(sampler)
        return JSONResponse({"type": "create_sampling_session", "sampling_session_id": sampler_id})

    async def get_sampler(self, request: Request) -> Response:
        """What a sampler is."""
        sampler_id = request.path_params["sampler_id"]
        sampler = self.core.samplers.get(sampler_id)
        shown = {"base_model": sampler.base_model, "model_path": sampler.model_path}
        return JSONResponse({"sampler_id": sampler_id, **shown})

    async def sample(self, request: Request) -> Response:
        """Ask for answers to one prompt."""
        body = await read_body(request)
        wanted = await in_thread(len(body), read_model, types.SampleRequest, body)
        if wanted.sampling_session_id is None or wanted.seq_id is None:
            raise Refused(422, "sampling_session_id and seq_id are needed: requests belong to a sampling session")
        self._check(wanted)
        key = ("sample", wanted.sampling_session_id, wanted.seq_id)
        if (known := self.core.pending.known(key)) is not None:
            return promise(known)
        session_id = wanted.sampling_session_id.partition(":")[0]
        self.core.sessions.get(session_id)
        try:
            async with asyncio.timeout(LONG_POLL_S):
                client = await self.core.samplers.client(wanted.sampling_session_id)
        except TimeoutError:  # a large model is on its way from the disk: the SDK asks again after 429
            raise Refused(429, "the weights are still being loaded") from None
        if (known := self.core.pending.known(key)) is not None:  # it was sent again meanwhile
            return promise(known)
        self.core.pending.check_room(len(body))
        futures: list[LocalFuture[Any]] = [
            submitted(lambda: client.sample(wanted.prompt, wanted.num_samples, wanted.sampling_params))
        ]
        if wanted.prompt_logprobs:
            futures.append(submitted(lambda: client.compute_logprobs(wanted.prompt, wanted.prompt_logprobs_last_n)))
        pending = Pending(
            session_id=session_id,
            kind="sample",
            futures=futures,
            pack=lambda answers: pack_sample(answers[0].sequences, answers[1] if len(answers) > 1 else None),
            n_bytes=len(body),
            extra={"sample_sequence_ids": [uuid.uuid4().hex for _ in range(wanted.num_samples)]},
        )
        self.core.gatherer.add(self.core.pending.add(key, pending))
        return promise(pending)
