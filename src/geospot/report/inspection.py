"""What `geospot data inspect` found, as sections of rows, for the terminal and for a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from geospot.data.duplicates import Overlap, repeats
from geospot.data.inspect import Inspection
from geospot.earth.truth import LEVELS

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
    """All that is to be told; sections without content are left out."""
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
    rows = [("pictures a place", ", ".join(f"{counts[i]}: {_share(times[i], found.places)}" for i in most))]
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
    from geospot.earth.gazetteer import Gazetteer

    if code in ("", "?"):
        return "a label that is no country" if code else "none (open sea)"
    try:
        return Gazetteer.load().country_name(code)
    except KeyError:
        return code


def _labels(found: Inspection) -> Section:
    report = found.labels

    def told(level: str) -> str:
        parts = [f"{_count(report.given[level], report.places)} given"]
        parts.append(f"{report.filled[level]:,} filled from the coordinates")
        if unknown := report.unknown[level]:
            parts.append(f"{unknown:,} not found {'within 50 km' if level == 'city' else 'in the gazetteer'}")
        if level != "city":  # a city is looked for nearby and else not known: it cannot disagree
            parts.append(f"{report.disagree[level]:,} disagree with the coordinates")
        return ", ".join(parts)

    lines = [f"{key}" for key in found.disagreements]
    return Section("Labels", [(level, told(level)) for level in LEVELS], lines)


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
    verdict = "they leak into each other" if overlap.leaks else "kept apart"
    return Section(f"Against {others.source.spec} ({others.places:,} places): {verdict}", rows, lines)


def _pair(found: Inspection, a: int, others: Inspection, b: int) -> str:
    return f"{found.name(a)} and {others.name(b)}"


def _km(found: Inspection, a: int, others: Inspection, b: int) -> float:
    from geospot.earth.distance import haversine_km

    return float(haversine_km(found.lat[a], found.lon[a], others.lat[b], others.lon[b]))


def _bad(found: Inspection) -> Section:
    lines = [
        f"{reason}: {told}" for reason, _ in found.skipped.most_common() for told in found.skipped.examples[reason]
    ]
    rows = [(reason, f"{n:,}") for reason, n in found.skipped.most_common()] or [("none", "")]
    return Section("Skipped: bad samples and shards", rows, lines)


def _network(found: Inspection) -> Section | None:
    retries = found.source.retries
    return Section("Network", [(reason, f"{n:,}") for reason, n in retries.most_common()]) if retries else None


def world_text(lat: np.ndarray, lon: np.ndarray, unicode: bool = True) -> str:
    """A map in characters: '.' is land without a place, darker cells hold more places, in equal ratios."""
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
