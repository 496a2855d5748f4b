"""The report of a run: tables, map, charts, example pictures and configuration on one page."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from geospot.report.charts import Chart, chart_html
from geospot.report.maps import pair_map_html, world_map_html
from geospot.report.metric_tables import Table, table_html
from geospot.report.page import coordinates, distance_class, escape, kilometres, write_page
from geospot.scoring.metrics import Predictions

# How a file of each kind starts, and its media type; a picture is embedded as it is, never fetched.
MAGIC = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))
ANSWER_LIMIT = 600  # characters shown of one answer
PICTURE_SIDE = 480  # of a picture in the report, pixels


@dataclass(frozen=True)
class StageAnswer:
    """What one stage said about a picture; `distance_km` is None (or NaN) where it gave no usable coordinates."""

    stage: str
    text: str
    distance_km: float | None
    lat: float | None = None  # of the guess, degrees; for the map of the picture that opens a page
    lon: float | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no distance, because there is no guess."""
        return self.distance_km is None or bool(np.isnan(self.distance_km))


@dataclass(frozen=True)
class Example:
    """One place: its picture or headings (JPEG or PNG bytes), the truth, and the stages' answers."""

    tag: str  # why it is shown: "best", "worst", ...
    pictures: Sequence[bytes]
    truth: str  # such as "Lyon, France"
    lat: float
    lon: float
    answers: Sequence[StageAnswer]


def preview(picture: bytes, side: int = PICTURE_SIDE) -> bytes | None:
    """A small upright JPEG for a page, without metadata; None where the picture cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.draft("RGB", (side, side))
            image = ImageOps.exif_transpose(image).convert("RGB")
            image.thumbnail((side, side))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=85)
            return out.getvalue()
    except (OSError, ValueError):
        return None


def pick_examples(distance_km: ArrayLike, count: int = 4, middle: int = 0) -> list[tuple[int, str]]:
    """(index, tag) of the `count` best places, `middle` ones around the median and the `count` worst.

    `distance_km` is (N,), NaN for a failed answer, which is worse than any distance. No place comes twice.
    """
    km = np.nan_to_num(np.asarray(distance_km, dtype=np.float64), nan=np.inf)
    order = np.argsort(km, kind="stable")
    centre = max(0, (len(order) - middle) // 2)
    parts = (("best", order[:count]), ("median", order[centre : centre + middle]), ("worst", order[::-1][:count]))
    picked: dict[int, str] = {}
    for tag, indices in parts:
        for index in indices:
            picked.setdefault(int(index), tag)
    return list(picked.items())


def example_html(example: Example) -> str:
    """A card: pictures, truth, and each stage's answer with its distance; failed answers are folded."""
    good = "".join(_answer_html(answer) for answer in example.answers if not answer.failed)
    failed = [answer for answer in example.answers if answer.failed]
    folded = ""
    if failed:
        names = ", ".join(escape(answer.stage) for answer in failed)
        answers = "".join(map(_answer_html, failed))
        folded = (
            f'<details class="folded"><summary>{"failed" if len(failed) == 1 else f"{len(failed)} failed"}: {names}'
            f"</summary><dl>{answers}</dl></details>"
        )
    return (
        f'<article class="card">{_pictures(example)}<div class="words">'
        f'<p class="truth"><span class="tag">{escape(example.tag)}</span><b>{escape(example.truth)}</b>'
        f'<span class="muted">{coordinates(example.lat, example.lon)}</span></p>{f"<dl>{good}</dl>" if good else ""}'
        f"{folded}</div></article>"
    )


def _pictures(example: Example) -> str:
    images = "".join(
        f'<img src="{data_uri(picture)}" alt="{escape(example.tag)} example, view {i + 1}">'
        for i, picture in enumerate(example.pictures)
    )
    return f'<div class="pictures{" several" if len(example.pictures) > 1 else ""}">{images}</div>'


def _answer_html(answer: StageAnswer) -> str:
    return (
        f"<div><dt>{escape(answer.stage)}{_distance(answer)}</dt>"
        f"<dd><pre>{escape(answer.text, ANSWER_LIMIT) or '<i>empty answer</i>'}</pre></dd></div>"
    )


def _distance(answer: StageAnswer) -> str:
    if answer.failed or answer.distance_km is None:
        return '<span class="distance failed">failed</span>'
    return f'<span class="distance {distance_class(answer.distance_km)}">{kilometres(answer.distance_km)} km</span>'


