"""Inspect: the task and the scorer. inspect eval geospot/plugs/inspect_task.py -T truth=test.csv -T images=photos/
(or -T data=SOURCE -T sets=eval -T places=100; without either the embedded world).

`geospot eval predictions=LOG.eval` gives the same numbers, with intervals and failures by reason.
"""

from statistics import median

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState, generate

from geospot.answer import prompt_text
from geospot.plugs.examples import find_pictures, place_of
from geospot.plugs.worth import worth


@task
def geolocation(
    truth: str | None = None,
    images: str | None = None,
    data: str | None = None,
    sets: str = "",
    places: int = 0,
    region: bool = False,
) -> Task:
    """Where was each picture taken? The pictures are those of `find_pictures`; `sets` are names with commas between."""
    text = ContentText(text=prompt_text(region))
    wanted = tuple(filter(None, sets.split(",")))
    samples = [
        Sample(
            input=[ChatMessageUser(content=[*(ContentImage(image=uri) for uri in picture.data_uris()), text])],
            target=picture.target,
            id=picture.key,
            metadata=picture.facts,
        )
        for picture in find_pictures(truth, images, data, sets=wanted, places=places)
    ]
    return Task(dataset=MemoryDataset(samples, name="geolocation"), solver=generate(), scorer=coordinates())


@metric
def median_value() -> Metric:
    """The median over samples."""

    def compute(scores: list[SampleScore]) -> float:
        return float(median(float(str(score.score.value)) for score in scores))

    return compute


@scorer(metrics={"distance_km": [median_value(), mean()], "*": [mean(), stderr()]})
def coordinates() -> Scorer:
    """Distance, GeoGuessr score and shares within radii; an answer that failed counts as wrong."""

    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion
        answer, metrics = worth(text, place_of(state.metadata), state.output.stop_reason)
        read = f"read as {answer.lat}, {answer.lon}" if answer.ok else f"failed: {answer.error}"
        return Score(value=metrics, answer=text, explanation=f"{read}; the truth is {target.text}")

    return score
