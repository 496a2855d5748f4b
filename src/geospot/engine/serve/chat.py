"""The chat endpoint of OpenAI's API over one `Core`: the base model and every checkpoint, with pictures."""

import asyncio
import base64
import binascii
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tinker import types

from geospot.engine.local.sample_request import DEFAULT_MAX_TOKENS, check_params
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.serve.core import Core, disconnected, in_thread, read_body, submitted
from geospot.engine.serve.pending import GONE, Pending
from geospot.engine.serve.streams import Events, Hearing, Pieces, Whole, before_stop, stream
from geospot.engine.serve.wire import Refused, Topk, read_model
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer

MOST_LETTERS = 64  # of a token, as good as: a longer text is refused before it is cut into tokens
# What would change the answer and is not done, of OpenAI's API and of other servers of it, with what changes nothing.
NOT_SERVED: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,), "logit_bias": ({},),
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "modalities": (["text"],), "audio": (), "reasoning_effort": ("none",),
    "top_k": (0, -1), "min_p": (0,), "min_tokens": (0,), "stop_token_ids": ([],), "ignore_eos": (False,),
    "guided_json": (), "guided_regex": (), "guided_choice": (), "guided_grammar": (), "structured_outputs": (),
    "chat_template": (), "chat_template_kwargs": ({},), "continue_final_message": (False,),
    "add_generation_prompt": (True,),
}  # fmt: skip
_OF_URLS = str.maketrans("-_", "+/")
OWNER = "chat"  # whose the samplers and requests of this endpoint are, where others have a session


class Url(BaseModel):
    """Where a picture is."""

    url: str
    detail: str | None = None


