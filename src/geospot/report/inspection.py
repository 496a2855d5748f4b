"""What `geospot data inspect` found: sections of rows for the terminal, and a page with a map and a contact sheet."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geospot.data.duplicates import Overlap, repeats
from geospot.data.fields import BadSample, read_fields, read_place
from geospot.data.inspect import Inspection
from geospot.data.records import Record
from geospot.earth.truth import LEVELS
from geospot.report.document import preview
from geospot.report.maps import dots_map_html, pair_map_html
from geospot.report.page import coordinates, escape, write_page
from geospot.scoring.breakdown import country_title

TOP_COUNTRIES = 15
COLUMNS, ROWS = 72, 19  # characters of the terminal's map
MAP_LAT = (-60.0, 82.0)
SHADES, PLAIN_SHADES = "░▒▓█", "-+*#"


@dataclass(frozen=True)
class Section:
    """A heading with (name, value) rows and, below them, lines of detail."""

    heading: str
    rows: Sequence[tuple[str, str]]
    lines: Sequence[str] = field(default_factory=list)


def sections(found: Inspection, against: tuple[Inspection, Overlap] | None = None) -> list[Section]:
    """All sections of the report; those without content are left out."""
    parts = [_contents(found)]
    if found.places:
        parts += [_pictures(found), _countries(found), _labels(found), _duplicates(found)]
    if against:
        parts.append(_against(found, *against))
    parts += [_bad(found), _network(found)]
    return [part for part in parts if part]


def as_text(parts: Sequence[Section]) -> str:
    """For a terminal."""
    width = max(len(name) for part in parts for name, _ in part.rows)
    blocks = []
    for part in parts:
        lines = [part.heading, *(f"  {name:<{width}}  {value}" for name, value in part.rows)]
        blocks.append("\n".join([line.rstrip() for line in lines] + [f"    {line}" for line in part.lines]))
    return "\n\n".join(blocks)


def _contents(found: Inspection) -> Section:
    total = int(found.sizes()["bytes"].sum())
    of = len(found.source.parts)
    rows = [
        ("places", f"{found.places:,}"),
        ("pictures", f"{found.pictures:,} ({_size(total)})"),
        ("parts read", f"{found.parts_read:,} of {of:,}"),
    ]
    if found.source.revision:
        rows.append(("revision", found.source.revision))
    if found.stopped:
        rows.append(("stopped early", found.stopped))
    return Section(found.source.spec, rows)


def _pictures(found: Inspection) -> Section:
    counts, times = np.unique(found.pictures_a_place, return_counts=True)
    most = np.argsort(-times, kind="stable")[:6]
    rows = [("pictures per place", ", ".join(f"{counts[i]}: {_share(times[i], found.places)}" for i in most))]
    rows.append(
        ("formats", ", ".join(f"{name} {_share(n, found.pictures)}" for name, n in found.formats.most_common()))
    )
    for name, values in found.sizes().items():
        if not values.any():  # the light install reads no header
            continue
        rows.append((name, _quantiles(values, _size if name == "bytes" else str)))
    return Section("Pictures", rows)


def _quantiles(values: np.ndarray, show: Callable[[int], str]) -> str:
    least, low, middle, high, most = (int(v) for v in np.percentile(values, [0, 5, 50, 95, 100], method="nearest"))
    if least == most:
        return f"{show(least)}, all"
    return f"{show(least)} to {show(most)}, median {show(middle)}, 5 to 95 %: {show(low)} to {show(high)}"


def _countries(found: Inspection) -> Section:
    countries = [code for code in found.countries if code not in ("", "?")]
    rows = [(country_name(c), _count(n, found.places)) for c, n in found.countries.most_common(TOP_COUNTRIES)]
    shown = sum(n for _, n in found.countries.most_common(TOP_COUNTRIES))
    if rest := len(found.countries) - len(rows):
        rows.append((f"{rest} others", _count(found.places - shown, found.places)))
    return Section(f"Countries: {len(countries)}", rows)


def country_name(code: str) -> str:
    """For people; `code` as in `Inspection.countries`."""
    names = {"": "none (open sea)", "?": "label names no country"}
    return names.get(code) or country_title(code)


def _labels(found: Inspection) -> Section:
    report = found.labels

    def described(level: str) -> str:
        parts = [f"{_count(report.given[level], report.places)} given"]
        parts.append(f"{report.filled[level]:,} filled from the coordinates")
        if unknown := report.unknown[level]:
            parts.append(f"{unknown:,} not found {'within 50 km' if level == 'city' else 'in the gazetteer'}")
        if level != "city":  # a city is looked for nearby and else not known: it cannot disagree
            parts.append(f"{report.disagree[level]:,} disagree with the coordinates")
        return ", ".join(parts)

    lines = [str(key) for key in found.disagreements]
    return Section("Labels", [(level, described(level)) for level in LEVELS], lines)


def _duplicates(found: Inspection) -> Section:
    keys, points, pictures = repeats(found.keys), repeats(found.points), repeats(found.digests)
    rows = [
        ("same key again", f"{keys.n:,}"),
        ("same picture again", f"{pictures.n:,}"),
        ("same coordinates again", f"{points.n:,}"),
    ]
    lines = [f"key {found.name(a)!r} twice" for a, b in keys.pairs]
    of = found.place_of_picture
    lines += [f"same picture: {_pair(found, int(of(a)), found, int(of(b)))}" for a, b in pictures.pairs]
    lines += [f"same coordinates: {_pair(found, a, found, b)}" for a, b in points.pairs]
    return Section("Duplicates", rows, lines)


def _against(found: Inspection, others: Inspection, overlap: Overlap) -> Section:
    n, m = found.places, found.pictures
    rows = [
        (f"places within {overlap.km:g} km", _count(overlap.near.n, n)),
        ("same pictures", _count(overlap.pictures.n, m)),
        ("same keys", _count(overlap.keys.n, n)),
    ]
    lines = [f"{_pair(found, a, others, b)}: {_km(found, a, others, b):.3g} km apart" for a, b in overlap.near.pairs]
    of, its = found.place_of_picture, others.place_of_picture
    lines += [f"same picture: {_pair(found, int(of(a)), others, int(its(b)))}" for a, b in overlap.pictures.pairs]
    lines += [f"key {found.name(a)!r} in both" for a, _ in overlap.keys.pairs]
    verdict = "they overlap" if overlap.leaks else "kept apart"
    return Section(f"Against {others.source.spec} ({others.places:,} places): {verdict}", rows, lines)


def _pair(found: Inspection, a: int, others: Inspection, b: int) -> str:
    return f"{found.name(a)} and {others.name(b)}"


def _km(found: Inspection, a: int, others: Inspection, b: int) -> float:
    from geospot.earth.distance import haversine_km

    return float(haversine_km(found.lat[a], found.lon[a], others.lat[b], others.lon[b]))


def _bad(found: Inspection) -> Section:
    lines = [
        f"{reason}: {example}"
        for reason, _ in found.skipped.most_common()
        for example in found.skipped.examples[reason]
    ]
    rows = [(reason, f"{n:,}") for reason, n in found.skipped.most_common()] or [("none", "")]
    return Section("Skipped: bad samples and shards", rows, lines)


def _network(found: Inspection) -> Section | None:
    retries = found.source.retries
    return Section("Network", [(reason, f"{n:,}") for reason, n in retries.most_common()]) if retries else None


def world_text(lat: np.ndarray, lon: np.ndarray, unicode: bool = True) -> str:
    """A map in characters: '.' is land without a place, darker cells hold more places (logarithmic steps)."""
    from geospot.earth.gazetteer import Gazetteer

    south, north = MAP_LAT
    row = np.clip((north - lat) / (north - south) * ROWS, 0, ROWS - 1).astype(int)
    column = ((lon + 180) / 360 * COLUMNS).astype(int) % COLUMNS
    counts = np.zeros((ROWS, COLUMNS), int)
    np.add.at(counts, (row, column), 1)
    lats = north - (np.arange(ROWS) + 0.5) * (north - south) / ROWS
    lons = (np.arange(COLUMNS) + 0.5) * 360 / COLUMNS - 180
    grid = np.stack(np.meshgrid(lats, lons, indexing="ij"), axis=-1).reshape(-1, 2)
    land = (Gazetteer.load().borders.at(grid[:, 0], grid[:, 1]) >= 0).reshape(ROWS, COLUMNS)
    shades = np.array(list(SHADES if unicode else PLAIN_SHADES))
    share = np.log(np.maximum(counts, 1)) / np.log(counts.max() + 1)
    shade = shades[(share * len(shades)).astype(int)]
    cells = np.where(counts > 0, shade, np.where(land, ".", " "))
    return "\n".join("".join(line).rstrip() for line in cells)


def _count(n: int, of: int) -> str:
    return f"{n:,} ({_share(n, of)})" if of else f"{n:,}"


def _share(n: int, of: int) -> str:
    share = 100 * n / of
    return f"{share:.0f} %" if share in (0, 100) else f"{min(max(share, 0.1), 99.9):.1f} %"


def _size(nbytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes} bytes"


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
    """The places drawn for it, read again; a place that cannot be read is left out."""
    records = (found.record(row) for row in found.sheet())
    cards = (_card(record, found) for record in records if record is not None)
    return [card for card in cards if card]


def _card(record: Record, found: Inspection) -> Card | None:
    try:
        place = read_place(read_fields(record.fields), found.columns)
        pictures = [picture if isinstance(picture, bytes) else picture.read() for picture in record.pictures]
        size = THUMBNAIL_PX if len(pictures) == 1 else THUMBNAIL_PX // 2
    except (BadSample, OSError):
        return None
    thumbnails = [small for picture in pictures[:4] if (small := preview(picture, size))]
    if not thumbnails:
        return None
    country = country_title(place.country) if place.country else None
    words = ", ".join(label for label in (place.city, place.region, country) if label)
    return Card(record.key, words, place.lat, place.lon, thumbnails)


def write_dataset_page(path: str | Path, found: Inspection, parts: Sequence[Section], cards: Sequence[Card]) -> Path:
    """Write the page and return its path."""
    head, *rest = parts
    tables = "".join(map(_section_html, rest))
    contents = [("Contents", _section_html(head, heading=False))]
    if found.places:
        contents.append(("Where the places are", _map(found)))
    contents.append(("Findings", f'<div class="found">{tables}</div>'))
    if cards:
        contents.append(("Contact sheet", f'<div class="sheet">{"".join(map(_card_html, cards))}</div>'))
    return write_page(
        path, title=found.source.spec, sections=contents, kicker="geospot data inspect", lead=_lead(found),
        top=_opening(cards[0]) if cards else "",
    )  # fmt: skip


def _lead(found: Inspection) -> str:
    """What the set is, for a reader who has not seen it."""
    skipped = sum(found.skipped.values())
    lost = f" {skipped:,} were skipped as bad." if skipped else ""
    if not found.places:
        return f"No place was found in this data set.{lost}"
    named = [(code, n) for code, n in found.countries.most_common() if code not in ("", "?")]
    where = f" in {len(named)} {'country' if len(named) == 1 else 'countries'}" if named else ""
    most = f" Most are in {country_name(named[0][0])}: {_share(named[0][1], found.places)}." if len(named) > 1 else ""
    one = "picture" if found.pictures == 1 else "pictures"
    return f"{found.pictures:,} {one} of {found.places:,} places{where}.{most}{lost}"


def _opening(card: Card) -> str:
    """One picture of the set beside the map of where it was taken."""
    where = pair_map_html((card.lat, card.lon), None, float("nan"))
    return (
        f'<div class="opening">{_thumbnails(card)}<div class="words"><p class="tag">one of its places</p>'
        f"<p><b>{escape(card.words or 'no label')}</b>, {coordinates(card.lat, card.lon)}</p></div>"
        f'<div class="where">{where}</div></div>'
    )


def _map(found: Inspection) -> str:
    lat, lon = found.lat, found.lon
    if len(lat) <= EXACT_DOTS:
        return dots_map_html([("place", lat, lon)])
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


def _thumbnails(card: Card) -> str:
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(t).decode()}" alt="view {i + 1}">'
        for i, t in enumerate(card.thumbnails)
    )
    return f'<div class="pictures{" several" if len(card.thumbnails) > 1 else ""}">{pictures}</div>'


def _card_html(card: Card) -> str:
    return (
        f'<article class="card">{_thumbnails(card)}<div class="words">'
        f"<b>{escape(card.words or 'no label')}</b>"
        f'<span class="muted">{coordinates(card.lat, card.lon)}</span><span class="muted">{escape(card.key, 80)}</span>'
        "</div></article>"
    )
