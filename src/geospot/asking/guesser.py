"""`Guesser`: a model that is opened once and says where photos were taken; and `Guess`, what it says of one."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from geospot.answer import Answer, Reply, read_reply
from geospot.asking.calibration import Calibration, find_calibration
from geospot.asking.cluster import Candidate, gather
from geospot.asking.likeness import picture_features
from geospot.asking.photos import Photo, PhotoError, clean, find_photos, read_photos
from geospot.asking.prior import Prior
from geospot.asking.requests import Question
from geospot.asking.respondents import Inquiry, Respondent, open_respondent
from geospot.asking.subject import Subject
from geospot.config import GuesserConfig
from geospot.data.samples import Sample
from geospot.earth.agreement import answer_point
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.spot import Spot, name_points
from geospot.engine.api.addresses import is_api_model
from geospot.errors import install_extra

BATCH = 16  # photos asked about at once
NOWHERE = Place(float("nan"), float("nan"))


@dataclass(frozen=True)
class Guess:
    """Where a photo was taken, as far as the model knows.

    `candidates` are ranked, the heaviest first; none where no answer could be read. `radius_km` around the first holds
    the truth with `probability` for pictures like those of `calibrated_on`; None where the model is not calibrated for
    this many answers, or where `unlike` says why the photo is not of their kind: then `spread_km`, how far the answers
    lie apart, is all there is. `texts` are the answers.
    A coarse guess has countries and regions, and no coordinates anywhere.
    """

    name: str
    candidates: tuple[Candidate, ...] = ()
    radius_km: float | None = None
    probability: float | None = None
    spread_km: float | None = None
    texts: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    coarse: bool = False
    warning: str = field(default="", compare=False)
    calibration: Calibration | None = field(default=None, compare=False, repr=False)
    unlike: str = ""
    outside: int = 0  # answers that what is known beforehand set aside

    @property
    def ok(self) -> bool:
        """Whether there is any candidate."""
        return bool(self.candidates)

    @property
    def calibrated_on(self) -> str | None:
        """The pictures that a radius holds for; None where the model is not calibrated."""
        return None if self.calibration is None else self.calibration.made_on

    def radius_at(self, probability: float) -> float | None:
        """The radius in km that holds the truth with another probability than its own; None where there is none."""
        if self.radius_km is None or self.calibration is None or self.spread_km is None:
            return None
        return float(self.calibration.radius_km(self.spread_km, probability))

    def _first(self, name: str):
        return getattr(self.candidates[0], name) if self.candidates else None

    @property
    def lat(self) -> float | None:
        """Degrees; None without an answer, and for a coarse guess."""
        return None if self.coarse else self._first("lat")

    @property
    def lon(self) -> float | None:
        """Degrees; None without an answer, and for a coarse guess."""
        return None if self.coarse else self._first("lon")

    @property
    def city(self) -> str | None:
        """As the answers name it."""
        return self._first("city")

    @property
    def region(self) -> str | None:
        """As the answers name it."""
        return self._first("region")

    @property
    def country(self) -> str | None:
        """As the answers name it."""
        return self._first("country")

    @property
    def spot(self) -> Spot | None:
        """What lies at its coordinates: country, region and the nearest city. None for a coarse guess."""
        return self._first("spot")

    @property
    def disagreement(self) -> str:
        """How the names in the answers contradict the coordinates; empty where they do not."""
        return self._first("disagreement") or ""


def make_guess(
    name: str,
    replies: Sequence[str | Reply],
    *,
    calibration: Calibration | None = None,
    probability: float = 0.9,
    coarse: bool = False,
    warning: str = "",
    picture: bytes | None = None,
    prior: Prior | None = None,
) -> Guess:
    """From the answers to one photo. What lies at the coordinates is said beside the names in the answers.

    A calibration gives a radius only where the `picture`, if there is one, is like those that it was made on.
    """
    found = [Reply.of(reply) for reply in replies]
    texts = tuple(reply.text for reply in found)
    answers = [read_reply(reply) for reply in found]
    if coarse:
        read, answers = answers, [a for a in answers if not (prior and a.ok and not prior.holds(*answer_point(a))[0])]
        outside = len(read) - len(answers)
        failures = tuple(a.error for a in answers if a.error is not None and not a.country)
        return Guess(name, _countries(answers), failures=failures, coarse=True, warning=warning, outside=outside)
    draws = gather(answers, prior=prior)
    candidates = tuple(_named(draws.candidates))
    if not candidates:
        return Guess(name, texts=texts, failures=draws.failures, warning=warning, outside=draws.outside)
    radius, unlike = None, ""
    if calibration is not None:
        if calibration.likeness is not None and picture is not None:
            unlike = calibration.likeness.unlike(picture_features([picture]), draws.spread_km)
        radius = None if unlike else float(calibration.radius_km(draws.spread_km, probability))
    return Guess(
        name, candidates, radius, None if radius is None else probability, draws.spread_km, texts,
        draws.failures, warning=warning, calibration=calibration, unlike=unlike, outside=draws.outside,
    )  # fmt: skip


def _named(candidates: Sequence[Candidate]) -> list[Candidate]:
    """With what lies at their coordinates, and how the names in the answers contradict it."""
    found = name_points(candidates)
    return [replace(c, spot=n.spot, disagreement=n.disagreement) for c, n in zip(candidates, found, strict=True)]


def _countries(answers: Sequence[Answer]) -> tuple[Candidate, ...]:
    """Country and region with their share of the answers, by what they name, else by where they lie; no coordinates."""
    gazetteer = Gazetteer.load()
    votes: dict[tuple[str, str | None], int] = defaultdict(int)
    for answer in answers:
        at = gazetteer.locate(*answer_point(answer)) if answer.ok else None
        code = gazetteer.country_code(answer.country) or (at.country[0] if at else None)
        if code is None:
            continue
        here = at.region[0] if at and at.country[0] == code else None
        said = gazetteer.regions.candidates(answer.region, code) if answer.region else ()
        votes[gazetteer.country_name(code), gazetteer.regions.title[said[0]] if said else here] += 1
    nowhere = float("nan")
    ranked = sorted(votes.items(), key=lambda item: -item[1])
    return tuple(
        Candidate(nowhere, nowhere, n / len(answers), None, region, country) for (country, region), n in ranked
    )


def _require(*modules: str, extra: str = "train") -> None:
    """ModuleNotFoundError that names the extra, where one of these packages is not installed."""
    for name in modules:
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ModuleNotFoundError(
                f"Guesser needs {name}: install the extra {extra} with {install_extra(extra)}", name=name
            )


class Guesser:
    """Opens a model, or a checkpoint, on its first use; a context manager, or `close()` it.

    `model` (or `model_name`): a hub name, a folder of save_pretrained, or none (geospot/tiny, or the checkpoint's).
    `engine` are further keys of the command line: device="cuda", dtype="bfloat16", max_pixels=..., threads=...
    """

    def __init__(
        self, model: str | None = None, *, checkpoint: str | None = None, region: bool | None = None, **engine: Any
    ):
        model = engine.pop("model_name", model)
        self.config = GuesserConfig(model_name=model, checkpoint=checkpoint, region=region, **engine)
        if is_api_model(model, self.config.engine):
            _require("PIL", "openai", extra="api")
        else:
            _require("PIL", "transformers", "tinker", *(() if self.config.engine == "tinker" else ("torch",)))
        self.subject = Subject.of(self.config)
        self._stack = ExitStack()
        self._respondent: Respondent | None = None
        self.say: Callable[[str], object] = lambda text: None  # what the model will need of memory, once it is open

    def __enter__(self) -> "Guesser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._respondent = None
        self._stack.__exit__(kind, error, trace)

    def close(self) -> None:
        """Free the model; the next guess opens it again."""
        self.__exit__(None, None, None)

    def __call__(self, photo: str | Path | bytes, *, allow_private: bool = False, **options: Any) -> Guess:
        """The guess for a photo: a path, an address or encoded bytes; options as of `guess`. May raise PhotoError.

        allow_private: an address may lead to hosts that are not on the public internet.
        """
        pixels = self.config.max_pixels
        if isinstance(photo, bytes):
            found: Photo | PhotoError = clean("photo", photo, pixels)
        else:
            (name,) = find_photos([str(photo)]) if not Path(photo).is_dir() else (str(photo),)
            (found,) = read_photos([name], pixels, allow_private=allow_private)
        if isinstance(found, PhotoError):
            raise found
        return next(iter(self.guess([found], **options)))

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
        total: int | None = None,
        prior: Prior | None = None,
        tell_prior: bool = False,
    ) -> Iterator[Guess]:
        """A guess a photo, in order. `samples` answers each: several give ranked candidates and a better radius.

        total: how many photos there are, where that is known, for the estimate of what they will cost. Answers that
        contradict the `prior` are set aside; with `tell_prior` the question says it, too.
        """
        if samples < 1 or not 0 < probability < 1:
            raise ValueError(f"samples={samples}, probability={probability}: must be 1 or more, and between 0 and 1")
        question = self.subject.question(self.config, samples, temperature, seed)
        known = None if coarse else find_calibration(calibration, self.subject, question)
        if prior is not None and tell_prior:
            question = prior.told(question)
        for number, part in enumerate(_batches(photos, BATCH)):
            shown = [Sample(photo.name, (photo.picture,), NOWHERE) for photo in part]
            for photo, replies in zip(part, self._ask(shown, question, number * BATCH, total), strict=True):
                yield make_guess(photo.name, replies, calibration=known, probability=probability, coarse=coarse,
                                 warning=photo.warning, picture=photo.picture, prior=prior)  # fmt: skip

    def guess_place(
        self, sample: Sample, *, samples: int = 16, probability: float = 0.9, calibration: str = "auto", seed: int = 0
    ) -> Guess:
        """The guess for a place of a data set, whose pictures (the four headings, for instance) are shown together."""
        question = self.subject.question(self.config, samples, None, seed)
        known = find_calibration(calibration, self.subject, question)
        (replies,) = self._ask([sample], question, 0, None)
        return make_guess(sample.key, replies, calibration=known, probability=probability, picture=sample.pictures[0])

    def _ask(self, samples: Sequence[Sample], question: Question, first: int, total: int | None) -> list[list[Reply]]:
        if self._respondent is None:
            self._respondent = self._stack.enter_context(open_respondent(self.config, self.subject))
            self._respondent.begin(samples, question, at_once=len(samples), pictures=total, say=self.say)
        members = tuple(range(question.num_samples))
        inquiries = [Inquiry(first + i, sample, members) for i, sample in enumerate(samples)]
        found: list[dict[int, Reply]] = [{} for _ in samples]
        for arrived in self._respondent.ask(inquiries, question):
            for p, replies in arrived.items():
                found[p].update(replies)
        return [[replies[m] for m in members] for replies in found]


def _batches(items: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    part: list[Photo] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