class Part(BaseModel):
    """Text or a picture."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: Url | None = None


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Part], Tag("parts")],
        Discriminator(lambda content: "parts" if isinstance(content, list) else "text"),  # so that errors name the part
    ]


class Completion(BaseModel):
    """A request; what would change the answer and is not done is refused, the rest is passed over. A null is as if
    left out: clients send it for what nobody has set.
    """

    model_config = ConfigDict(extra="allow")  # for NOT_SERVED
    model: str
    messages: list[Message] = Field(min_length=1)
    n: int = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    stream: bool = False
    stream_options: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        return {key: value for key, value in body.items() if value is not None} if isinstance(body, dict) else body

    @property
    def longest(self) -> int | None:
        """At most so many tokens in an answer, where the request says so; the newer name goes first."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> list[str]:
        """Strings that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def check(self, most_letters: int) -> None:
        """Refused for what is not done, and for text that is longer than any prompt can be."""
        contents = [message.content for message in self.messages]
        letters = sum(len(c) if isinstance(c, str) else sum(len(part.text) for part in c) for c in contents)
        if letters > most_letters:
            raise Refused(422, f"messages: {letters} characters; at most {most_letters} can be within the context")
        for name, value in (self.model_extra or {}).items():
            if name in NOT_SERVED and value not in NOT_SERVED[name]:
                only = " (only text is served)" if name == "response_format" else ""
                raise Refused(422, f"{name} is not served here{only}; leave it out")


class ChatRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core
        self._renderer: Renderer | None = None

    async def models(self, request: Request) -> Response:
        """The base model, and every checkpoint by its path."""
        return JSONResponse({"object": "list", "data": [_about(name) for name in await self._names()]})

    async def model(self, request: Request) -> Response:
        """One of them, by its name."""
        name = request.path_params["name"]
        if name not in await self._names():
            self.core.check_model(name, status=404)
        return JSONResponse(_about(name))

    async def _names(self) -> list[str]:
        saved = await asyncio.to_thread(self.core.checkpoints.everything)
        paths = [c["tinker_path"] for c in saved if c["checkpoint_type"] != "external"]
        return [self.core.options.model_name, *paths]

    async def complete(self, request: Request) -> Response:
        """Answers to a conversation."""
        body = await read_body(request, large=True)
        wanted = await in_thread(len(body), read_model, Completion, body)
        wanted.check(MOST_LETTERS * self.core.options.max_context)
        client = await self._client(wanted.model)
        prompt = await asyncio.to_thread(self._prompt, wanted)
        params = self._params(wanted)
        check_params(params, wanted.n)
        self.core.check_context(prompt, params.max_tokens or DEFAULT_MAX_TOKENS)
        self.core.pending.check_room(len(body))
        hearing = Hearing() if wanted.stream else None
        drawn = submitted(lambda: client.sample(prompt, wanted.n, params, hearing))
        pending = Pending(OWNER, "chat", [drawn], lambda results: {"answer": results[0]}, n_bytes=len(body))
        pending.tokens = {"prompt": prompt.length}
        if hearing is not None:
            pending.n_sampled = lambda: hearing.n_tokens
        request.state.pending = pending
        self.core.gatherer.add(self.core.pending.add(None, pending))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": wanted.model}
        if hearing is not None:
            return await self._streamed(hearing, head, request, pending, client, prompt, wanted)
        result = await self.core.result_or_gone(request, pending, None)
        if not isinstance(result, dict):
            self.core.pending.give_up(pending)
            return Response(status_code=GONE)  # to nobody
        sequences = result["answer"].sequences
        choices = await self._choices(sequences, client, prompt, wanted)
        usage = _usage(prompt, sequences)
        return JSONResponse({**head, "object": "chat.completion", "choices": choices, "usage": usage})

    async def _streamed(
        self,
        hearing: Hearing,
        head: dict[str, Any],
        request: Request,
        pending: Pending,
        client: LocalSamplingClient,
        prompt: types.ModelInput,
        wanted: Completion,
    ) -> Response:
        """Events from the first token on; what goes wrong before it has a status of its own."""
        assert self._renderer is not None

        async def whole() -> Whole:
            result = await pending.result(None)
            assert isinstance(result, dict)
            sequences = result["answer"].sequences
            usage = _usage(prompt, sequences) if (wanted.stream_options or {}).get("include_usage") else None
            return Whole(await self._choices(sequences, client, prompt, wanted), usage)

        done, first = asyncio.ensure_future(whole()), asyncio.ensure_future(hearing.news.wait())
        gone = asyncio.ensure_future(disconnected(request))
        await asyncio.wait([done, first, gone], return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not done.done():
            done.cancel()
            self.core.pending.give_up(pending)
            return Response(status_code=GONE)  # to nobody
        first.cancel()
        gone.cancel()
        if done.done():
            done.result()
        # Log-probabilities belong to tokens, not to pieces of text: they come with the whole answer.
        decode = (lambda _: "") if wanted.logprobs else self._renderer.decode
        events = stream(head, hearing, done, decode, Pieces(wanted.stops), lambda: self.core.pending.give_up(pending))
        return Events(events)

    async def _choices(
        self,
        sequences: Sequence[types.SampledSequence],
        client: LocalSamplingClient,
        prompt: types.ModelInput,
        wanted: Completion,
    ) -> list[dict[str, Any]]:
        likeliest: list[Topk] = []
        if wanted.logprobs and wanted.top_logprobs:
            tokens = [list(sequence.tokens) for sequence in sequences]
            found = client.topk_logprobs(prompt, wanted.top_logprobs, tokens)
            likeliest = (await asyncio.wrap_future(found.future()))[1:]
        return [
            self._choice(i, sequence, wanted, likeliest[i] if likeliest else None)
            for i, sequence in enumerate(sequences)
        ]

    async def _client(self, model: str) -> LocalSamplingClient:
        """Samples with the model of this name, loaded if need be."""
        sampler_id = f"{OWNER}:sample:{model}"
        if sampler_id not in self.core.samplers:
            is_path = model.startswith("tinker://")
            self.core.check_model(None if is_path else model, status=404)
            self.core.add_sampler(sampler_id, None if is_path else model, model if is_path else None)
        return await self.core.samplers.client(sampler_id)

    def _prompt(self, wanted: Completion) -> types.ModelInput:
        if self._renderer is None:
            self._renderer = Renderer(load_processing(self.core.options.model_name))
        pictures: list[bytes] = []
        messages = []
        for message in wanted.messages:
            content: Any = message.content
            if not isinstance(content, str):
                pictures += [_picture(part) for part in content if part.type == "image_url"]
                content = [
                    {"type": "image"} if part.type == "image_url" else {"type": "text", "text": part.text}
                    for part in content
                ]
            messages.append({"role": "system" if message.role == "developer" else message.role, "content": content})
        return self._renderer.conversation(messages, pictures)

    def _params(self, wanted: Completion) -> types.SamplingParams:
        assert self._renderer is not None
        strings = wanted.stops
        if any(not string for string in strings):
            raise Refused(422, "stop: an empty string ends every answer")
        stop: Any = [*self._renderer.stop_token_ids, *strings]  # the SDK's type takes either; the engine takes both
        return types.SamplingParams.model_construct(
            max_tokens=wanted.longest,
            seed=wanted.seed,
            stop=stop,
            temperature=wanted.temperature,
            top_k=-1,
            top_p=wanted.top_p,
        )

    def _choice(
        self, index: int, sequence: types.SampledSequence, wanted: Completion, likeliest: Topk | None
    ) -> dict[str, Any]:
        assert self._renderer is not None
        text = before_stop(self._renderer.decode(sequence.tokens), wanted.stops)
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": sequence.stop_reason,
            "logprobs": None,
        }
        if wanted.logprobs:
            pairs = zip(sequence.tokens, sequence.logprobs or (), strict=True)
            content = [self._token(token, logprob) | {"top_logprobs": []} for token, logprob in pairs]
            if likeliest is not None:
                for entry, tokens, values in zip(content, *likeliest, strict=True):
                    entry["top_logprobs"] = [self._token(t, v) for t, v in zip(tokens, values, strict=True)]
            choice["logprobs"] = {"content": content}
        return choice

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        assert self._renderer is not None
        text = self._renderer.tokenizer.decode([int(token)])
        own = None if "\ufffd" in text else list(text.encode())  # part of a letter has no text, and so no bytes of it
        return {"token": text, "logprob": max(float(logprob), -9999.0), "bytes": own}


def _picture(part: Part) -> bytes:
    url = part.image_url.url if part.image_url is not None else ""
    head, _, data = url.partition(",")
    kind = head.lower()
    if not (kind.startswith("data:image/") and kind.endswith(";base64")):
        shown = url[:60]
        raise Refused(422, f"image_url {shown!r}: only data:image/...;base64 is read; nothing is fetched from here")
    try:
        letters = "".join(data.split()).translate(_OF_URLS)  # encoders break lines, and write for addresses
        return base64.b64decode(letters, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, f"image_url: not base64 ({error})") from None


def _about(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "geospot"}


def _usage(prompt: types.ModelInput, sequences: Sequence[types.SampledSequence]) -> dict[str, int]:
    n_out = sum(len(sequence.tokens) for sequence in sequences)
    return {"prompt_tokens": prompt.length, "completion_tokens": n_out, "total_tokens": prompt.length + n_out}
