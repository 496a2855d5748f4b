"""Guesses as text, CSV, JSON, GeoJSON (RFC 7946) and KML (OGC 2.2)."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

from geospot.asking.cluster import Candidate
from geospot.asking.guesser import Guess
from geospot.earth.circle import circle_rings
from geospot.earth.spot import said_text

KML = "http://www.opengis.net/kml/2.2"
COLUMNS = (
    "photo",
    "rank",
    "lat",
    "lon",
    "at",
    "said_city",
    "said_region",
    "said_country",
    "disagreement",
    "mass",
    "radius_km",
    "probability",
    "radius_holds_for",
    "no_radius_because",
    "error",
    "link",
)
SAID = ("said_city", "said_region", "said_country")  # the names in the answers, not what lies at the coordinates
RADIUS = ("radius_km", "probability", "radius_holds_for", "no_radius_because")
SHOWN = 5  # candidates of a guess in text


def map_link(lat: float, lon: float) -> str:
    """A page with a marker at the place."""
    return f"https://www.openstreetmap.org/?mlat={lat:.4f}&mlon={lon:.4f}#map=6/{lat:.4f}/{lon:.4f}"


def as_text(guesses: Sequence[Guess]) -> str:
    """For people: one paragraph per photo."""
    return "\n".join(_paragraph(guess) for guess in guesses)


def _paragraph(guess: Guess) -> str:
    lines = [guess.name]
    if guess.warning:
        lines.append(f"  warning: {guess.warning}")
    if not guess.ok:
        reasons = ", ".join(sorted(set(guess.failures))) or "no country"
        which = "this answer" if len(guess.texts) < 2 else f"these {len(guess.texts)} answers, of which the first is"
        said = f": {guess.texts[0].strip()[:200]!r}" if guess.texts else ""
        return "\n".join([*lines, f"  no place in {which} ({reasons}){said}", ""])
    for rank, candidate in enumerate(guess.candidates[:SHOWN], start=1):
        share = f"{100 * candidate.mass:3.0f} %  " if len(guess.candidates) > 1 or len(guess.texts) > 1 else ""
        lines.append(f"  {rank}. {share}{place_text(candidate, guess.coarse)}")
        lines += [f"     {line}" for line in said_lines(candidate)]
        if rank == 1 and not guess.coarse:
            lines += [f"     {radius_text(guess)}", f"     {map_link(candidate.lat, candidate.lon)}"]
    if (more := len(guess.candidates) - SHOWN) > 0:
        lines.append(f"  and {more} more")
    if guess.outside:
        lines.append(f"  {guess.outside} of {len(guess.texts)} answers contradict what is known, and are set aside")
    if guess.failures:
        lines.append(f"  {len(guess.failures)} answers could not be read")
    return "\n".join([*lines, ""])


def place_text(candidate: Candidate, coarse: bool) -> str:
    return candidate.title if coarse else f"{candidate.title} ({candidate.lat:.4f}, {candidate.lon:.4f})"


def said_lines(candidate: Candidate) -> list[str]:
    """The names in the answers, where they are others than what lies at the coordinates."""
    said = said_text(candidate)
    if candidate.disagreement:
        return [f"the model said {said}, which disagrees: {candidate.disagreement}"]
    spot = candidate.spot
    same = spot is None or not candidate.city or candidate.city == spot.city
    return [] if same or not said else [f"the model said {said}"]


def holds_for(guess: Guess) -> str | None:
    """What a stated radius holds for: it was learned from the pictures of one source."""
    return None if guess.radius_km is None else f"pictures like those of {guess.calibrated_on}"


def no_radius(guess: Guess) -> str | None:
    """Why there is no radius although the model is calibrated."""
    if not guess.unlike:
        return None
    return f"the radius is calibrated on pictures of {guess.calibrated_on}, and {guess.unlike}"


def circle_of(guess: Guess) -> tuple[float, float, float] | None:
    """lat, lon and radius in km of what a calibrated guess covers."""
    lat, lon, radius_km = guess.lat, guess.lon, guess.radius_km
    return None if lat is None or lon is None or radius_km is None else (lat, lon, radius_km)


def radius_text(guess: Guess) -> str:
    if guess.radius_km is not None and guess.probability is not None:
        return (
            f"within {guess.radius_km:,.0f} km with {100 * guess.probability:g} % probability, for {holds_for(guess)}"
        )
    if guess.unlike:
        return f"no radius: {no_radius(guess)}; its answers lie about {guess.spread_km:,.0f} km apart"
    spread = f"; its answers lie about {guess.spread_km:,.0f} km apart" if len(guess.texts) > 1 else ""
    many = f"{len(guess.texts)} answers" if len(guess.texts) > 1 else "single answers"
    return f"no radius: this model is not calibrated for {many} (geospot calibrate){spread}"


def rows(guesses: Sequence[Guess]) -> list[dict]:
    """One row per candidate; a photo without any has one row with the error."""
    found = []
    for guess in guesses:
        if not guess.ok:
            found.append(
                dict.fromkeys(COLUMNS) | {"photo": guess.name, "error": ", ".join(sorted(set(guess.failures)))}
            )
        for rank, c in enumerate(guess.candidates, start=1):
            first = rank == 1
            found.append({
                "photo": guess.name, "rank": rank,
                "lat": None if guess.coarse else round(c.lat, 6), "lon": None if guess.coarse else round(c.lon, 6),
                "at": None if guess.coarse else c.title, "said_city": c.city, "said_region": c.region,
                "said_country": c.country, "disagreement": c.disagreement or None, "mass": round(c.mass, 4),
                "radius_km": round(guess.radius_km, 3) if first and guess.radius_km is not None else None,
                "probability": guess.probability if first else None,
                "radius_holds_for": holds_for(guess) if first else None,
                "no_radius_because": no_radius(guess) if first else None, "error": None,
                "link": None if guess.coarse else map_link(c.lat, c.lon),
            })  # fmt: skip
    return found


def as_csv(guesses: Sequence[Guess]) -> str:
    """One line per candidate. `geospot eval predictions=` reads it and scores the lines of rank 1."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(guesses))
    return out.getvalue()


