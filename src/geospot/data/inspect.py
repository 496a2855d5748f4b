"""Looking through a whole source once: what it holds and what is wrong with it.

Numbers are kept, no pictures: 34 bytes a place and 16 a picture, in arrays. What an example is called is read again
from the source.
"""

import heapq
import warnings
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from geospot.data.decode import decode_in_order
from geospot.data.facts import Facts, digest, fact_decoder
from geospot.data.fields import USUAL, Columns
from geospot.data.lanes import Lanes
from geospot.data.records import Record, Source
from geospot.data.samples import BadSample, SkipCounter
from geospot.earth.place import Place
from geospot.earth.truth import LEVELS, LabelReport, normalise_truths
from geospot.errors import DataError

LABEL_BATCH = 512  # places that are located together
REMOTE_PARTS = 8  # read at once over a network
GRID = 1e-5  # degrees; about a metre: coordinates that agree to it are the same
DISAGREEMENTS = 12


@dataclass
class Inspection:
    """What a pass over a source found. Row i of the place arrays is the i-th good place.

    stopped: why the pass ended early, or "". parts_read: parts that were read to their end.
    """

    source: Source
    columns: Columns = USUAL
    seed: int = 0
    parts_read: int = 0
    stopped: str = ""
    skipped: SkipCounter = field(default_factory=SkipCounter)
    labels: LabelReport = field(default_factory=LabelReport)
    disagreements: list[str] = field(default_factory=list)
    countries: Counter = field(default_factory=Counter)  # alpha-2 code, "" for none, "?" for a label nobody knows
    formats: Counter = field(default_factory=Counter)
    _keys: array = field(default_factory=lambda: array("Q"))
    _lat: array = field(default_factory=lambda: array("i"))  # in steps of GRID
    _lon: array = field(default_factory=lambda: array("i"))
    _part: array = field(default_factory=lambda: array("i"))
    _start: array = field(default_factory=lambda: array("q"))
    _length: array = field(default_factory=lambda: array("I"))
    _shown: array = field(default_factory=lambda: array("H"))  # pictures a place
    _digests: array = field(default_factory=lambda: array("Q"))
    _nbytes: array = field(default_factory=lambda: array("I"))
    _width: array = field(default_factory=lambda: array("H"))
    _height: array = field(default_factory=lambda: array("H"))
    _sheet: list[tuple[int, int]] = field(default_factory=list)  # a heap of (-priority, row)
    _unlabelled: list[tuple[str, Place]] = field(default_factory=list)

    # -- while it is read

    def add(self, part: int, key: str, start: int, end: int, facts: Facts, sheet: int = 0) -> None:
        """Count a good record; `sheet` of all are drawn for the contact sheet."""
        hashed = digest(key.encode())
        self._keys.append(hashed)
        self._lat.append(round(facts.place.lat / GRID))
        self._lon.append(round(facts.place.lon / GRID))
        self._part.append(part)
        self._start.append(start)
        self._length.append(end - start)
        self._shown.append(min(len(facts.pictures), 65_535))
        for picture in facts.pictures:
            self._digests.append(picture.digest)
            self._nbytes.append(min(picture.nbytes, 2**32 - 1))
            self._width.append(min(picture.width, 65_535))
            self._height.append(min(picture.height, 65_535))
            self.formats[picture.format] += 1
        if sheet:  # the places whose seeded hash is lowest: a fair draw, whatever the order of reading
            priority = -digest(f"{self.seed}/{key}/{part}/{start}".encode())
            heapq.heappush(self._sheet, (priority, len(self._keys) - 1))
            if len(self._sheet) > sheet:
                heapq.heappop(self._sheet)
        self._unlabelled.append((key, facts.place))
        if len(self._unlabelled) >= LABEL_BATCH:
            self.locate()

    def locate(self) -> None:
        """Look up the labels of the places that were added since."""
        waiting, self._unlabelled = self._unlabelled, []
        if not waiting:
            return
        places, report = normalise_truths([place for _, place in waiting])
        self.labels.places += report.places
        for name in ("given", "filled", "unknown", "disagree"):
            for level in LEVELS:
                getattr(self.labels, name)[level] += getattr(report, name)[level]
        by_point = {f"at {place.lat}, {place.lon} is": key for key, place in waiting}
        for example in report.examples[: DISAGREEMENTS - len(self.disagreements)]:
            key = next((key for point, key in by_point.items() if point in example), "")
            self.disagreements.append(f"{key}: {example}")
        self.countries.update(_country(place) for place in places)

    # -- when it is read

    @property
    def places(self) -> int:
        """Good ones."""
        return len(self._keys)

    @property
    def pictures(self) -> int:
        """Of good places."""
        return len(self._digests)

    @cached_property
    def keys(self) -> np.ndarray:
        """(places,) hashes."""
        return np.array(self._keys, np.uint64)

    @cached_property
    def digests(self) -> np.ndarray:
        """(pictures,) hashes."""
        return np.array(self._digests, np.uint64)

    @property
    def lat(self) -> np.ndarray:
        """(places,) degrees."""
        return np.array(self._lat, np.float64) * GRID

    @property
    def lon(self) -> np.ndarray:
        """(places,) degrees."""
        return np.array(self._lon, np.float64) * GRID

    @property
    def points(self) -> np.ndarray:
        """(places,) whole numbers, equal where coordinates are."""
        return (np.array(self._lat, np.int64) << 32) + np.array(self._lon, np.int64)

    @property
    def pictures_a_place(self) -> np.ndarray:
        """(places,)"""
        return np.array(self._shown, np.int64)

    def sizes(self) -> dict[str, np.ndarray]:
        """(pictures,) each: width and height in px, bytes."""
        found = {"width, px": self._width, "height, px": self._height, "bytes": self._nbytes}
        return {name: np.array(values, np.int64) for name, values in found.items()}

    def place_of_picture(self, picture: np.ndarray | int) -> np.ndarray:
        """Rows of the places that these pictures belong to."""
        return np.searchsorted(np.cumsum(self.pictures_a_place), picture, side="right")

    def record(self, row: int) -> Record | None:
        """A place's record, read again; None where that fails."""
        start = self._start[row]
        try:
            return self.source.fetch(self._part[row], start, start + self._length[row])
        except (OSError, DataError):
            return None

    def name(self, row: int) -> str:
        """What a place is called, for people: its key, or where it lies."""
        record = self.record(row)
        return record.key if record else f"{self.source.parts[self._part[row]]} at {self._start[row]}"

    def sheet(self) -> list[int]:
        """Rows of the places drawn for the contact sheet, in a random order."""
        return [row for _, row in sorted(self._sheet, reverse=True)]


