"""The model as an opponent: asked ahead in a thread of its own, so that nobody waits for it."""

import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from geospot.asking.guesser import Guess, Guesser
from geospot.data.samples import Sample
from geospot.earth.distance import haversine_km
from geospot.errors import GeospotError


class Opponent:
    """Guesses places one after another, those that are asked for first first; each only once."""

    def __init__(self, make: Callable[[], Guesser], title: str, samples: int) -> None:
        """`make` opens the model, in the thread; `samples`: answers per place."""
        self.title, self.samples = title, samples
        self._make = make
        self._asked: dict[str, Future[Guess]] = {}
        self._jobs: queue.SimpleQueue[tuple[Sample, Future[Guess]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ask(self, samples: Sequence[Sample]) -> None:
        """Ask about places that have not been asked about."""
        for sample in samples:
            if sample.key not in self._asked:
                self._asked[sample.key] = Future()
                self._jobs.put((sample, self._asked[sample.key]))

    def guess(self, sample: Sample) -> Guess:
        """The guess for a place; waits for it."""
        self.ask([sample])
        return self._asked[sample.key].result()

    def close(self) -> None:
        """Free the model once the guess in progress is done."""
        self._jobs.put(None)

    def _work(self) -> None:
        guesser: Guesser | None = None
        try:
            while (job := self._jobs.get()) is not None:
                sample, future = job
                try:
                    guesser = guesser or self._make()
                    future.set_result(guesser.guess_place(sample, samples=self.samples))
                except Exception as error:  # the game goes on without this answer, and says why
                    future.set_exception(error if isinstance(error, GeospotError) else GeospotError(str(error)))
        finally:
            if guesser is not None:
                guesser.close()


def guess_json(guess: Guess, sample: Sample, decay_km: float, most: int = 6) -> dict[str, Any]:
    """A guess beside the truth, as the page shows it."""
    candidates = [
        {"lat": c.lat, "lon": c.lon, "share": c.mass, "title": c.title, "disagreement": c.disagreement}
        for c in guess.candidates[:most]
    ]
    words = guess.texts[0] if guess.texts else ""
    if guess.lat is None or guess.lon is None:
        return {"ok": False, "points": 0, "words": words, "candidates": [], "reason": ", ".join(guess.failures[:1])}
    km = float(haversine_km(sample.place.lat, sample.place.lon, guess.lat, guess.lon))
    return {
        "ok": True, "lat": guess.lat, "lon": guess.lon, "km": km, "points": points(km, decay_km), "words": words,
        "candidates": candidates, "radius_km": guess.radius_km, "probability": guess.probability,
        "unlike": guess.unlike,
    }  # fmt: skip


def points(km: float | None, decay_km: float) -> int:
    """GeoGuessr points of a distance; 0 for none."""
    return 0 if km is None else round(5000 * math.exp(-km / decay_km))
