"""The batches of a run: read one step ahead by a thread, each with the position of the data behind it."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geospot.data.labels import LabelFiller
from geospot.data.samples import Sample, SkipCounter
from geospot.data.stream import SampleStream
from geospot.models.prompt import Renderer
from geospot.training.pools import Pools, Standing


@dataclass(frozen=True)
class Position:
    """Where the data stands before a step, as the stream's JSON, what had been skipped by then, what is drawn by."""

    stream: dict
    skipped: SkipCounter
    pools: Standing | None


@dataclass(frozen=True)
class _Read:
    samples: list[Sample]
    behind: Position


class Batches:
    """`of(step)` gives the samples of a step. A context manager, which closes the stream.

    The pictures of a batch are rendered where they are read: rendering goes on while the engine works.
    """

    def __init__(
        self, stream: SampleStream, renderer: Renderer, batch_size: int, first_step: int, pools: Pools | None = None
    ) -> None:
        """Nothing is read before somebody asks for the first batch. `pools`: what pictures are drawn by; None: all."""
        self.stream, self.labels, self._pools = stream, LabelFiller(), pools
        self._renderer, self._size = renderer, batch_size
        self._step, self._samples = first_step - 1, []
        self._positions = {first_step: self._position()}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="geospot-data")
        self._next: Future[_Read] | None = None

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exc: object) -> None:
        self.stream.close()  # wakes the thread where it waits for a sample
        self._thread.shutdown()

    def of(self, step: int) -> list[Sample]:
        """The samples of the step at hand or of the next one, behind which the following batch is read meanwhile.

        An error of the reader stays: it is raised again for whoever asks for the same step.
        """
        if step == self._step + 1:
            self._next = self._next or self._submit(step)
            read = self._next.result()
            self._step, self._samples = step, read.samples
            self._positions = {step: self._positions[step], step + 1: read.behind}
            self._next = self._submit(step + 1)
        elif step != self._step:
            raise ValueError(f"step={step}: batches are read in order, and step {self._step} is at hand")
        return self._samples

    def readable(self, step: int) -> bool:
        """Whether `of(step)` gives samples rather than the reader's error."""
        try:
            self.of(step)
        except Exception:
            return False
        return True

    def position(self, step: int) -> Position:
        """Where the data stands before a step, which is the one at hand or the one behind it."""
        return self._positions[step]

    def state(self, step: int) -> dict[str, Any]:
        """JSON: what a run needs to read the batch of a step and those behind it, as this one would."""
        position = self.position(step)
        state: dict[str, Any] = {"stream": position.stream}
        return state | {"pools": self._pools.state(position.pools)} if self._pools and position.pools else state

    def learn(self, step: int, samples: list[Sample], rewards_BG: np.ndarray, advantages_BG: np.ndarray) -> None:
        """Take in what the groups of a step earned: later batches may be drawn by it."""
        if self._pools:
            self._pools.learn(step, samples, (advantages_BG != 0).any(axis=1), rewards_BG.mean(axis=1))

    def metrics(self, step: int) -> dict[str, float]:
        """What had come of the data before a step."""
        position = self.position(step)
        pools = position.pools.metrics() if position.pools else {}
        return {"samples_skipped": position.skipped.total()} | pools

    def report(self, step: int) -> str:
        """What had been skipped before a step, what the network did, and what was found in the labels, in words."""
        pools = self.position(step).pools
        lines = [pools.report()] if pools else []
        if skipped := self.position(step).skipped:
            lines.append(f"samples skipped: {skipped}")
            lines += [f"  {reason}, for example: {found[0]}" for reason, found in skipped.examples.items()]
        if retries := self.stream.source.retries:
            lines.append("the network: " + ", ".join(f"{what} {n}" for what, n in retries.most_common()))
        if self.labels.changed:
            lines.append(f"labels of the samples read in this session:\n{self.labels.report.summary()}")
        return "\n".join(lines)

    def _position(self) -> Position:
        return Position(self.stream.state(), self.stream.skipped.copy(), self._pools.standing if self._pools else None)

    def _submit(self, step: int) -> Future[_Read]:
        """Have the batch of a step read, by the results that it may go by."""
        if self._pools:
            self._positions[step] = replace(self._positions[step], pools=self._pools.settle(step))
        return self._thread.submit(self._read)

    def _read(self) -> _Read:
        # The position, too, in this thread, which by the time it is used is at the next batch.
        take = self.stream.take
        samples = self.labels(self._pools.choose(take, self._size) if self._pools else take(self._size))
        for sample in samples:
            for picture in sample.pictures:
                with suppress(ValueError):  # raised again where the picture is used
                    self._renderer.image_chunk(picture)  # kept by the renderer
        return _Read(samples, self._position())
