"""WebDataset shards: written whole, streamed in a seeded order, resumed where a run stopped."""

import glob
import io
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from geospot.data.samples import BadSample, Sample, SkipCounter, read_sample
from geospot.files import write_bytes_atomic


class DataError(RuntimeError):
    """A data source cannot be used; the message names it, the reason and the mend."""


def find_shards(source: str, key: str = "data") -> list[str]:
    """The shards behind a folder, a tar file, a glob or a list file (.txt, a path a line); DataError if none.

    `key` is the setting that named the source, for the message.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        shards = sorted(str(p) for p in path.rglob("*.tar"))
        what = f"the folder {source} holds no .tar file"
    elif path.suffix == ".txt" and path.is_file():
        lines = (line.strip() for line in path.read_text().splitlines())
        shards = [str(path.parent / line) for line in lines if line and not line.startswith("#")]
        what = f"the list {source} names no shard"
    elif path.is_file():
        shards, what = [str(path)], ""
    else:
        shards = sorted(glob.glob(str(path)))
        what = f"nothing matches {source}"
    if not shards:
        raise DataError(
            f"{key}={source!r}: {what}. Give a folder of .tar shards, a glob such as 'shards/*.tar', or bluemarble"
        )
    missing = [shard for shard in shards if not Path(shard).is_file()]
    if missing:
        raise DataError(f"{key}={source!r}: {len(missing)} of {len(shards)} shards are missing, the first {missing[0]}")
    return shards


def write_shard(path: str | Path, samples: Iterable[Sample]) -> None:
    """Write samples as one tar, whole or not at all; the same samples give the same bytes."""
    import webdataset as wds

    out = io.BytesIO()
    with wds.TarWriter(out, mtime=0, user="geospot", group="geospot") as writer:
        for sample in samples:
            place = sample.place
            fields = {"lat": place.lat, "lon": place.lon}
            fields |= {n: getattr(place, n) for n in ("city", "region", "country") if getattr(place, n) is not None}
            names = ["jpg"] if len(sample.pictures) == 1 else [f"{i:03d}.jpg" for i in range(len(sample.pictures))]
            group = {"__key__": sample.key, "json": json.dumps(fields, ensure_ascii=False).encode()}
            writer.write(group | dict(zip(names, sample.pictures, strict=True)))
    write_bytes_atomic(path, out.getvalue())


def _raw_groups(shards: Sequence[str], skipped: SkipCounter) -> Iterator[dict]:
    """The groups of the shards in order; a damaged shard gives what precedes the damage, counted and warned of."""
    import webdataset as wds

    told: set[str] = set()

    def damaged(error: BaseException) -> bool:
        text = str(error.args)
        shard = next((s for s in shards if f"'{s}'" in text), text)  # webdataset tells of the same damage twice
        if shard not in told:
            told.add(shard)
            skipped["damaged shard"] += 1
            warnings.warn(f"{shard} is damaged, its rest is skipped: {error}", stacklevel=2)
        return True

    files = wds.tariterators.url_opener([{"url": shard} for shard in shards], handler=damaged)
    members = wds.tariterators.tar_file_expander(files, handler=damaged)
    yield from wds.tariterators.group_by_keys(members, handler=damaged)


def read_samples(shards: Sequence[str], skipped: SkipCounter) -> Iterator[Sample]:
    """All good samples of the shards in order; the bad ones are counted by reason."""
    for group in _raw_groups(shards, skipped):
        try:
            yield read_sample(group)
        except BadSample as error:
            skipped[error.reason] += 1


class ShardStream:
    """An endless, seeded stream of samples: shards in a new order each epoch, shuffled in a buffer.

    `state()` is the position after the sample yielded last; a stream made with `start=state` goes on with the next.
    The order depends on the seed and the position alone.
    """

    def __init__(self, shards: Sequence[str], *, seed: int, buffer: int = 1000, start: dict | None = None):
        self.shards, self.seed, self.buffer = list(shards), seed, buffer
        start = start or {"epoch": 0, "yielded": 0}
        self._epoch, self._yielded = start["epoch"], start["yielded"]
        self.skipped = SkipCounter(start.get("skipped", {}))
        self._skipped_before = dict(self.skipped)  # the present epoch, which a resumed stream reads again
        self._samples = self._stream()

    def state(self) -> dict:
        """Epochs finished, samples given in the current one, and what was skipped before it, by reason."""
        return {"epoch": self._epoch, "yielded": self._yielded, "skipped": self._skipped_before}

    def __iter__(self):
        return self

    def __next__(self) -> Sample:
        return next(self._samples)

    def take(self, n: int) -> list[Sample]:
        """The next `n` samples."""
        return [next(self) for _ in range(n)]

    def _epoch_samples(self, epoch: int) -> Iterator[Sample]:
        rng = np.random.default_rng([self.seed, epoch])
        held: list[Sample] = []
        for sample in read_samples([self.shards[i] for i in rng.permutation(len(self.shards))], self.skipped):
            if len(held) < self.buffer:
                held.append(sample)
                continue
            i = int(rng.integers(len(held)))
            held[i], sample = sample, held[i]
            yield sample
        for i in rng.permutation(len(held)):
            yield held[i]

    def _stream(self) -> Iterator[Sample]:
        while True:
            done = self._yielded
            for i, sample in enumerate(self._epoch_samples(self._epoch)):
                if i >= done:
                    self._yielded = i + 1
                    yield sample
            if self._yielded == 0:
                raise DataError(
                    f"no usable sample in {len(self.shards)} shards (the first is {self.shards[0]}); "
                    f"skipped: {self.skipped}"
                )
            self._epoch, self._yielded, self._skipped_before = self._epoch + 1, 0, dict(self.skipped)
