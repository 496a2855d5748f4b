"""Ask for the answers to many pictures at once, collect them as they finish, read each once."""

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geospot.answer import Answer, parse_answer
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.engine.workload import Batch, Workload
from geospot.errors import EngineError, EngineGone
from geospot.models.prompt import Renderer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tinker import types

    from geospot.engine.protocols import Future as EngineFuture
    from geospot.engine.protocols import SamplingClient

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rollouts:
    """The answers of a step: B pictures, G answers each. Lists are picture by picture, member by member (B * G)."""

    samples: list[Sample]
    prompts: "list[types.ModelInput]"
    group_size: int
    sequences: "list[types.SampledSequence]"
    texts: list[str]
    requests_retried: int = 0  # failed once
    requests_lost: int = 0  # failed twice: their pictures are not in here

    @cached_property
    def answers(self) -> list[Answer]:
        """The texts, each read once."""
        return [parse_answer(text) for text in self.texts]

    def truth(self, i: int) -> Place:
        """The place that answer i should have named."""
        return self.samples[i // self.group_size].place


def request_seed(seed: int, *position: int) -> int:
    """A 31-bit seed for one sample request, from the run's seed and the request's place in the run."""
    return int(np.random.SeedSequence([seed, *position]).generate_state(1)[0] >> 1)


class Asked:
    """Requests for answers that are in flight; one a picture, which is sent once."""

    def __init__(
        self,
        sampler: "SamplingClient",
        renderer: Renderer,
        samples: Sequence[Sample],
        question: str,
        *,
        num_samples: int,
        seeds: Sequence[int],
        max_tokens: int,
        temperature: float = 1.0,
    ):
        from tinker import types

        self.renderer, self.samples, self.num_samples = renderer, list(samples), num_samples
        self.prompts: list[types.ModelInput] = []
        self._params = [
            types.SamplingParams(
                max_tokens=max_tokens, seed=seed, stop=renderer.stop_token_ids, temperature=temperature
            )
            for _, seed in zip(samples, seeds, strict=True)
        ]
        self._sampler = sampler
        self._futures = {}
        for i, sample in enumerate(samples):  # the first are on their way while the last are rendered
            self.prompts.append(renderer.prompt(sample.pictures, question))
            self._futures[i] = self._ask(i)

    def _ask(self, i: int) -> "EngineFuture[types.SampleResponse]":
        return self._sampler.sample(
            prompt=self.prompts[i], num_samples=self.num_samples, sampling_params=self._params[i]
        )

    def collect(self, *, min_share: float = 1.0, on_progress: OnProgress | None = None) -> Rollouts:
        """The answers, taken as they finish; `on_progress(finished, in_flight)` is called after each.

        A request that fails is asked once more after the others. Those that fail again are left out and counted, as
        long as a share `min_share` of all is there; else the last error is raised. A server that is gone ends it at
        once.
        """
        done: dict[int, tuple[list[types.SampledSequence], list[str]]] = {}
        failed = self._settle(self._futures, done, on_progress)
        retried = len(failed)
        if failed:
            failed = self._settle({i: self._ask(i) for i in sorted(failed)}, done, on_progress)
        if failed:
            _check_share(len(done), len(self.prompts), min_share, next(iter(failed.values())))
        kept = sorted(done)
        sequences = [sequence for i in kept for sequence in done[i][0]]
        texts = [text for i in kept for text in done[i][1]]
        return Rollouts(
            [self.samples[i] for i in kept],
            [self.prompts[i] for i in kept],
            self.num_samples,
            sequences,
            texts,
            requests_retried=retried,
            requests_lost=len(failed),
        )

    def _settle(
        self,
        futures: "dict[int, EngineFuture[types.SampleResponse]]",
        done: "dict[int, tuple[list[types.SampledSequence], list[str]]]",
        on_progress: OnProgress | None,
    ) -> dict[int, Exception]:
        """Wait for all of them; what each answered goes into `done`, why it failed is returned."""
        index: dict[Future, int] = {future.future(): i for i, future in futures.items()}
        failed: dict[int, Exception] = {}
        for n, future in enumerate(as_completed(index), start=1):
            try:
                sequences = list(future.result().sequences)
                if len(sequences) != self.num_samples:
                    raise EngineError(f"{len(sequences)} answers where num_samples={self.num_samples} were asked for")
            except EngineGone:
                raise
            except Exception as error:
                failed[index[future]] = error
            else:
                # Read here, while the others are still on their way.
                done[index[future]] = sequences, [self.renderer.decode(sequence.tokens) for sequence in sequences]
            if on_progress:
                on_progress(len(done), len(index) - n)
        return failed


def _check_share(n_good: int, n_all: int, min_share: float, error: Exception) -> None:
    if min_share >= 1 or not n_good:
        raise error
    if n_good < min_share * n_all:
        raise EngineError(
            f"{n_all - n_good} of {n_all} sample requests failed twice, which leaves less than "
            f"min_group_share={min_share}: {error}"
        ) from error


@dataclass(frozen=True)
class Question:
    """How each picture is asked about. `num_samples` answers at `temperature`; one at 0 is the greedy answer."""

    text: str
    max_tokens: int
    num_samples: int = 1
    temperature: float = 0.0
    seed: int = 0


def workload(
    renderer: Renderer, samples: Sequence[Sample], question: Question, at_once: int, pictures: int
) -> Workload:
    """What asking about `at_once` pictures at a time, such as these, asks of the engine."""
    prompt, picture = renderer.longest((sample.pictures for sample in samples), question.text)
    batch = Batch(at_once, prompt, question.max_tokens, question.num_samples, greedy=question.temperature != 1)
    return Workload((batch,), pictures=pictures, picture_tokens=picture)
