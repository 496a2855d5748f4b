"""The bootstrap: metrics over resampled places, for one model or for several on the same resamples.

Places are drawn, not pictures: where a place has several pictures they are drawn together (the cluster bootstrap,
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from geospot.scoring.metrics.summary import LEVELS, Predictions, columns

N_RESAMPLES = 2000
# Draws held at once by a thread: 1 million counts are 8 MB.
_BLOCK_DRAWS = 1_000_000
_STRIDE = 256  # places summed together on the way to a median


def resample(
    models: Sequence[Predictions], n_resamples: int = N_RESAMPLES, seed: int = 0, keys: Sequence[str] | None = None
) -> list[dict[str, np.ndarray]]:
    """For each model the resampled values (n_resamples,) of each metric (`keys`: of these only).

    All models must be over the same pictures in the same order: they are resampled together. The values depend neither
    on the order of the pictures, nor on the number of threads, nor on which other models are resampled beside one: the
    draws are numbered by where the places are.
    """
    first = models[0]
    for other in models[1:]:
        if len(other) != len(first) or not np.array_equal(other.place, first.place):
            raise ValueError("models must be over the same pictures in the same order to be resampled together")
    tables = [columns(model) for model in models]
    if keys is not None:
        if missing := [key for key in keys if key not in tables[0]]:
            raise ValueError(f"{missing[0]!r} is no metric; there are {', '.join(tables[0])}")
        tables = [{key: table[key] for key in keys} for table in tables]
    # Sorted by the values: then medians need no further sorting, and the order of the pictures does not matter.
    distances = [model.distance_km for model in models]
    levels = [getattr(model, f"{level}_hit") for model in models for level in LEVELS]
    order = np.lexsort([*levels, *distances[::-1]])
    place = _numbered(first, order)
    n_places = int(place.max()) + 1
    statistics = [_Statistics({key: column[order] for key, column in table.items()}) for table in tables]
    blocks = draw_blocks(n_places, len(order), n_resamples)
    in_order = np.array_equal(place, np.arange(len(order)))

    def work(block: tuple[int, int]) -> list[dict[str, np.ndarray]]:
        counts = draw_counts(n_places, block[1], seed, block[0])
        counts = counts if in_order else np.take(counts, place, axis=1)
        return [statistic(counts) for statistic in statistics]

    if len(blocks) == 1:
        parts = [work(blocks[0])]
    else:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            parts = list(pool.map(work, blocks))
    return [{key: np.concatenate([part[i][key] for part in parts]) for key in table} for i, table in enumerate(tables)]


def _numbered(model: Predictions, order: np.ndarray) -> np.ndarray:
    """The number of the place of each picture (N,) in this order; places are numbered by where they are.

    Different places at the same coordinates come in this order.
    """
    by_truth = np.lexsort([model.truth_lon[order], model.truth_lat[order]])  # stable
    _, start, place = np.unique(model.place[order][by_truth], return_index=True, return_inverse=True)
    numbered = np.empty(len(order), np.int64)
    numbered[by_truth] = np.argsort(np.argsort(start))[place]
    return numbered


def draw_blocks(n_places: int, n: int, n_resamples: int) -> list[tuple[int, int]]:
    """(number, rows) of the blocks of resamples that are drawn at once."""
    rows = max(1, min(n_resamples, _BLOCK_DRAWS // max(n_places, n)))
    return [(i, min(rows, n_resamples - start)) for i, start in enumerate(range(0, n_resamples, rows))]


def draw_counts(n: int, rows: int, seed: int, block: int) -> np.ndarray:
    """(rows, n) int64: how often each of n places comes up in n draws with replacement, one resample per row."""
    rng = np.random.default_rng([seed, block])
    draws = rng.integers(n, size=(rows, n), dtype=np.uint32)
    return np.bincount((draws + np.arange(0, rows * n, n)[:, None]).ravel(), minlength=rows * n).reshape(rows, n)


class _Statistics:
    """Metrics of resamples, from what each picture contributes to each; equal columns are summed once.

    Whole numbers are summed in float32, which is exact to 16.7 million of them and twice as fast.
    """

    def __init__(self, table: dict[str, np.ndarray]) -> None:
        self.table = table
        n = len(next(iter(table.values())))
        self._wide, self._narrow = _Columns(np.float64, n), _Columns(np.float32, n)
        self._means: dict[str, tuple[_Columns, int, int]] = {}
        for key, column in table.items():
            if key.endswith("median_km"):
                continue
            present = ~np.isnan(column)
            values = np.where(present, column, 0.0)
            exact = len(column) < 1 << 24 and np.array_equal(values, values.astype(bool))
            sums = self._narrow if exact else self._wide
            self._means[key] = sums, sums.add(values), self._narrow.add(present)
        _ = self._wide.matrix, self._narrow.matrix  # made here, not by several threads at once
        self._medians = _Medians({key: column for key, column in table.items() if key.endswith("median_km")})

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric (rows,) of resamples with `counts` (rows, N); NaN where nothing takes part."""
        sums = {group: group.sums(counts) for group in (self._wide, self._narrow)}
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
            means = {
                key: sums[group][:, top] / sums[self._narrow][:, bottom].astype(np.float64)
                for key, (group, top, bottom) in self._means.items()
            }
        found = means | self._medians(counts)
        return {key: found[key] for key in self.table}


