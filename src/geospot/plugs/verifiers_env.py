"""verifiers (0.4 and later, `verifiers.v1`): a taskset of pictures, whose reward is the GeoGuessr score.

    vf-eval geospot_env --env.taskset.truth test.csv --env.taskset.images photos/ ...

verifiers finds a taskset by the name of a top-level module, which is `geospot_env`.
"""

from collections.abc import Iterable
from typing import Literal

import verifiers.v1 as vf
from verifiers.v1.harnesses.null import NullHarness

from geospot.answer import prompt_text
from geospot.earth.score import MAX_SCORE
from geospot.plugs.examples import find_pictures, place_of
from geospot.plugs.worth import training_reward, worth


class GeolocationData(vf.TaskData):
    """A picture's question and its true place."""

    lat: float
    lon: float
    country: str | None = None
    region: str | None = None
    city: str | None = None


class GeolocationTaskConfig(vf.TaskConfig):
    """What an answer is paid: the GeoGuessr score as a share of 5,000 ("score"), or what `geospot train` pays
    ("training") after a share `progress` of its run, when its scale is 2,000 km (0) to 25 km (1).
    """

    pays: Literal["score", "training"] = "score"
    progress: float = 0.0
    region: bool = False  # the question asks for a Region line, too


class GeolocationTask(vf.Task[GeolocationData, vf.State, GeolocationTaskConfig]):
    """One place. An answer that failed is worth nothing."""

    @property
    def key(self) -> str:
        """The picture's own, which stays the same whatever else is in the set."""
        return str(self.data.id)

    @vf.reward
    async def geoguessr(self, trace: vf.Trace) -> float:
        """See `GeolocationTaskConfig`; in [0, 1]."""
        place, text, stop = place_of(self.data.model_dump()), trace.last_reply, stop_of(trace)
        if self.config.pays == "training":
            return training_reward(text, place, self.config.progress, stop, region=self.config.region)
        return worth(text, place, stop)[1]["geoguessr_score"] / MAX_SCORE

    @vf.metric
    async def geolocation(self, trace: vf.Trace) -> dict[str, float]:
        """Distance, score, shares within radii, failure; their means are those of `geospot eval`."""
        return worth(trace.last_reply, place_of(self.data.model_dump()), stop_of(trace))[1]


def stop_of(trace: vf.Trace) -> str | None:
    """ "length" of an answer that was cut off: a trace that ends by its number of turns holds whole answers."""
    last = next((call for call in reversed(trace.calls) if call.error is None), None)
    cut = trace.stop_condition in ("max_output_tokens", "max_total_tokens") or (last and last.finish_reason == "length")
    return "length" if cut else None


class GeolocationConfig(vf.TasksetConfig):
    """The pictures, as `geospot.plugs.examples.find_pictures` takes them: a table of truths with the folder of its
    pictures, or the held-out places of `data`; without either the embedded world.
    """

    truth: str | None = None
    images: str | None = None
    data: str | None = None
    sets: tuple[str, ...] = ()
    places: int = 0
    task: GeolocationTaskConfig = GeolocationTaskConfig()


class GeolocationTaskset(vf.Taskset[GeolocationTask, GeolocationConfig]):
    """Where was each picture taken?"""

    def load(self) -> Iterable[GeolocationTask]:
        """A task per place, in the order of its source; its pictures travel in the prompt."""
        config = self.config
        text = vf.TextContentPart(text=prompt_text(config.task.region))
        found = find_pictures(config.truth, config.images, config.data, sets=config.sets, places=config.places)
        for picture in found:
            images = [vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url=uri)) for uri in picture.data_uris()]
            prompt = [vf.UserMessage(content=[*images, text])]
            yield GeolocationTask(GeolocationData(id=picture.key, prompt=prompt, **picture.facts), config.task)


# What is exported beside a taskset is its harness where none is named: an answer needs no shell and no tools.
__all__ = ["GeolocationTaskset", "NullHarness"]
