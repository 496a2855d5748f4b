"""Routes over one `Core`: sampling."""

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local.sample_request import DEFAULT_MAX_TOKENS, check_params
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.serve.core import LONG_POLL_S, Core, Promise, in_thread, n_tokens, read_body, submitted
from geospot.engine.serve.pending import Pending
from geospot.engine.serve.wire import Beside, Refused, dense_targets, pack_sample, read_model

# What no model here does: asked for, it is refused rather than left out of the answer.
_NOT_SERVED = {
    "record_stability_info": ": what a sampler records for loss_fn='stable_reinforce' is not published, nor the loss's "
    "objective; take importance_sampling, ppo, cispo or gspo",
    "prompt_alt_tokens_k": "",
}
MOST_LIKELIEST = 128  # tokens for each position


class SamplingRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core

    def _check(self, wanted: types.SampleRequest) -> None:
        """Refused for what cannot be done, before anything is."""
        for name, why in _NOT_SERVED.items():
            if getattr(wanted, name):
                raise Refused(422, f"{name} is not served here{why}")
        check_params(wanted.sampling_params, wanted.num_samples)
        self.core.check_context(wanted.prompt, wanted.sampling_params.max_tokens or DEFAULT_MAX_TOKENS)
        for name in ("base_model", "model_path"):
            if (value := getattr(wanted, name)) is not None:
                raise Refused(422, f"{name}={value!r}: the sampling session says it; leave it out")
        for name in ("topk_prompt_logprobs", "topk_sample_logprobs"):
            if not 0 <= (k := getattr(wanted, name)) <= MOST_LIKELIEST:
                raise Refused(422, f"{name}={k}: from 0 to {MOST_LIKELIEST}")
        last = wanted.prompt_logprobs_last_n
        if last is not None and not wanted.prompt_logprobs:
            raise Refused(422, f"prompt_logprobs_last_n={last}: set prompt_logprobs")

    async def create_sampling_session(self, request: Request) -> Response:
        """A sampler on a checkpoint's weights or on the model as it is."""
        wanted = read_model(types.CreateSamplingSessionRequest, await read_body(request))
        self.core.sessions.get(wanted.session_id)
        sampler_id = f"{wanted.session_id}:sample:client-{wanted.sampling_session_seq_id}"
        self.core.add_sampler(sampler_id, wanted.base_model, wanted.model_path)
        record = self.core.records.session(wanted.session_id) or {}
        known = {"base_model": wanted.base_model, "model_path": wanted.model_path}
        samplers = {**record.get("samplers", {}), sampler_id: known}
        self.core.records.write_session(wanted.session_id, samplers=samplers)
        return JSONResponse({"type": "create_sampling_session", "sampling_session_id": sampler_id})

    async def get_sampler(self, request: Request) -> Response:
        """What a sampler is."""
        sampler_id = request.path_params["sampler_id"]
        sampler = self.core.sampler(sampler_id)
        shown = {"base_model": sampler.base_model, "model_path": sampler.model_path}
        return JSONResponse({"sampler_id": sampler_id, **shown})

    async def sample(self, request: Request) -> Response:
        """Ask for answers to one prompt."""
        body = await read_body(request, large=True)
        wanted = await in_thread(len(body), read_model, types.SampleRequest, body)
        if wanted.sampling_session_id is None or wanted.seq_id is None:
            raise Refused(422, "sampling_session_id and seq_id are needed: requests belong to a sampling session")
        self._check(wanted)
        key = ("sample", wanted.sampling_session_id, wanted.seq_id)
        if (known := self.core.pending.known(key)) is not None:
            return Promise(known)
        session_id = wanted.sampling_session_id.partition(":")[0]
        self.core.sessions.get(session_id)
        self.core.sampler(wanted.sampling_session_id)
        try:
            async with asyncio.timeout(LONG_POLL_S):
                client = await self.core.samplers.client(wanted.sampling_session_id)
        except TimeoutError:  # a large model is on its way from the disk: the SDK asks again after 429
            raise Refused(429, "the weights are still being loaded") from None
        if (known := self.core.pending.known(key)) is not None:  # it was sent again meanwhile
            return Promise(known)
        self.core.pending.check_room(len(body))
        drawn = submitted(lambda: client.sample(wanted.prompt, wanted.num_samples, wanted.sampling_params))
        asked = self._beside(client, wanted, drawn)
        pending = Pending(
            session_id=session_id,
            kind="sample",
            futures=[drawn, *asked.values()],
            pack=lambda answers: _packed(wanted, answers[0].sequences, dict(zip(asked, answers[1:], strict=True))),
            n_bytes=len(body),
            tokens={"prompt": n_tokens(wanted.prompt)},
            extra={"sample_sequence_ids": [uuid.uuid4().hex for _ in range(wanted.num_samples)]},
        )
        self.core.gatherer.add(self.core.pending.add(key, pending))
        return Promise(pending)

    def _beside(
        self,
        client: LocalSamplingClient,
        wanted: types.SampleRequest,
        drawn: LocalFuture[types.SampleResponse],
    ) -> dict[str, LocalFuture[Any]]:
        """What is asked for beside the answers, by the request's own names."""
        futures: dict[str, LocalFuture[Any]] = {}
        last_n, prompt = wanted.prompt_logprobs_last_n, wanted.prompt
        if wanted.prompt_logprobs:
            futures["prompt_logprobs"] = submitted(lambda: client.compute_logprobs(prompt, last_n))
        if (k := wanted.topk_prompt_logprobs) > 0:
            futures["topk_prompt_logprobs"] = submitted(lambda: client.topk_logprobs(prompt, k, last_n=last_n))
        if (k := wanted.topk_sample_logprobs) > 0:
            futures["topk_sample_logprobs"] = LocalFuture[Any](lambda _: None)
            drawn.on_done(lambda: self._likeliest(client, prompt, k, drawn, futures["topk_sample_logprobs"]))
        if wanted.target_prompt_logprobs is not None:
            targets = dense_targets(_tensor_data(wanted.target_prompt_logprobs))
            futures["target_prompt_logprobs"] = submitted(lambda: client.target_logprobs(prompt, targets))
        return futures

    @staticmethod
    def _likeliest(
        client: LocalSamplingClient,
        prompt: types.ModelInput,
        k: int,
        drawn: LocalFuture[types.SampleResponse],
        into: LocalFuture[Any],
    ) -> None:
        """Once the answers are there: what else could have stood at each of their tokens."""
        try:
            answers = [list(sequence.tokens) for sequence in drawn.future().result().sequences]
            found = client.topk_logprobs(prompt, k, answers).future()
        except BaseException as error:
            into.fail(error)
            return

        def done(_: Future[Any]) -> None:
            error = found.exception()
            into.fail(error) if error is not None else into.finish(found.result())

        found.add_done_callback(done)


def _packed(wanted: types.SampleRequest, sequences: Sequence[types.SampledSequence], found: dict[str, Any]) -> bytes:
    topk_prompt, topk_sample = found.get("topk_prompt_logprobs"), found.get("topk_sample_logprobs")
    targets = wanted.target_prompt_logprobs
    return pack_sample(
        sequences,
        Beside(
            prompt=found.get("prompt_logprobs"),
            topk_prompt=None if topk_prompt is None else topk_prompt[0],
            topk_sample=None if topk_sample is None else topk_sample[1:],
            targets=found.get("target_prompt_logprobs"),
            asked=None if targets is None else _tensor_data(targets),
        ),
    )


def _tensor_data(given: Any) -> types.TensorData:
    """The JSON form of a tensor as the SDK's own."""
    sparse = {name: getattr(given, name) for name in ("sparse_crow_indices", "sparse_col_indices")}
    return types.TensorData(data=list(given.data), dtype=given.dtype, shape=given.shape, **sparse)
