"""Example pictures with what each stage answered."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.report.html import coordinates, distance_class, escape, kilometres

# How a file of each kind starts, and its media type; a picture is embedded as it is, never fetched.
MAGIC = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))
ANSWER_LIMIT = 600  # characters shown of one answer


@dataclass(frozen=True)
class StageAnswer:
    """What one stage said about a picture; `distance_km` is None (or NaN) where it gave no usable coordinates."""

    stage: str
    text: str
    distance_km: float | None


@dataclass(frozen=True)
class Example:
    """One place: its picture or headings (JPEG or PNG bytes), the truth, and the stages' answers."""

    tag: str  # why it is shown: "best", "worst", ...
    pictures: Sequence[bytes]
    truth: str  # such as "Lyon, France"
    lat: float
    lon: float
    answers: Sequence[StageAnswer]


def pick_examples(distance_km, count: int = 4, middle: int = 0) -> list[tuple[int, str]]:
    """(index, tag) of the `count` best places, `middle` ones around the median and the `count` worst.

    `distance_km` is (N,), NaN for a failed answer, which is worse than any distance. No place comes twice.
    """
    order = np.argsort(np.nan_to_num(np.asarray(distance_km, dtype=np.float64), nan=np.inf), kind="stable")
    centre = max(0, (len(order) - middle) // 2)
    parts = (("best", order[:count]), ("median", order[centre : centre + middle]), ("worst", order[::-1][:count]))
    picked: dict[int, str] = {}
    for tag, indices in parts:
        for index in indices:
            picked.setdefault(int(index), tag)
    return list(picked.items())


def example_html(example: Example) -> str:
    """A card: pictures, truth, and each stage's answer with its distance."""
    pictures = "".join(
        f'<img src="{_data_uri(picture)}" alt="{escape(example.tag)} example, view {i + 1}" loading="lazy">'
        for i, picture in enumerate(example.pictures)
    )
    answers = "".join(
        f"<div><dt>{escape(answer.stage)}{_distance(answer.distance_km)}</dt>"
        f"<dd><pre>{escape(answer.text, ANSWER_LIMIT) or '<i>empty answer</i>'}</pre></dd></div>"
        for answer in example.answers
    )
    several = " several" if len(example.pictures) > 1 else ""
    return (
        f'<article class="card"><div class="pictures{several}">{pictures}</div><div class="words">'
        f'<p class="truth"><span class="tag">{escape(example.tag)}</span><b>{escape(example.truth)}</b>'
        f'<span class="muted">{coordinates(example.lat, example.lon)}</span></p><dl>{answers}</dl></div></article>'
    )


def _distance(distance_km: float | None) -> str:
    if distance_km is None or np.isnan(distance_km):
        return '<span class="distance failed">failed</span>'
    return f'<span class="distance {distance_class(distance_km)}">{kilometres(distance_km)} km</span>'


def _data_uri(picture: bytes) -> str:
    for magic, media_type in MAGIC:
        if picture.startswith(magic):
            return f"data:{media_type};base64,{base64.b64encode(picture).decode('ascii')}"
    raise ValueError(f"a picture starts with {picture[:8]!r}; a report embeds JPEG or PNG bytes")
