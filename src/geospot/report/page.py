"""The report itself: one HTML file that needs no network, no script and no other file."""

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from geospot.report.charts import Chart, chart_html
from geospot.report.examples import Example, example_html
from geospot.report.html import escape
from geospot.report.tables import Table, table_html
from geospot.report.world_map import world_map_html
from geospot.scoring.metrics import Predictions

# Belt and braces: all text is escaped, and a browser is told to run and fetch nothing in case some is not.
CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


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
) -> Path:
    """Write the report and return its path; what is not given has no section.

    `sections` are further (heading, HTML) behind the map, made by this package, which has escaped all text in them.

    `maps` has one entry a stage, the last shown first. `notes` are paragraphs of plain text below the title.
    The same arguments give the same bytes. The file is replaced whole or not at all.
    """
    results = "".join(map(table_html, tables)) + (RESULTS_NOTE if tables else "")
    facts = _pairs("Configuration", configuration) + _pairs("Versions", versions)
    command_box = f'<h3>Command</h3><div class="scroll" tabindex="0"><pre class="command">{escape(command)}</pre></div>'
    all_sections = (
        ("Results", results),
        ("Where the guesses land", world_map_html(maps) if maps else ""),
        *sections,
        ("Learning curves", _grid("charts", map(chart_html, charts))),
        ("Examples", _grid("cards", map(example_html, examples))),
        ("How it was made", (command_box if command else "") + (f'<div class="facts">{facts}</div>' if facts else "")),
    )
    return write_page(path, title=title, sections=all_sections, notes=notes)


def write_page(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
    kicker: str = "geospot report",
) -> Path:
    """Write a page of (heading, HTML) sections, those without content left out; whole or not at all."""
    body = "".join(f"<section><h2>{heading}</h2>{content}</section>" for heading, content in sections if content)
    lead = "".join(f"<p>{escape(note)}</p>" for note in notes)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{_style()}</style></head>'
        f'<body><main><header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>{lead}</header>'
        f"{body}</main>"
        "</body></html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


RESULTS_NOTE = (
    '<p class="muted fine">Every answer counts: a failed one scores 0, misses every radius and label, and enters '
    "median and mean as 20,015 km, the greatest distance on Earth. Small figures: 95 % bootstrap intervals over "
    "the places. Bold: best of its column.</p>"
)


def _grid(name: str, items) -> str:
    content = "".join(items)
    return f'<div class="{name}">{content}</div>' if content else ""


def _pairs(heading: str, pairs: Mapping[str, object] | None) -> str:
    if not pairs:
        return ""
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in pairs.items())
    return f'<div><h3>{heading}</h3><div class="scroll" tabindex="0"><table class="pairs">{rows}</table></div></div>'


def _style() -> str:
    return resources.files("geospot.report").joinpath("style.css").read_text(encoding="utf-8")
