"""`geospot guess`: where was this photo taken?"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import chz

from geospot._version import __version__
from geospot.asking.guesser import Guess
from geospot.asking.photos import Photo, PhotoError, find_photos, read_photos
from geospot.asking.prior import Prior
from geospot.config import GuessConfig, GuesserConfig
from geospot.files import write_bytes_atomic
from geospot.models.loading import is_tiny
from geospot.progress import Progress
from geospot.report.document import preview
from geospot.report.guess_files import FORMATS, as_text
from geospot.report.guess_page import write_guess_page
from geospot.report.page import command_line


def run(config: GuessConfig) -> list[Guess]:
    """Print or write the guesses; a photo that cannot be read is named and skipped, and the status is 1 then."""
    names = find_photos(config.photos)
    from geospot.asking.guesser import Guesser  # only now: what is refused is refused before torch is imported

    kind, unreadable = config.chosen_format(), []
    pictures: dict[str, bytes] | None = {} if kind == "html" else None  # small ones, for the page
    guesser_keys = {f: getattr(config, f) for f in chz.chz_fields(GuesserConfig) if f not in _OWN}
    with Guesser(config.model_name, checkpoint=config.checkpoint, region=config.region, **guesser_keys) as guesser:
        if is_tiny(guesser.subject.model_name):
            note(f"{guesser.subject.model_name} has only seen satellite pictures; on street photos it guesses noise.")
        else:
            guesser.say = note
        found: list[Guess] = []
        options = {"samples": config.samples, "temperature": config.temperature, "probability": config.probability,
                   "calibration": config.calibration, "coarse": config.coarse, "seed": config.seed,
                   "total": len(names), "prior": Prior.of(config), "tell_prior": config.tell_prior}  # fmt: skip
        with Progress("guessing", total=len(names)) if len(names) > 1 else _Quiet() as bar:
            for guess in guesser.guess(_readable(names, config, unreadable, bar, pictures), **options):
                found.append(guess)
                bar.advance(1)
                if guess.warning and (kind != "text" or config.out):
                    note(f"warning: {guess.warning}")
                if kind == "text" and not config.out:
                    print(as_text([guess]), flush=True)
    if config.out:
        path = Path(config.out).expanduser()
        if pictures is not None:
            write_guess_page(path, found, pictures, made_with=_settings(config), command=command_line())
        else:
            write_bytes_atomic(path, FORMATS[kind](found).encode("utf-8", "replace"))
        note(f"wrote the guesses for {len(found)} photo{'s' * (len(found) != 1)} to {config.out}")
    elif kind != "text":
        print(FORMATS[kind](found), end="")
    if unreadable:
        raise SystemExit(1)
    return found


def _settings(config: GuessConfig) -> dict[str, object]:
    """What the answers depend on, for the page."""
    keys = ("model_name", "checkpoint", "samples", "temperature", "probability", "calibration", "coarse", "seed",
            "max_pixels")  # fmt: skip
    return {key: getattr(config, key) for key in keys} | {"geospot": __version__}


_OWN = ("model_name", "checkpoint", "region")


class _Quiet:
    """In place of a bar for one photo."""

    def __enter__(self) -> "_Quiet":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def advance(self, *_: object) -> None:
        pass


def note(text: str) -> None:
    """Print to stderr, apart from the output."""
    if text:
        print(text, file=sys.stderr, flush=True)


def _readable(
    names: Sequence[str],
    config: GuessConfig,
    unreadable: list[str],
    bar: "Progress | _Quiet",
    pictures: dict[str, bytes] | None,
) -> Iterator[Photo]:
    for photo in read_photos(names, config.max_pixels, allow_private=config.allow_private):
        if isinstance(photo, PhotoError):
            unreadable.append(str(photo))
            note(f"skipped {photo}")
            bar.advance(1)
        else:
            if pictures is not None and (small := preview(photo.picture)):
                pictures[photo.name] = small
            yield photo
