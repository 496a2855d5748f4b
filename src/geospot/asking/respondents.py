"""Who answers questions about pictures: an engine of ours, or a model behind an API. No caller asks which."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from geospot.answer import Reply
from geospot.asking.requests import Asked, Question, request_seed, workload
from geospot.asking.subject import Subject
from geospot.config import GuesserConfig
from geospot.data.samples import Sample
from geospot.engine.open import open_engine
from geospot.engine.protocols import SamplingClient, ServiceClient
from geospot.errors import EngineError
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.pictures import image_size, prepare_picture

if TYPE_CHECKING:
    from geospot.engine.api.client import ApiClient
    from geospot.engine.api.exchange import Wanted

Say = Callable[[str], object]


@dataclass(frozen=True)
class Inquiry:
    """Which answers to a picture are wanted: the members of the group (0 to num_samples - 1) that are not there yet.

    The seed follows from the picture's `number`, not from what else is asked.
    """

    number: int
    sample: Sample
    members: tuple[int, ...]


class Respondent(Protocol):
    """Answers questions about pictures."""

    def begin(
        self, samples: Sequence[Sample], question: Question, *, at_once: int, pictures: int | None, say: Say
    ) -> None:
        """Get ready to be asked about so many pictures (None: not known) such as these, `at_once` at a time; says
        what that takes."""
        ...

    def ask(self, inquiries: Sequence[Inquiry], question: Question) -> Iterator[Mapping[int, Mapping[int, Reply]]]:
        """Position in `inquiries` -> member -> reply, as they arrive: each is given out once."""
        ...

    def remarks(self) -> list[str]:
        """What there is to say at the end."""
        ...


@contextmanager
def open_respondent(config: GuesserConfig, subject: Subject, kept: Iterable[Reply] = ()) -> Generator[Respondent]:
    """Who answers for a subject; `kept` are replies that are there already, and count for what all may cost."""
    if subject.api is not None:
        from geospot.engine.api.client import ApiClient
        from geospot.engine.api.prices import Budget, Price, published_price

        price = published_price(subject.api)
        if config.price_in is not None and config.price_out is not None:
            price = Price(config.price_in, config.price_out, "price_in, price_out")
        if config.max_cost is not None and price is None:
            raise EngineError(
                f"max_cost={config.max_cost:g}: no price of {subject.api} is published; give price_in= and price_out=, "
                "dollars per million tokens"
            )
        budget = Budget(price, config.max_cost)
        for reply in kept:
            budget.count(reply)
        with ApiClient(subject.api, config.api_options(), concurrency=config.concurrency, budget=budget) as client:
            yield ApiRespondent(client, config)
    else:
        with open_engine(subject.engine(config)) as service:
            renderer = Renderer(load_processing(subject.model_name), max_pixels=config.max_pixels)
            yield EngineRespondent(lambda: subject.sampler(service), renderer, service)


class EngineRespondent:
    """A model in an engine of ours. `open_sampler` is called once, before the first question."""

    def __init__(
        self, open_sampler: Callable[[], SamplingClient], renderer: Renderer, service: ServiceClient | None = None
    ):
        self._open, self._renderer, self._service = open_sampler, renderer, service
        self._sampler: SamplingClient | None = None

    def _client(self) -> SamplingClient:
        self._sampler = self._sampler or self._open()
        return self._sampler

    def begin(
        self, samples: Sequence[Sample], question: Question, *, at_once: int, pictures: int | None, say: Say
    ) -> None:
        """See `Respondent`; says what it will need of memory."""
        self._client()
        work = workload(self._renderer, samples, question, at_once, pictures or at_once)
        if self._service is not None and (text := self._service.expect(work)):
            say(text)

    def ask(self, inquiries: Sequence[Inquiry], question: Question) -> Iterator[Mapping[int, Mapping[int, Reply]]]:
        """See `Respondent`: all at once, whole groups."""
        n = question.num_samples
        rollouts = Asked(
            self._client(), self._renderer, [one.sample for one in inquiries], question.text, num_samples=n,
            max_tokens=question.max_tokens, seeds=[request_seed(question.seed, one.number) for one in inquiries],
            temperature=question.temperature,
        ).collect()  # fmt: skip
        ends = ["length" if sequence.stop_reason == "length" else "stop" for sequence in rollouts.sequences]
        replies = [Reply(text, end) for text, end in zip(rollouts.texts, ends, strict=True)]
        yield {p: {m: replies[p * n + m] for m in one.members} for p, one in enumerate(inquiries)}

    def remarks(self) -> list[str]:
        """See `Respondent`."""
        return []


class ApiRespondent:
    """A model behind an API: a request an answer."""

    def __init__(self, client: "ApiClient", config: GuesserConfig):
        self._client, self._config = client, config

    def begin(
        self, samples: Sequence[Sample], question: Question, *, at_once: int, pictures: int | None, say: Say
    ) -> None:
        """See `Respondent`; says what it will cost."""
        from geospot.engine.api.prices import Estimate

        wanted = self._wanted(samples[0], question, 0, 0)
        sizes = [image_size(data) for data, _ in wanted.pictures]
        budget = self._client.budget
        budget.estimate = Estimate.of(wanted, sizes, self._config.api_options().budget)
        text = budget.estimate.in_words((pictures or 1000) * question.num_samples, budget.price)
        say(text if pictures else f"for each 1,000 pictures, {text}")

    def ask(self, inquiries: Sequence[Inquiry], question: Question) -> Iterator[Mapping[int, Mapping[int, Reply]]]:
        """See `Respondent`: one by one."""
        wanted = {
            (p, m): self._wanted(one.sample, question, one.number, m)
            for p, one in enumerate(inquiries)
            for m in one.members
        }
        for (p, m), reply in self._client.ask(wanted):
            yield {p: {m: reply}}

    def _wanted(self, sample: Sample, question: Question, number: int, member: int) -> "Wanted":
        from geospot.engine.api.exchange import Wanted

        pictures = tuple(prepare_picture(data, self._config.max_pixels, verify=False) for data in sample.pictures)
        position = (number, member) if member else (number,)
        seed = request_seed(question.seed, *position)
        return Wanted(pictures, question.text, question.max_tokens, question.temperature, seed)

    def remarks(self) -> list[str]:
        """See `Respondent`: what was tried again, what the server does not know, what was spent."""
        budget, found = self._client.budget, []
        if self._client.retried:
            counts = ", ".join(f"{reason.removeprefix('retry: ')} {n}" for reason, n in self._client.retried.items())
            found.append(f"requests sent again: {counts}")
        if self._client.left_out:
            found.append(f"left out, as the server asked: {', '.join(sorted(self._client.left_out))}")
        if budget.tokens_in:
            cost = f", ${budget.spent:,.4f}" if budget.price is not None else ""
            found.append(f"all answers here: {budget.tokens_in:,.0f} tokens in, {budget.tokens_out:,.0f} out{cost}")
        return found
