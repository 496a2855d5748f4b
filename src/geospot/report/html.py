"""Text and numbers as HTML. Everything a model wrote passes through `escape`."""

import html
import math

MISSING = "–"
# Colours of the map and of the examples: style classes d0 to d4, each up to its bound, the bound included.
DISTANCE_BOUNDS_KM = (25, 200, 750, 2500)
DISTANCE_NAMES = ("≤ 25 km", "≤ 200 km", "≤ 750 km", "≤ 2,500 km", "farther")


def escape(text: object, limit: int | None = None) -> str:
    """HTML-escaped text, quotes included; control characters and lone surrogates become U+FFFD.

    With `limit`, text beyond so many characters is cut and its full length stated.
    """
    text = str(text)
    tail = f" … ({len(text):,} characters)" if limit and len(text) > limit else ""
    clean = "".join(c if c in "\n\t" or _printable(c) else "\ufffd" for c in text[:limit])
    return html.escape(clean + tail, quote=True)


def _printable(c: str) -> bool:
    return c >= " " and not "\x7f" <= c <= "\x9f" and not "\ud800" <= c <= "\udfff"


def kilometres(value: float) -> str:
    """1,234 or 56 or 7.8; without the unit."""
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def points(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:,.0f}"


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; without the sign."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f}"


def coordinates(lat: float, lon: float) -> str:
    """48.86° N, 2.35° E"""
    return f"{abs(lat):.2f}° {'S' if lat < 0 else 'N'}, {abs(lon):.2f}° {'W' if lon < 0 else 'E'}"


def distance_class(distance_km: float) -> str:
    """The style class of a distance, d0 (street level) to d4 (another continent)."""
    return f"d{sum(distance_km > bound for bound in DISTANCE_BOUNDS_KM)}"
