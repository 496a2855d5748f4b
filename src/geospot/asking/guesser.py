"""`Guesser`: a model that is opened once and says where photos were taken."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from geospot.answer import prompt_text
from geospot.asking.answer_log import Question
from geospot.asking.guess import Guess, make_guess
from geospot.asking.kept import find_calibration
from geospot.asking.photos import Photo, PhotoError, clean, find_photos, read_photos
from geospot.asking.subject import Subject
from geospot.config import GuesserConfig
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.engine import open_engine
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.training.rollout import ask_all, request_seed

BATCH = 16  # photos asked about at once


class Guesser:
    """Opens a model, or a checkpoint, on its first use; a context manager, or `close()` it.

    `model`: a hub name, a folder of save_pretrained, or none (geospot/tiny, or the checkpoint's). `engine` are further
    keys of the command line: device="cuda", dtype="bfloat16", max_pixels=..., max_tokens=..., threads=...
    """

    def __init__(
        self, model: str | None = None, *, checkpoint: str | None = None, region: bool | None = None, **engine
    ):
        self.config = GuesserConfig(model_name=model, checkpoint=checkpoint, region=region, **engine)
        self.subject = Subject.of(self.config)
        self._open = None

    def __enter__(self) -> "Guesser":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; the next guess opens it again."""
        if self._open is not None:
            service, self._open = self._open[0], None
            service.__exit__(None, None, None)

    def __call__(self, photo: str | Path | bytes, **options) -> Guess:
        """The guess for a photo: a path, an address or encoded bytes; options as of `guess`. May raise PhotoError."""
        pixels = self.config.max_pixels
        if isinstance(photo, bytes):
            photo = clean("photo", photo, pixels)
        else:
            (name,) = find_photos([str(photo)]) if not Path(photo).is_dir() else (str(photo),)
            (photo,) = read_photos([name], pixels)
        if isinstance(photo, PhotoError):
            raise photo
        return next(iter(self.guess([photo], **options)))

    def guess(
        self,
        photos: Iterable[Photo],
        *,
        samples: int = 1,
        temperature: float | None = None,
        probability: float = 0.9,
        calibration: str = "auto",
        coarse: bool = False,
        seed: int = 0,
    ) -> Iterator[Guess]:
        """A guess a photo, in order. `samples` answers each: several give ranked candidates and a better radius."""
        if samples < 1 or not 0 < probability < 1:
            raise ValueError(f"samples={samples}, probability={probability}: must be 1 or more, and between 0 and 1")
        heat = float(samples > 1) if temperature is None else temperature
        question = Question(prompt_text(region=self.subject.region), self.config.max_tokens, samples, heat, seed)
        known = None if coarse else find_calibration(calibration, self.subject, question)
        for number, part in enumerate(_batches(photos, BATCH)):
            for photo, texts in zip(part, self._ask(part, question, number * BATCH), strict=True):
                yield make_guess(photo.name, texts, calibration=known, probability=probability, coarse=coarse,
                                 warning=photo.warning)  # fmt: skip

    def _ask(self, photos: Sequence[Photo], question: Question, first: int) -> list[list[str]]:
        if self._open is None:
            service = open_engine(self.subject.engine(self.config)).__enter__()
            renderer = Renderer(load_processing(self.subject.model_name), max_pixels=self.config.max_pixels)
            self._open = service, renderer, self.subject.sampler(service)
        _, renderer, sampler = self._open
        nowhere = Place(float("nan"), float("nan"))
        rollouts = ask_all(
            sampler,
            renderer,
            [Sample(photo.name, (photo.picture,), nowhere) for photo in photos],
            question.text,
            num_samples=question.num_samples,
            seeds=[request_seed(question.seed, first + i) for i in range(len(photos))],
            max_tokens=question.max_tokens,
            temperature=question.temperature,
        )
        n = question.num_samples
        return [rollouts.texts[i * n : (i + 1) * n] for i in range(len(photos))]


def _batches(items: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    part: list[Photo] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
