"""What a model is asked for: the prompt, the target text in its form, and how much of an answer is in that form."""

import re

from geospot.answer.coordinates import wrap_longitude
from geospot.answer.fields import clean_label
from geospot.answer.regex import lazy
from geospot.earth.place import Place

FIELDS = ("City", "Region", "Country", "Latitude", "Longitude")
MAX_CHARS = 200_000  # of a text; an answer takes about 100, so this is a loop or an attack

_HINTS = {"Latitude": "decimal degrees, north positive", "Longitude": "decimal degrees, east positive"}


def prompt_text(region: bool = False) -> str:
    """The user's question: asks for exactly the lines that `format_answer` writes."""
    lines = [f"{name}: <{_HINTS.get(name, 'name')}>" for name in FIELDS if region or name != "Region"]
    return "\n".join(["Where was this taken? Answer with exactly these lines and nothing else:", *lines])


def format_answer(place: Place, *, decimals: int = 2, region: bool = False) -> str:
    """The target text of a place, one field a line. A label that is not known has no line.

    `decimals` is 2 to 4 (about 1 km to 10 m): digits beyond that cannot be seen in a picture and would only add loss.
    Raises ValueError for other `decimals` and for coordinates that are missing or out of range.
    """
    if not isinstance(decimals, int) or not 2 <= decimals <= 4:
        raise ValueError(f"decimals must be 2, 3 or 4, not {decimals!r}")
    for name, value, limit in (("lat", place.lat, 90.0), ("lon", place.lon, 180.0)):
        if value is None or not abs(value) <= limit:  # NaN fails the comparison too
            raise ValueError(
                f"{name} must be in -{limit:g}..{limit:g} degrees to be written as an answer, not {value!r}"
            )
    labels = {"City": place.city, "Region": place.region if region else None, "Country": place.country}
    cleaned = {name: clean_label(label or "", name.lower()) for name, label in labels.items()}
    lines = [f"{name}: {label}" for name, label in cleaned.items() if label]
    # + 0.0 turns -0.0 into 0.0; 179.996 rounds to 180.00, which is written as the meridian it is, -180.00
    lat, lon = round(float(place.lat), decimals) + 0.0, wrap_longitude(round(float(place.lon), decimals)) + 0.0
    return "\n".join([*lines, f"Latitude: {lat:.{decimals}f}", f"Longitude: {lon:.{decimals}f}"])


_LINE = lazy(r"(City|Region|Country): (\S.{0,80})|(Latitude|Longitude): -?[0-9]{1,3}\.[0-9]{1,6}")
_KEY = lazy(r"\b(?:City|Region|Country|Latitude|Longitude) ?:", re.IGNORECASE)


def in_form(text: str, *, region: bool = False) -> float:
    """The share of an answer that is in the form that the prompt asks for, 0..1: each line once, and nothing else.

    The lines that are wanted and there, over all that are there or wanted. A line that comes again, that the prompt
    did not ask for or whose label holds a key ("City: City: City") is none that is wanted. Linear time.
    """
    wanted = {name for name in FIELDS if region or name != "Region"}
    lines = [line for line in text[:MAX_CHARS].split("\n") if line.strip()]
    good: set[str] = set()
    for line in lines:
        match = _LINE.fullmatch(line.rstrip())
        if match and (name := match[1] or match[3]) in wanted and not (match[2] and _KEY.search(match[2])):
            good.add(name)
    return len(good) / (len(lines) + len(wanted) - len(good))