def _country(place: Place) -> str:
    if not place.country:
        return ""
    return place.country if len(place.country) == 2 and place.country.isupper() else "?"


def inspect(
    source: Source,
    *,
    columns: Columns = USUAL,
    decode: bool = True,
    workers: int = 0,
    limit: int = 0,
    sheet: int = 0,
    seed: int = 0,
    advance: Callable[[Inspection], None] = lambda _: None,
) -> Inspection:
    """Read every record of a source once; with `limit` as many good places, of shards in a seeded order.

    decode: read pictures to their end, so that damaged ones are found. sheet: places drawn for a contact sheet.
    advance: told of the state after each record. A pass that Ctrl-C or a lost network ends gives what it found so far.
    """
    found = Inspection(source, columns, seed)
    n_parts = len(source.parts)
    order = np.random.default_rng(seed).permutation(n_parts) if limit else range(n_parts)
    width = min(REMOTE_PARTS if source.remote else 2, max(n_parts, 1))
    lanes = Lanes(source, [int(i) for i in order], width, found.skipped, columns=columns)
    reader = fact_decoder(columns, decode, workers)
    parts: deque[int] = deque()  # of the records on their way

    def records() -> Iterator[Record]:
        for part, record in lanes:
            parts.append(part)
            yield record

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*what cannot be read is skipped")  # it is in the report
            for record, read in decode_in_order(records(), reader):
                part = parts.popleft()
                if isinstance(read, BadSample):
                    found.skipped.count_bad(record.key, read)
                else:
                    found.add(part, record.key, record.start, record.end, read, sheet)
                found.parts_read = finished(lanes.state())
                advance(found)
                if limit and found.places >= limit:
                    found.stopped = f"limit={limit}"
                    break
        found.locate()
    except KeyboardInterrupt:
        found.stopped = "Ctrl-C"
    except DataError as error:
        found.stopped = str(error)
    finally:
        lanes.close()
        reader.close()
    if not found.stopped:
        found.parts_read = n_parts
    return found


def finished(lanes: dict) -> int:
    """Parts that were read to their end, from the state of `Lanes`."""
    return lanes["next"] - sum(cursor is not None for cursor in lanes["open"])
