"""Guesses as one page: each photo beside a map with its candidates and the circle that its radius stands for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geospot.asking.cluster import Candidate
from geospot.asking.guesser import Guess
from geospot.earth.circle import circle_rings
from geospot.progress import with_minus_signs
from geospot.report.atlas import polyline
from geospot.report.document import data_uri, pairs_html, preview
from geospot.report.guess_files import SHOWN, circle_of, place_text, radius_text, said_lines
from geospot.report.maps import dot, frame_html, near_box
from geospot.report.page import escape, write_page

FEW = 50  # of more photos than this the pictures are smaller: a page of a thousand should still open


def write_guess_page(
    path: str | Path,
    guesses: Sequence[Guess],
    pictures: Mapping[str, bytes],
    *,
    made_with: Mapping[str, object] | None = None,
    command: str = "",
) -> Path:
    """Write the page; `pictures` by the guess's name (encoded as the model saw them), where there are any."""
    side = 480 if len(guesses) <= FEW else 240
    sections = []
    if len(guesses) > 1 and (overview := _overview(guesses)):
        sections.append(("All photos", overview))
    for number, guess in enumerate(guesses):
        picture = preview(pictures[guess.name], side) if guess.name in pictures else None
        heading = escape(Path(guess.name).name if len(guesses) > 1 else "The guess", 120)
        sections.append((heading, _photo_html(number, guess, picture)))
    made = pairs_html("Settings", made_with) + (f'<pre class="command">{escape(command)}</pre>' if command else "")
    return write_page(
        path, title=_title(guesses), sections=[*sections, ("How it was made", made)], lead=_lead(guesses),
        kicker="geospot guess",
    )  # fmt: skip


def _title(guesses: Sequence[Guess]) -> str:
    if len(guesses) == 1:
        return f"Where was {Path(guesses[0].name).name} taken?"
    return f"Where were these {len(guesses):,} photos taken?"


def _lead(guesses: Sequence[Guess]) -> str:
    if len(guesses) > 1:
        lost = sum(not guess.ok for guess in guesses)
        none = "" if not lost else " One has none." if lost == 1 else f" {lost:,} have none."
        return f"A model’s guess for each of {len(guesses):,} photos.{none}"
    (guess,) = guesses
    if not guess.ok:
        return "The model named no place that can be read."
    share = f", which {_share(guess.candidates[0])} of its answers mean" if len(guess.texts) > 1 else ""
    text = f"The model’s best guess is {_named(guess.candidates[0], guess.coarse)}{share}."
    return text if guess.coarse else f"{text} {_sentence(radius_text(guess))}"


def _named(candidate: Candidate, coarse: bool) -> str:
    return with_minus_signs(place_text(candidate, coarse))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _share(candidate: Candidate) -> str:
    return f"{100 * candidate.mass:.0f} %"


def _photo_html(number: int, guess: Guess, picture: bytes | None) -> str:
    """One photo: the picture, its candidates as a list, the map, and the answers below a fold."""
    image = ""
    if picture:
        image = f'<div class="pictures"><img src="{data_uri(picture)}" alt="{escape(Path(guess.name).name)}"></div>'
    notes = [f'<p class="muted">{escape(guess.name, 200)}</p>']
    if guess.warning:
        notes.append(f'<p class="note">{escape(guess.warning)}</p>')
    if not guess.ok:
        reasons = ", ".join(sorted(set(guess.failures))) or "no country"
        notes.append(f"<p>No place in this answer ({escape(reasons)}).</p>")
    where = "" if guess.coarse or not guess.ok else f'<div class="where">{_map_html(number, guess)}</div>'
    words = _candidates_html(number, guess) + "".join(notes) + _answers_html(guess)
    return f'<div class="opening">{image}<div class="words">{words}</div>{where}</div>'