class _Columns:
    """Different columns (N,) that are summed together, as one matrix product."""

    def __init__(self, dtype: type, n: int) -> None:
        self.dtype, self._n, self._known, self._parts = dtype, n, {}, []

    def add(self, values: np.ndarray) -> int:
        """The number of a column, old or new."""
        values = values.astype(self.dtype)
        number = self._known.setdefault(values.tobytes(), len(self._parts))
        if number == len(self._parts):
            self._parts.append(values)
        return number

    def sums(self, counts: np.ndarray) -> np.ndarray:
        """(rows, columns)."""
        return counts.astype(self.dtype) @ self.matrix

    @cached_property
    def matrix(self) -> np.ndarray:
        """(N, columns); to be asked for when all are added."""
        return np.stack(self._parts, axis=1) if self._parts else np.empty((self._n, 0), self.dtype)


class _Medians:
    """Medians of columns of values (N,), NaN left out, each value taken `counts` (rows, N) times.

    Columns that differ only in how many of the last are left out (the answered of all) are sorted once.
    """

    def __init__(self, table: dict[str, np.ndarray]) -> None:
        self._columns = []  # (key, whether it shares the order of the one before it, order, sorted values)
        before = np.empty(0, np.int64)
        for key, values in table.items():
            order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]  # NaN sorts last
            shared = 0 < len(order) <= len(before) and np.array_equal(order, before[: len(order)])
            before = before if shared else order
            self._columns.append((key, shared, order, values[order]))

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        found, ranked = {}, counts
        for key, shared, order, values in self._columns:
            if len(order) == 0:
                found[key] = np.full(len(counts), np.nan)
                continue
            if not shared:
                already = np.array_equal(order, np.arange(len(order)))
                ranked = counts if already else np.take(counts, order, axis=1)
            found[key] = _median(ranked[:, : len(order)], values)
        return found


def _median(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Median (rows,) of ascending values (M,) taken `counts` (rows, M) times; of an even count the middle two's mean.

    Counts are summed in strides first, so that only one stride has to be searched.
    """
    width = min(_STRIDE, len(values))
    below = np.cumsum(np.add.reduceat(counts, np.arange(0, len(values), width), axis=1), axis=1)  # (rows, strides)
    total, rows = below[:, -1], np.arange(len(counts))

    def at(rank: np.ndarray) -> np.ndarray:
        stride = np.argmax(below > rank[:, None], axis=1)
        before = np.where(stride > 0, below[rows, stride - 1], 0)
        inside = np.minimum(stride[:, None] * width + np.arange(width), len(values) - 1)  # (rows, width)
        reached = before[:, None] + np.cumsum(counts[rows[:, None], inside], axis=1) > rank[:, None]
        return values[inside[rows, np.argmax(reached, axis=1)]]

    return np.where(total > 0, (at((total - 1) // 2) + at(total // 2)) / 2, np.nan)
