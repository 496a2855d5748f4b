"""Sampling one step ahead: the next step's answers are asked for while this step's train the weights."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from geospot.loop import Loop
from geospot.rollout import Rollouts


class Ahead:
    """Hands out each step's rollouts. With `overlap` they are sampled with weights that lack the last update.

    `ask(sampler, samples, step)` samples. A context manager. What it has read ahead is not counted as read by the
    loop until it is handed out, so that a run that is stopped asks for it again (then with the weights of that step).
    """

    def __init__(self, loop: Loop, ask: Callable[..., Rollouts], *, overlap: bool):
        self._loop, self._ask, self._overlap = loop, ask, overlap
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="geospot-ahead")
        self._pending = None

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, sampler, step: int) -> Rollouts:
        """The rollouts of a step; `sampler` has the weights as they are."""
        loop = self._loop
        if self._pending is None:
            rollouts = self._ask(sampler, loop, loop.next_batch(), step)
        else:
            future, position = self._pending
            self._pending, rollouts, loop.data_position = None, future.result(), position
        if self._overlap and step + 1 < loop.config.max_steps:
            before = loop.data_position
            samples = loop.next_batch()
            self._pending = self._pool.submit(self._ask, sampler, loop, samples, step + 1), loop.data_position
            loop.data_position = before
        return rollouts