def _candidates_html(number: int, guess: Guess) -> str:
    several = len(guess.texts) > 1 or len(guess.candidates) > 1
    lines = []
    for rank, candidate in enumerate(guess.candidates[:SHOWN], start=1):
        share = ""
        if several:
            share = f'<i class="share" style="width:{100 * candidate.mass:.1f}%"></i><b>{_share(candidate)}</b> '
        said = "".join(f'<br><span class="muted">{escape(with_minus_signs(x))}</span>' for x in said_lines(candidate))
        lines.append(f'<li data-mark="m-{number}-{rank}">{share}{escape(_named(candidate, guess.coarse))}{said}</li>')
    more = len(guess.candidates) - SHOWN
    tail = f'<p class="muted">and {more} more</p>' if more > 0 else ""
    radius = "" if guess.coarse or not guess.ok else f"<p>{escape(_sentence(radius_text(guess)))}</p>"
    return (f'<ol class="candidates">{"".join(lines)}</ol>' if lines else "") + tail + radius


def _answers_html(guess: Guess) -> str:
    if not guess.texts:
        return ""
    answers = "".join(f"<pre>{escape(text.strip(), 600)}</pre>" for text in guess.texts)
    count = "1 answer" if len(guess.texts) == 1 else f"{len(guess.texts)} answers"
    lost = f", {len(guess.failures)} of them could not be read" if guess.failures else ""
    return f'<details class="answers"><summary>{count}{lost}</summary>{answers}</details>'


def _map_html(number: int, guess: Guess) -> str:
    """Candidates, the first in a colour of its own, dots as large as their shares; and the circle."""
    points = [[(c.lat, c.lon)] for c in guess.candidates]
    circle = ""
    if (covered := circle_of(guess)) is not None:
        rings = [np.array(ring)[:, ::-1] for ring in circle_rings(*covered)]
        points += [ring.tolist() for ring in rings]
        about = radius_text(guess)
        circle = f'<g><title>{escape(about)}</title><path class="circle" d="{"".join(map(polyline, rings))}"/></g>'
    marks = "".join(
        _mark(f"m-{number}-{rank}", candidate, f"{rank}. {_label(candidate, guess)}", rank == 1)
        for rank, candidate in reversed(list(enumerate(guess.candidates, start=1)))
    )
    drawn = frame_html(circle + marks, near_box(np.concatenate(points)), f"Map of the guesses for {guess.name}")
    legend = '<li><i class="dot first"></i>best guess</li>'
    if len(guess.candidates) > 1:
        legend += '<li><i class="dot place"></i>other candidates, larger with more answers</li>'
    if circle and guess.probability is not None:
        legend += f'<li><i class="loop"></i>{100 * guess.probability:g} % of such circles hold the true place</li>'
    return f'<div class="map">{drawn}<ul class="legend">{legend}</ul></div>'


def _label(candidate: Candidate, guess: Guess) -> str:
    share = f"{_share(candidate)} " if len(guess.texts) > 1 else ""
    return f"{share}{_named(candidate, guess.coarse)}"


def _mark(name: str, candidate: Candidate, label: str, first: bool) -> str:
    size = 6 + 8 * candidate.mass**0.5
    at = dot(candidate.lat, candidate.lon)
    return (
        f'<g id="{name}" class="mark"><title>{escape(label)}</title>'
        f'<path class="rim" style="stroke-width:{size + 2:.1f}px" d="{at}"/>'
        f'<path class="candidate{" first" if first else ""}" style="stroke-width:{size:.1f}px" d="{at}"/></g>'
    )


def _overview(guesses: Sequence[Guess]) -> str:
    """A map with the best guess for every photo; empty without coordinates."""
    placed = [guess for guess in guesses if guess.ok and not guess.coarse]
    if not placed:
        return ""
    firsts = [(guess.name, guess.candidates[0]) for guess in placed]
    marks = "".join(
        f'<g class="mark"><title>{escape(Path(name).name)}: {escape(_named(c, False))}</title>'
        f'<path class="rim" d="{dot(c.lat, c.lon)}"/><path class="candidate first" d="{dot(c.lat, c.lon)}"/></g>'
        for name, c in firsts
    )
    points = np.array([(c.lat, c.lon) for _, c in firsts])
    return f'<div class="map">{frame_html(marks, near_box(points), "Map of the best guesses")}</div>'
