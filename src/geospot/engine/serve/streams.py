"""Answers of the chat endpoint as server-sent events, word by word while the engine draws them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

UNFINISHED = "\ufffd"  # what a decoder makes of the first bytes of a character


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first of these strings in it."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]


class Hearing:
    """The tokens of each answer so far: reported by the engine's thread, heard in the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._latest: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}
        self.news = asyncio.Event()

    def __call__(self, member: int, tokens: list[int]) -> None:
        """For the engine: these are the tokens of an answer by now."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._hear, member, tokens)

    def _hear(self, member: int, tokens: list[int]) -> None:
        self._latest[member], self._lengths[member] = tokens, len(tokens)
        self.news.set()

    @property
    def n_tokens(self) -> int:
        """How many have been heard of, of all answers."""
        return sum(self._lengths.values())

    def take(self) -> dict[int, list[int]]:
        """What is new since the last time, by answer; of an answer only the newest."""
        self.news.clear()
        latest, self._latest = self._latest, {}
        return latest


class Pieces:
    """Cuts growing texts into pieces that stay: nothing is sent that a later token would take back."""

    def __init__(self, stops: Sequence[str]):
        self.stops = stops
        self._sent: dict[int, str] = {}

    def more(self, index: int, text: str, *, whole: bool = False) -> str:
        """What of an answer's text so far can be sent now and was not; all of it once it is `whole`."""
        text = before_stop(text, self.stops)
        if not whole:
            text = text.rstrip(UNFINISHED)
            # The end may be the beginning of a stop string.
            held = max((n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
            text = text[: len(text) - held]
        sent = self._sent.get(index, "")
        if not text.startswith(sent):  # a decoder that changes its mind: the rest comes with the end
            return ""
        self._sent[index] = text
        return text[len(sent) :]


@dataclass(frozen=True)
class Whole:
    """All of an answer: the choices as without streaming, and its tokens where the client asked for them."""

    choices: list[dict[str, Any]]
    usage: dict[str, int] | None


def event(head: dict[str, Any], index: int, delta: dict[str, Any], finish_reason: str | None, logprobs: Any) -> str:
    """One chunk."""
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}
    return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


class Events(StreamingResponse):
    """Events as they come. Its line in the log is due once it has ended: `on_end` is called then."""

    media_type = "text/event-stream"
    is_whole = False  # all was sent
    on_end: Callable[[], None] | None = None

    async def stream_response(self, send: Send) -> None:
        """Starlette calls this."""
        await super().stream_response(send)
        self.is_whole = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette calls this; it raises, or returns early, where the client's connection breaks."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()  # nobody listens on: its requests are given up now
            if self.on_end is not None:
                self.on_end()


async def stream(
    head: dict[str, Any],
    hearing: Hearing,
    done: "asyncio.Future[Whole]",
    decode: Callable[[Sequence[int]], str],
    pieces: Pieces,
    give_up: Callable[[], None],
) -> AsyncGenerator[str]:
    """Chunks as they come, then what `done` holds beyond them; `give_up` is called where nobody listens on."""
    started: set[int] = set()

    def opened(index: int) -> list[str]:
        if index in started:
            return []
        started.add(index)
        return [event(head, index, {"role": "assistant", "content": ""}, None, None)]

    try:
        while not done.done():
            news = asyncio.ensure_future(hearing.news.wait())
            await asyncio.wait([done, news], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            for index, tokens in hearing.take().items():
                if piece := pieces.more(index, decode(tokens)):
                    for text in [*opened(index), event(head, index, {"content": piece}, None, None)]:
                        yield text
        found = done.result()
        for choice in found.choices:
            index, logprobs = choice["index"], choice["logprobs"]
            rest = pieces.more(index, choice["message"]["content"], whole=True)
            for text in opened(index):
                yield text
            if rest or logprobs:
                yield event(head, index, {"content": rest}, None, logprobs)
            yield event(head, index, {}, choice["finish_reason"], None)
        if found.usage is not None:
            last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": found.usage}
            yield f"data: {json.dumps(last)}\n\n"
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status has been sent
        yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'server_error'}})}\n\n"
    finally:
        if not done.done():
            done.cancel()
            give_up()