def as_json(guesses: Sequence[Guess]) -> str:
    """A list of photos, each with its candidates."""
    photos = []
    for guess in guesses:
        candidates = [{k: v for k, v in row.items() if k not in ("photo", "error", *RADIUS)}
                      for row in rows([guess]) if row["rank"]]  # fmt: skip
        photos.append({
            "photo": guess.name, "candidates": candidates, "radius_km": guess.radius_km,
            "probability": guess.probability, "calibrated": guess.radius_km is not None,
            "radius_holds_for": holds_for(guess), "no_radius_because": no_radius(guess), "spread_km": guess.spread_km,
            "failures": list(guess.failures), "set_aside": guess.outside, "warning": guess.warning or None,
        })  # fmt: skip
    return json.dumps(photos, indent=2, ensure_ascii=False) + "\n"


def as_geojson(guesses: Sequence[Guess]) -> str:
    """One point per candidate, and the circle of the radius around the first; no geometry without coordinates."""
    features = []
    for guess, row in ((g, row) for g in guesses for row in rows([g])):
        point = None
        if row["lat"] is not None:
            point = {"type": "Point", "coordinates": [row["lon"], row["lat"]]}
        features.append({"type": "Feature", "geometry": point, "properties": _filled(row)})
        if row["radius_km"] is not None and (around := circle_of(guess)) is not None:
            rings = circle_rings(*around)
            circle = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
            about = {key: row[key] for key in ("photo", "radius_km", "probability", "radius_holds_for")}
            features.append({"type": "Feature", "geometry": circle, "properties": about})
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"


def _filled(row: dict) -> dict:
    return {key: value for key, value in row.items() if value is not None and key not in ("lat", "lon")}


def as_kml(guesses: Sequence[Guess]) -> str:
    """One placemark per candidate and the circle of the first, for Google Earth and similar programs."""
    ElementTree.register_namespace("", KML)
    root = ElementTree.Element(f"{{{KML}}}kml")
    document = _add(root, "Document")
    _add(document, "name", "geospot guesses")
    for guess, row in ((g, row) for g in guesses for row in rows([g])):
        mark = _add(document, "Placemark")
        names = row["at"] or ", ".join(row[k] for k in SAID if row[k])
        _add(mark, "name", _xml_text(f"{row['photo']}: {names or row['error'] or 'guess'}"))
        _add(mark, "description", _xml_text("; ".join(f"{k} {v}" for k, v in _filled(row).items() if k != "photo")))
        if row["lat"] is not None:
            _add(_add(mark, "Point"), "coordinates", f"{row['lon']},{row['lat']}")
        if row["radius_km"] is not None and (covered := circle_of(guess)) is not None:
            circle = _add(document, "Placemark")
            _add(circle, "name", f"{100 * (guess.probability or 0):g} %: {guess.radius_km:,.0f} km")
            _add(circle, "description", _xml_text(f"holds for {holds_for(guess)}"))
            several = _add(circle, "MultiGeometry")
            for ring in circle_rings(*covered):
                outer = _add(_add(_add(several, "Polygon"), "outerBoundaryIs"), "LinearRing")
                _add(outer, "coordinates", " ".join(f"{x},{y}" for x, y in ring))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, f"{{{KML}}}{tag}")
    element.text = text
    return element


def _xml_text(text: str) -> str:
    """Without the control characters and surrogates that XML has no way to write."""
    return "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else " " for c in text)


FORMATS: dict[str, Callable[[Sequence[Guess]], str]] = {
    "text": as_text, "csv": as_csv, "json": as_json, "geojson": as_geojson, "kml": as_kml,
}  # fmt: skip