def opening_html(example: Example) -> str:
    """One picture, what the last of the stages said of it and a map of both: a page begins with it."""
    answer = example.answers[-1]
    km = None if answer.failed else answer.distance_km
    guess = None if km is None or answer.lat is None or answer.lon is None else (answer.lat, answer.lon)
    said = f"<pre>{escape(answer.text, ANSWER_LIMIT) or '<i>empty answer</i>'}</pre>"
    found = "names no place" if km is None else f"is <b>{kilometres(km)} km</b> away from it"
    drawn = pair_map_html((example.lat, example.lon), guess, float("nan") if km is None else km)
    legend = '<ul class="legend"><li><i class="ring"></i>truth</li>'
    if guess is not None and km is not None:
        legend += f'<li class="{distance_class(km)}"><i class="dot"></i>guess</li>'
    return (
        f'<div class="opening">{_pictures(example)}<div class="words"><p class="tag">{escape(example.tag)}</p>'
        f"<p>The answer to this picture:</p>{said}<p>The truth: <b>{escape(example.truth)}</b>, "
        f"{coordinates(example.lat, example.lon)}. The answer {found}.</p></div>"
        f'<div class="where">{drawn}{legend}</ul></div></div>'
    )


def data_uri(picture: bytes) -> str:
    """A JPEG or PNG as an address that holds the picture itself; ValueError for anything else."""
    for magic, media_type in MAGIC:
        if picture.startswith(magic):
            return f"data:{media_type};base64,{base64.b64encode(picture).decode('ascii')}"
    raise ValueError(f"a picture starts with {picture[:8]!r}; a report embeds JPEG or PNG bytes")


def write_report(
    path: str | Path,
    *,
    title: str,
    tables: Sequence[Table],
    maps: Mapping[str, Predictions] | None = None,
    sections: Sequence[tuple[str, str]] = (),
    charts: Sequence[Chart] = (),
    examples: Sequence[Example] = (),
    configuration: Mapping[str, object] | None = None,
    versions: Mapping[str, object] | None = None,
    command: str = "",
    notes: Sequence[str] = (),
    lead: str = "",
    warnings: Sequence[str] = (),
    opening: Example | None = None,
) -> Path:
    """Write the report and return its path; arguments left out have no section.

    `sections` are further (heading, HTML) pairs after the map, in which all text is escaped already.

    `maps` has one entry per stage; the last is shown first. `lead` says in plain text what was found, and `opening` is
    the picture below it, with its last answer; `warnings` stand in a box above it; `notes` are paragraphs of plain text
    in small print.
    The same arguments give the same bytes. The file is replaced whole or not at all.
    """
    results = "".join(map(table_html, tables)) + (RESULTS_NOTE if tables else "")
    facts = pairs_html("Configuration", configuration) + pairs_html("Versions", versions)
    command_box = f'<h3>Command</h3><pre class="command">{escape(command)}</pre>'
    all_sections = (
        ("Results", results),
        ("Where the guesses land", world_map_html(maps) if maps else ""),
        *sections,
        ("Learning curves", _grid("charts", map(chart_html, charts))),
        ("Examples", _grid("cards", map(example_html, examples))),
        ("How it was made", (command_box if command else "") + (f'<div class="facts">{facts}</div>' if facts else "")),
    )
    top = opening_html(opening) if opening else ""
    return write_page(path, title=title, sections=all_sections, notes=notes, lead=lead, top=top, warnings=warnings)


RESULTS_NOTE = (
    '<p class="muted fine">Every answer counts: a failed one scores 0, misses every radius and label, and enters the '
    "median and the mean as 20,015 km, the greatest distance on Earth. Small figures: 95 % bootstrap intervals over "
    "the places. Bold: best of its column.</p>"
)


def _grid(name: str, items: Iterable[str]) -> str:
    content = "".join(items)
    return f'<div class="{name}">{content}</div>' if content else ""


def pairs_html(heading: str, pairs: Mapping[str, object] | None) -> str:
    """Names and values below a heading; None values are left out."""
    if not pairs:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_value(value))}</td></tr>'
        for name, value in pairs.items()
        if value is not None
    )
    return f'<div><h3>{heading}</h3><div class="scroll" tabindex="0"><table class="pairs">{rows}</table></div></div>'


def _value(value: object) -> object:
    """A setting as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else value
