"""A world map whose countries are coloured by a number, such as the score of the pictures taken there."""

from collections.abc import Mapping
from dataclasses import dataclass

from geospot.report.atlas import WORLD_WIDTH, country_paths, y_of
from geospot.report.html import escape

# From poor to good, in steps of the value's range; the classes c0 to c6 of the style sheet.
STEPS = 7
SHOWN_LAT = (84.0, -58.0)


@dataclass(frozen=True)
class CountryValue:
    """What a country is coloured by, and what is said when one points at it. `lat`, `lon`: where its pictures are."""

    value: float
    text: str
    lat: float
    lon: float


def country_map_html(values: Mapping[str, CountryValue], low: float, high: float, legend: str) -> str:
    """`values` by alpha-2 code; `low` and `high` are the ends of the colour scale. A country that the map does not
    draw (an islet) is a dot where its pictures are; one without pictures is grey."""
    paths = country_paths()
    shapes = "".join(
        f'<path class="{_colour(values[code].value, low, high) if code in values else "land"} outline" d="{path}">'
        f"<title>{escape(values[code].text if code in values else code + ': no picture')}</title></path>"
        for code, path in paths.items()
    )
    dots = "".join(
        f'<g><title>{escape(v.text)}</title><path class="dot-rim" d="{_dot(v)}"/>'
        f'<path class="dot-fill {_colour(v.value, low, high)}" d="{_dot(v)}"/></g>'
        for code, v in values.items()
        if code not in paths
    )
    top, bottom = y_of(SHOWN_LAT[0]), y_of(SHOWN_LAT[1])
    scale = "".join(f'<i class="c{i}"></i>' for i in range(STEPS))
    return (
        f'<div class="map countries"><div class="scroll" tabindex="0"><svg viewBox="0 {top} {WORLD_WIDTH} '
        f'{bottom - top}" role="img" aria-label="{escape(legend)}">{shapes}{dots}</svg></div>'
        f'<p class="scale"><span>{low:,.0f}</span>{scale}<span>{high:,.0f}</span> <b>{escape(legend)}</b></p></div>'
    )


def _colour(value: float, low: float, high: float) -> str:
    if value != value:
        return "land"
    share = (value - low) / (high - low) if high > low else 1.0
    return f"c{min(STEPS - 1, max(0, int(share * STEPS)))}"


def _dot(value: CountryValue) -> str:
    return f"M{round((value.lon + 180) * 10)} {y_of(value.lat)}h0"
