"""The model behind the pages, in a thread of its own: asked ahead as an opponent, and about visitors' photos."""

import itertools
import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from geospot.asking.guesser import Guess, Guesser
from geospot.data.samples import Sample
from geospot.earth.distance import haversine_km
from geospot.errors import GeospotError

CIRCLES = (0.5, 0.9)  # the probabilities whose radii the pages draw
Work = Callable[[Guesser], Guess]


class Opponent:
    """Works one job after another, what somebody waits for first. A place of a game is guessed only once."""

    def __init__(self, make: Callable[[], Guesser], title: str, samples: int) -> None:
        """`make` opens the model, in the thread; `samples`: answers per place or photo."""
        self.title, self.samples = title, samples
        self.opened = False  # whether the model is there, so that an answer takes no longer than an answer
        self._make = make
        self._asked: dict[str, tuple[Work, Future[Guess]]] = {}
        self._numbers = itertools.count()
        self._jobs: queue.PriorityQueue[tuple[int, int, Work | None, Future[Guess]]] = queue.PriorityQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, work: Work, order: int = 0) -> Future[Guess]:
        """A job: what it makes of the model. Those of a lower `order` come first, then those that came first."""
        future: Future[Guess] = Future()
        self._put(work, future, order)
        return future

    def _put(self, work: Work | None, future: Future[Guess], order: int) -> None:
        self._jobs.put((order, next(self._numbers), work, future))

    def ask(self, samples: Sequence[Sample], order: int = 1) -> None:
        """Ask about places that have not been asked about, or not with success."""
        for sample in samples:
            _, future = self._asked.get(sample.key, (None, None))
            if future is None or (future.done() and future.exception() is not None):
                work = partial(_guess_place, sample, self.samples)
                self._asked[sample.key] = work, self.submit(work, order)

    def guess(self, sample: Sample) -> Guess:
        """The guess for a place; waits for it, and places that are asked ahead wait for this one."""
        self.ask([sample], order=0)
        work, future = self._asked[sample.key]
        self._put(work, future, 0)  # it may be far behind: of two turns the second finds it done
        return future.result()

    def close(self) -> None:
        """Free the model once the guess in progress is done."""
        self._put(None, Future(), -1)

    def _work(self) -> None:
        guesser: Guesser | None = None
        try:
            while True:
                _, _, work, future = self._jobs.get()
                if work is None:
                    return
                if future.done() or not future.set_running_or_notify_cancel():
                    continue
                try:
                    guesser = guesser or self._make()
                    future.set_result(work(guesser))
                    self.opened = True
                except Exception as error:  # the page goes on without this answer, and says why
                    future.set_exception(error if isinstance(error, GeospotError) else GeospotError(str(error)))
        finally:
            if guesser is not None:
                guesser.close()


def _guess_place(sample: Sample, samples: int, guesser: Guesser) -> Guess:
    return guesser.guess_place(sample, samples=samples)


def guess_json(guess: Guess, most: int = 6) -> dict[str, Any]:
    """A guess as the pages show it: ranked places, and circles of [probability, radius in km] around the first."""
    words = guess.texts[0] if guess.texts else ""
    if guess.lat is None or guess.lon is None:
        return {"ok": False, "words": words, "candidates": [], "reason": ", ".join(guess.failures[:1])}
    candidates = [
        {"lat": c.lat, "lon": c.lon, "share": c.mass, "title": c.title, "disagreement": c.disagreement}
        for c in guess.candidates[:most]
    ]
    radii = [(probability, guess.radius_at(probability)) for probability in CIRCLES]
    return {
        "ok": True, "lat": guess.lat, "lon": guess.lon, "words": words, "candidates": candidates,
        "circles": [[probability, km] for probability, km in radii if km is not None],
        "calibrated_on": guess.calibrated_on, "unlike": guess.unlike,
    }  # fmt: skip


def against_json(guess: Guess, sample: Sample, decay_km: float) -> dict[str, Any]:
    """A guess beside the truth: with its distance in km and its points."""
    km = None
    if guess.lat is not None and guess.lon is not None:
        km = float(haversine_km(sample.place.lat, sample.place.lon, guess.lat, guess.lon))
    return guess_json(guess) | {"km": km, "points": points(km, decay_km)}


def points(km: float | None, decay_km: float) -> int:
    """GeoGuessr points of a distance; 0 for none."""
    return 0 if km is None else round(5000 * math.exp(-km / decay_km))
