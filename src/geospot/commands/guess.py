"""`geospot guess`: where was this photo taken?"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import chz

from geospot.asking.guesser import Guess, Guesser, GuesserConfig
from geospot.asking.photos import Photo, PhotoError, find_photos, read_photos
from geospot.commands.eval import model_words
from geospot.config import fail, not_negative, positive, run_command
from geospot.files import write_bytes_atomic
from geospot.models.loading import is_tiny
from geospot.progress import Progress
from geospot.report.guesses import FORMATS, as_text


@chz.chz
class GuessConfig(GuesserConfig):
    """Guess where photos were taken: geospot guess PHOTO|FOLDER|URL ... key=value ..."""

    photos: tuple[str, ...] = chz.field(default=(), doc="pictures, folders or web addresses; also as plain words")
    samples: int = chz.field(default=1, doc="answers a photo; of several the clusters are ranked, and give a radius")
    temperature: float | None = chz.field(default=None, doc="none: 0 for one answer, 1 for several")
    probability: float = chz.field(default=0.9, doc="with which the radius is to hold the truth")
    calibration: str = chz.field(default="auto", doc="of the radius: auto (the model's own, if any), none, or a file")
    coarse: bool = chz.field(default=False, doc="country and region only, no coordinates")
    format: str = chz.field(default="auto", doc=f"{', '.join(FORMATS)}; auto: by the ending of out, else text")
    out: str | None = chz.field(default=None, doc="file to write; none: print")
    seed: int = chz.field(default=0, doc="of the answers")

    @chz.validate
    def _check_guess(self):
        positive(self, "samples")
        not_negative(self, "seed")
        if self.format not in ("auto", *FORMATS):
            raise ValueError(f"format={self.format!r}: must be auto or one of {', '.join(FORMATS)}")
        if not 0 < self.probability < 1:
            raise ValueError(f"probability={self.probability}: must be between 0 and 1")
        if self.temperature is not None:
            not_negative(self, "temperature")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples={self.samples} at temperature=0: all answers would be alike; set temperature=1")

    def chosen_format(self) -> str:
        """The format, found by the ending of `out` where it is left open."""
        if self.format != "auto":
            return self.format
        ending = Path(self.out).suffix.lower().lstrip(".") if self.out else "text"
        return ending if ending in FORMATS else "text"


def run(config: GuessConfig) -> list[Guess]:
    """Print or write the guesses; a photo that cannot be read is named and skipped, and the status is 1 then."""
    names = find_photos(config.photos)
    if not names:
        fail("guess", "no photo given: geospot guess PHOTO|FOLDER|URL ...")
    kind, unreadable = config.chosen_format(), []
    guesser_keys = {f: getattr(config, f) for f in GuesserConfig.__chz_fields__ if f not in _OWN}
    with Guesser(config.model_name, checkpoint=config.checkpoint, region=config.region, **guesser_keys) as guesser:
        if is_tiny(guesser.subject.model_name):
            tell(f"{guesser.subject.model_name} has only ever seen satellite pictures: on street photos it is noise.")
        found: list[Guess] = []
        options = {"samples": config.samples, "temperature": config.temperature, "probability": config.probability,
                   "calibration": config.calibration, "coarse": config.coarse, "seed": config.seed}  # fmt: skip
        with Progress("guessing", total=len(names)) if len(names) > 1 else _Quiet() as bar:
            for guess in guesser.guess(_readable(names, config.max_pixels, unreadable, bar), **options):
                found.append(guess)
                bar.advance(1)
                if guess.warning and (kind != "text" or config.out):
                    tell(f"warning: {guess.warning}")
                if kind == "text" and not config.out:
                    print(as_text([guess]), flush=True)
    if config.out:
        write_bytes_atomic(Path(config.out).expanduser(), FORMATS[kind](found).encode("utf-8", "replace"))
        tell(f"wrote {len(found)} guesses to {config.out}")
    elif kind != "text":
        print(FORMATS[kind](found), end="")
    if unreadable:
        raise SystemExit(1)
    return found


_OWN = ("model_name", "checkpoint", "region")


class _Quiet:
    """In place of a bar for one photo."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def advance(self, *_):
        pass


def tell(text: str) -> None:
    """To the person, not into the output."""
    print(text, file=sys.stderr, flush=True)


def _readable(names: Sequence[str], max_pixels: int, unreadable: list[str], bar) -> Iterator[Photo]:
    for photo in read_photos(names, max_pixels):
        if isinstance(photo, PhotoError):
            unreadable.append(str(photo))
            tell(f"skipped {photo}")
            bar.advance(1)
        else:
            yield photo


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: words without '=' are photos."""
    words = list(sys.argv[1:] if argv is None else argv)
    photos = [w for w in words if not w.startswith("-") and _is_photo(w)]
    rest = model_words([w for w in words if w not in photos])
    run_command(
        "guess", GuessConfig, lambda config: run(chz.replace(config, photos=config.photos + tuple(photos))), rest
    )


def _is_photo(word: str) -> bool:
    return "=" not in word or word.lower().startswith(("http://", "https://")) or Path(word).exists()


if __name__ == "__main__":
    main()
