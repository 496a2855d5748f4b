"""Inspect: the task and the scorer. inspect eval geospot/plugs/inspect_task.py -T truth=test.csv -T images=photos/

`geospot eval predictions=LOG.eval` gives the same numbers, with intervals and failures by reason.
"""

from statistics import median

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState, generate

from geospot.answer import prompt_text
from geospot.plugs.pictures import read_pictures, truth_of, worth


@task
def geolocation(truth: str, images: str | None = None, region: bool = False) -> Task:
    """Where was each picture of a table taken? `truth` and `images` as in `read_pictures`."""
    text = ContentText(text=prompt_text(region))
    samples = [
        Sample(
            input=[ChatMessageUser(content=[ContentImage(image=picture.data_uri()), text])],
            target=picture.target,
            id=picture.key,
            metadata=picture.facts,
        )
        for picture in read_pictures(truth, images)
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
        answer, metrics = worth(text, *truth_of(state.metadata), stop=state.output.stop_reason)
        read = f"read as {answer.lat}, {answer.lon}" if answer.ok else f"failed: {answer.error}"
        return Score(value=metrics, answer=text, explanation=f"{read}; the truth is {target.text}")

    return score
