"""What one answer is worth: its metrics, whose means are those of `geospot eval`, and the reward of training."""

from geospot.answer import Answer, in_form, parse_answer
from geospot.answer.endings import with_ending
from geospot.earth.distance import MAX_DISTANCE_KM, haversine_km
from geospot.earth.place import Place
from geospot.earth.score import ACCURACY_RADII_KM, geoguessr_score
from geospot.reward import RewardConfig, weighted_parts


def worth(text: str, place: Place, stop: str | None = None) -> tuple[Answer, dict[str, float]]:
    """An answer as it was read, and its metrics: `distance_km` (half the Earth for a failed one), `geoguessr_score`
    (0 to 5000), `acc_1km` to `acc_2500km`, `failure_rate` (0 or 1).

    stop: a provider's word for how the answer ended; one that was cut off within its last number has failed.
    """
    answer = with_ending(parse_answer(text), text, stop)
    if answer.lat is None or answer.lon is None:
        km, score = MAX_DISTANCE_KM, 0.0
    else:
        km = float(haversine_km(place.lat, place.lon, answer.lat, answer.lon))
        score = float(geoguessr_score(km))
    within = {f"acc_{radius}km": float(answer.ok and km <= radius) for radius in ACCURACY_RADII_KM}
    return answer, {"distance_km": km, "geoguessr_score": score, **within, "failure_rate": float(not answer.ok)}


def training_reward(
    text: str, place: Place, progress: float, stop: str | None = None, *, region: bool = False,
    config: RewardConfig | None = None,
) -> float:  # fmt: skip
    """What `geospot train` pays for an answer after a share `progress` (0..1) of its run, in [0, 1]."""
    weights = (config or RewardConfig()).at(progress)
    answer = with_ending(parse_answer(text), text, stop)
    return float(weighted_parts([answer], [place], weights, [in_form(text, region=region)]).total[0])
