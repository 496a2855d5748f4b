"""A page about a data set: where its places lie, what is in it and a contact sheet; self-contained, without script."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geospot.data.fields import BadSample, read_fields, read_place
from geospot.data.inspect import Inspection
from geospot.data.records import Record
from geospot.report.html import coordinates, escape
from geospot.report.inspection import Section
from geospot.report.page import write_page
from geospot.report.world_map import dots_map_html

THUMBNAIL_PX = 240
EXACT_DOTS = 3000  # more places than that are drawn as cells
CELL_DEG = 1.0


@dataclass(frozen=True)
class Card:
    """One place of the contact sheet: JPEG thumbnails and what the data set says of it."""

    key: str
    words: str
    lat: float
    lon: float
    thumbnails: Sequence[bytes]


def contact_sheet(found: Inspection) -> list[Card]:
    """The places drawn for it, read again; one that is gone is left out."""
    records = (found.record(row) for row in found.sheet())
    cards = (_card(record, found) for record in records if record is not None)
    return [card for card in cards if card]


def _card(record: Record, found: Inspection) -> Card | None:
    try:
        place = read_place(read_fields(record.fields), found.columns)
        pictures = [picture if isinstance(picture, bytes) else picture.read() for picture in record.pictures]
        size = THUMBNAIL_PX if len(pictures) == 1 else THUMBNAIL_PX // 2
        thumbnails = [_thumbnail(picture, size) for picture in pictures[:4]]
    except (BadSample, OSError):
        return None
    words = ", ".join(label for label in (place.city, place.region, place.country) if label)
    return Card(record.key, words, place.lat, place.lon, thumbnails)


def _thumbnail(picture: bytes, size: int) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(picture)) as image:
        image.draft("RGB", (size, size))
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((size, size))
        out = io.BytesIO()
        upright.save(out, "JPEG", quality=80)
        return out.getvalue()


def write_dataset_page(path: str | Path, found: Inspection, parts: Sequence[Section], cards: Sequence[Card]) -> Path:
    """Write the page and return its path."""
    head, *rest = parts
    tables = "".join(map(_section_html, rest))
    contents = [("What it holds", _section_html(head, heading=False))]
    if found.places:
        contents.append(("Where it is", _map(found)))
    contents.append(("What was found", f'<div class="found">{tables}</div>'))
    if cards:
        contents.append(("Contact sheet", f'<div class="sheet">{"".join(map(_card_html, cards))}</div>'))
    return write_page(path, title=found.source.spec, sections=contents, kicker="geospot data inspect")


def _map(found: Inspection) -> str:
    lat, lon = found.lat, found.lon
    if len(lat) <= EXACT_DOTS:
        return dots_map_html([("a place", lat, lon)])
    cells, n = np.unique(
        np.stack([np.floor(lat / CELL_DEG), np.floor(lon / CELL_DEG)]).astype(int), axis=1, return_counts=True
    )
    lats, lons = (cells + 0.5) * CELL_DEG
    level = np.floor(np.log10(n)).astype(int)
    return dots_map_html([
        (f"{10**i:,} to {10 ** (i + 1) - 1:,} in a cell of {CELL_DEG:g}°", lats[level == i], lons[level == i])
        for i in np.unique(level).tolist()
    ])  # fmt: skip


def _section_html(part: Section, heading: bool = True) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in part.rows)
    lines = "".join(f"<li>{escape(line, 300)}</li>" for line in part.lines)
    examples = f'<details><summary>{len(part.lines)} examples</summary><ul class="fine">{lines}</ul></details>'
    return (
        f"<div>{f'<h3>{escape(part.heading)}</h3>' if heading else ''}"
        f'<div class="scroll" tabindex="0"><table class="pairs">{rows}</table></div>{examples if lines else ""}</div>'
    )


def _card_html(card: Card) -> str:
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(t).decode()}" alt="view {i + 1}" loading="lazy">'
        for i, t in enumerate(card.thumbnails)
    )
    several = " several" if len(card.thumbnails) > 1 else ""
    return (
        f'<article class="card"><div class="pictures{several}">{pictures}</div><div class="words">'
        f"<b>{escape(card.words or 'no label')}</b>"
        f'<span class="muted">{coordinates(card.lat, card.lon)}</span><span class="muted">{escape(card.key, 80)}</span>'
        "</div></article>"
    )
