"""`geospot guess`: where was this photo taken?"""

from collections.abc import Sequence
from pathlib import Path

import chz

from geospot.answer import prompt_text
from geospot.config import EngineConfig, fail, run_command
from geospot.data.samples import Sample
from geospot.data.tar import PICTURE_SUFFIXES
from geospot.earth.place import Place
from geospot.engine import open_engine
from geospot.eval import Subject
from geospot.models.loading import TINY, is_tiny, load_processing
from geospot.models.prompt import Renderer
from geospot.rollout import ask_all


@chz.chz
class GuessConfig(EngineConfig):
    """Guess where photos were taken: geospot guess PHOTO|FOLDER ... key=value ..."""

    photos: tuple[str, ...] = chz.field(default=(), doc="pictures or folders; also as plain words")
    model_name: str | None = chz.field(default=None, doc=f"hub name or folder; none: the checkpoint's, else {TINY}")
    checkpoint: str | None = chz.field(default=None, doc="run folder or checkpoint; none: the model as it is")
    region: bool | None = chz.field(default=None, doc="ask for a Region line; none: as the checkpoint's run did")


def find_photos(paths: Sequence[str]) -> list[Path]:
    """The picture files named, and those in the folders named; FileNotFoundError for what is not there."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower().lstrip(".") in PICTURE_SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return found


def map_link(lat: float, lon: float) -> str:
    """A page with a marker at the place."""
    return f"https://www.openstreetmap.org/?mlat={lat:.4f}&mlon={lon:.4f}#map=6/{lat:.4f}/{lon:.4f}"


def run(config: GuessConfig) -> None:
    """Print one answer a photo; a photo that cannot be read is named and skipped."""
    photos = find_photos(config.photos)
    if not photos:
        fail("guess", "no photo given: geospot guess PHOTO|FOLDER ...")
    subject = Subject.of(config)
    if is_tiny(subject.model_name):
        print(f"{subject.model_name} has only ever seen satellite pictures: on street photos its guess is noise.\n")
    renderer = Renderer(load_processing(subject.model_name), max_pixels=config.max_pixels)
    samples = []
    for photo in photos:
        try:
            sample = Sample(str(photo), (photo.read_bytes(),), Place(float("nan"), float("nan")))
            renderer.prompt(sample.pictures, "")
        except (OSError, ValueError) as error:
            print(f"{photo}: skipped, {error}\n")
        else:
            samples.append(sample)
    if not samples:
        return
    with open_engine(subject.engine(config)) as service:
        sampler = subject.sampler(service)
        rollouts = ask_all(
            sampler,
            renderer,
            samples,
            prompt_text(region=subject.region),
            num_samples=1,
            seeds=[0] * len(samples),
            max_tokens=config.max_tokens,
            temperature=0.0,
        )
    for sample, text, answer in zip(samples, rollouts.texts, rollouts.answers, strict=True):
        print(f"{sample.key}\n{text.strip()}")
        print(map_link(answer.lat, answer.lon) if answer.ok else f"(no place in this answer: {answer.error})")
        print()


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: words without '=' are photos."""
    import sys

    words = list(sys.argv[1:] if argv is None else argv)
    photos = [w for w in words if not w.startswith("-") and ("=" not in w or Path(w).exists())]
    rest = [w for w in words if w not in photos]
    run_command(
        "guess", GuessConfig, lambda config: run(chz.replace(config, photos=config.photos + tuple(photos))), rest
    )


if __name__ == "__main__":
    main()
