"""What every plug needs: pictures with their true places, and the question.

They are those of a table of truths and a folder (`truth`, `images`), or the held-out ones of what `geospot eval` takes
as `data`, the embedded world unless another source is named. They are sent as our own models see them.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geospot.data.samples import SkipCounter
from geospot.data.sets import held_out_samples, held_out_sets
from geospot.data.world.mosaic import WorldConfig
from geospot.earth.place import Place
from geospot.errors import BadSample, DataError
from geospot.pictures import prepare_picture
from geospot.scoring.tables import read_table_truths

ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp", ".JPG", ".JPEG", ".PNG")
MAX_PIXELS = 512 * 512  # as in the configurations of geospot


@dataclass(frozen=True)
class Picture:
    """One place of a set: its key, its files (or their bytes) and where it is."""

    key: str
    files: tuple[Path | bytes, ...]
    place: Place

    @property
    def target(self) -> str:
        """The truth as text, which `geospot eval` reads in a log."""
        return f"{self.place.lat}, {self.place.lon}"

    @property
    def facts(self) -> dict[str, str | float]:
        """The truth by columns, those that are known."""
        at = self.place
        named = {"lat": at.lat, "lon": at.lon, "country": at.country, "region": at.region, "city": at.city}
        return {name: value for name, value in named.items() if value is not None}

    def encoded(self) -> list[tuple[bytes, str]]:
        """Its pictures with their formats ("jpeg", "png"), without metadata, of at most MAX_PIXELS pixels.

        DataError for a file that is no picture.
        """
        return [_prepared(self.key, file) for file in self.files]

    def data_uris(self) -> list[str]:
        """Its pictures as addresses that hold them."""
        return [f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}" for data, kind in self.encoded()]


def _prepared(key: str, file: Path | bytes) -> tuple[bytes, str]:
    try:
        return prepare_picture(file if isinstance(file, bytes) else file.read_bytes(), MAX_PIXELS)
    except (BadSample, OSError) as error:
        raise DataError(
            f"{key if isinstance(file, bytes) else file}: not a picture that can be read ({error})"
        ) from None


def find_pictures(
    truth: str | Path | None = None,
    images: str | Path | None = None,
    data: str | None = None,
    *,
    sets: tuple[str, ...] = (),
    places: int = 0,
) -> Iterator[Picture]:
    """Those of a table (`read_pictures`) or, without `truth`, the held-out ones of `data` (`held_out_pictures`).

    sets, places: as in `held_out_pictures`; of a table the first `places`.
    """
    if truth is None:
        if images is not None:
            raise DataError(f"images={images}: is the folder of the pictures of truth=TABLE, which is missing")
        yield from held_out_pictures(data or "bluemarble", sets=sets, places=places)
        return
    if data is not None or sets:
        raise DataError(f"truth={truth}: is a table of pictures, and data= and sets= are others; give one of them")
    found = read_pictures(truth, images)
    yield from found[:places] if places else found


def read_pictures(truth: str | Path, images: str | Path | None = None) -> list[Picture]:
    """The pictures of a table with a key and true coordinates (CSV, JSON, Parquet); `images` is the folder that keys
    are files of, with or without ending (None: the table's own). DataError for a picture that is not there.
    """
    truths, _ = read_table_truths(truth)
    folder = Path(truth).parent if images is None else Path(images)
    labels = {level: truths.labels.get(level) or [None] * len(truths) for level in ("country", "region", "city")}
    pictures = []
    for i, key in enumerate(truths.keys):
        path = next((at for end in ENDINGS if (at := folder / f"{key}{end}").is_file()), None)
        if path is None:
            raise DataError(f"{truth}: no picture for {key!r} in {folder}; give their folder, images=FOLDER")
        names = (labels[level][i] for level in ("city", "region", "country"))
        pictures.append(Picture(key, (path,), Place(float(truths.lat[i]), float(truths.lon[i]), *names)))
    return pictures


@dataclass(frozen=True)
class _Held:
    """See `geospot.data.sets.HeldOutConfig`."""

    data: str | None
    eval_places: int
    columns: str = ""
    views: str = "4"
    data_workers: int = 0
    max_pixels: int | None = MAX_PIXELS


def held_out_pictures(data: str = "bluemarble", *, sets: tuple[str, ...] = (), places: int = 0) -> Iterator[Picture]:
    """What `geospot eval data=...` evaluates on: at most `places` of each of the `sets` (0: all; (): all sets).

    The key of a picture has its set before it where there are several sets. DataError for a set that is not there.
    """
    config = _Held(data, places)
    sources = held_out_sets(config, WorldConfig.width_km)
    if unknown := [name for name in sets if name not in sources]:
        raise DataError(f"sets={unknown[0]!r}: this data has {', '.join(sources)}")
    wanted = {name: source for name, source in sources.items() if not sets or name in sets}
    for name, source in wanted.items():
        before = f"{name}/" if len(wanted) > 1 else ""
        for sample in held_out_samples(config, source, SkipCounter()):
            yield Picture(before + sample.key, sample.pictures, sample.place)


def place_of(facts: Mapping[str, object]) -> Place:
    """The true place from a picture's `facts`."""
    label = partial(_label, facts)
    return Place(float(str(facts["lat"])), float(str(facts["lon"])), label("city"), label("region"), label("country"))


def _label(facts: Mapping[str, object], level: str) -> str | None:
    value = facts.get(level)
    return None if value is None else str(value)
