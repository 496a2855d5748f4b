"""What every plug needs: the pictures of a table of truths, the question, and what one answer is worth."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geospot.answer import Answer, parse_answer
from geospot.answer.endings import with_ending
from geospot.earth.distance import MAX_DISTANCE_KM, haversine_km
from geospot.earth.place import Place
from geospot.earth.score import ACCURACY_RADII_KM, geoguessr_score
from geospot.errors import DataError
from geospot.scoring.tables import read_table_truths

ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Picture:
    """One picture of a set: its key, file and true place."""

    key: str
    path: Path
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

    def data_uri(self) -> str:
        """The file as an address that holds it."""
        kind = {".png": "png", ".webp": "webp"}.get(self.path.suffix.lower(), "jpeg")
        return f"data:image/{kind};base64,{base64.b64encode(self.path.read_bytes()).decode('ascii')}"


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
        pictures.append(Picture(key, path, Place(float(truths.lat[i]), float(truths.lon[i]), *names)))
    return pictures


def worth(text: str, lat: float, lon: float, stop: str | None = None) -> tuple[Answer, dict[str, float]]:
    """An answer as it was read, and its metrics: `distance_km` (half the Earth for a failed one), `geoguessr_score`
    (0 to 5000), `acc_1km` to `acc_2500km`, `failure_rate` (0 or 1). Their means are those of `geospot eval`.
    """
    answer = with_ending(parse_answer(text), text, stop)
    if answer.lat is None or answer.lon is None:
        km, score = MAX_DISTANCE_KM, 0.0
    else:
        km = float(haversine_km(lat, lon, answer.lat, answer.lon))
        score = float(geoguessr_score(km))
    within = {f"acc_{radius}km": float(answer.ok and km <= radius) for radius in ACCURACY_RADII_KM}
    return answer, {"distance_km": km, "geoguessr_score": score, **within, "failure_rate": float(not answer.ok)}


def truth_of(facts: Mapping[str, object]) -> tuple[float, float]:
    """The true coordinates of a picture's `facts`."""
    return float(str(facts["lat"])), float(str(facts["lon"]))
