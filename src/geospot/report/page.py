"""A self-contained HTML page, and text and numbers as HTML; whatever a model wrote goes through `escape`."""

import base64
import hashlib
import html
import math
import os
import shlex
import sys
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from geospot.report.atlas import outlines_svg

MISSING = "–"
# Colours of the map and of the examples: style classes d0 to d4, each up to its bound, the bound included.
DISTANCE_BOUNDS_KM = (25, 200, 750, 2500)
DISTANCE_NAMES = ("≤ 25 km", "≤ 200 km", "≤ 750 km", "≤ 2,500 km", "farther")


def escape(text: object, limit: int | None = None) -> str:
    """HTML-escaped text, quotes included; control characters and lone surrogates become U+FFFD.

    Text longer than `limit` characters is cut, and its full length is stated.
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


def command_line() -> str:
    """The command of this process as a person would type it."""
    program = Path(sys.argv[0])
    # `python -m geospot.sft` runs a file of the package, and `geospot` or `python -m geospot` finds the command.
    in_package = program.parent.name == "geospot" and program.suffix == ".py"
    words = [program.stem] if in_package and program.stem != "__main__" else []
    return shlex.join(["geospot", *words, *sys.argv[1:]])


def write_page(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
    lead: str = "",
    top: str = "",
    warnings: Sequence[str] = (),
    kicker: str = "geospot report",
) -> Path:
    """Write a page of (heading, HTML) sections, those without content left out; whole or not at all.

    `lead` says in plain text, for a reader who knows none of the metrics, what was found; it is the page's description,
    too. `warnings` are plain text in a box above everything that they are about; `top` is HTML between the lead and the
    sections; `notes` are paragraphs of plain text in smaller print.
    """
    body = "".join(f"<section><h2>{heading}</h2>{content}</section>" for heading, content in sections if content)
    said = warnings_html(warnings)
    said += f'<p class="lead">{escape(lead)}</p>' if lead else ""
    said += "".join(f'<p class="muted">{escape(note)}</p>' for note in notes)
    text = _document(title, lead, f"{said}</header>{top}{body}", kicker)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def warnings_html(warnings: Sequence[str]) -> str:
    """A box that nobody can miss; nothing where there is nothing to warn of."""
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="warning" role="alert"><p>Read this before the numbers</p><ul>{items}</ul></div>'


def _document(title: str, description: str, content: str, kicker: str) -> str:
    """The whole file. The style sheet, the outlines of countries and the script of the maps are part of it."""
    maps = '<div class="frame"' in content
    script = _resource("map.js") if maps else ""
    about = f'<meta name="description" content="{escape(description)}">' if description else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>{about}'
        f"<style>{_resource('style.css')}</style></head><body>{outlines_svg() if maps else ''}"
        f'<main><header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>{content}</main>'
        f"{f'<script>{script}</script>' if maps else ''}</body></html>\n"
    )


def _policy(script: str) -> str:
    """All text is escaped; should some not be, this forbids the browser to fetch anything or run another script."""
    allowed = f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed if script else ''}"


@cache
def _resource(name: str) -> str:
    return resources.files("geospot.report").joinpath(name).read_text(encoding="utf-8")
