"""Each plug with its real package: the numbers are those of `geospot eval`, and what it writes down is read back."""

import json

import pytest
from made import jpeg
from plug_env import run_beside

from geospot.answer.endings import CUT_OFF, REFUSED
from geospot.errors import DataError
from geospot.plugs.pictures import read_pictures, worth
from geospot.scoring.tables.evaluations import evaluate_file

PLACES = {"a": (45.76, 4.84), "b": (48.85, 2.35), "c": (52.52, 13.4)}
ANSWERS = [
    "City: Lyon\nLatitude: 45.86\nLongitude: 4.84",
    "I'm sorry, I can't help with that.",
    "Latitude: 53\nLongitude: 1",
]
STOPS = ["stop", "stop", "length"]


@pytest.fixture
def photos(tmp_path):
    rows = "".join(f"{key},{lat},{lon},{country}\n" for (key, (lat, lon)), country in
                   zip(PLACES.items(), ("France", "France", "Germany"), strict=True))  # fmt: skip
    (tmp_path / "truth.csv").write_text("id,latitude,longitude,country\n" + rows)
    for i, key in enumerate(PLACES):
        (tmp_path / f"{key}.jpg").write_bytes(jpeg(i))
    return tmp_path


def test_pictures_are_found_by_their_keys(photos):
    pictures = read_pictures(photos / "truth.csv")
    assert [picture.key for picture in pictures] == ["a", "b", "c"]
    assert pictures[0].target == "45.76, 4.84"
    assert pictures[2].facts == {"lat": 52.52, "lon": 13.4, "country": "Germany"}
    assert pictures[0].data_uri().startswith("data:image/jpeg;base64,/9j/")
    (photos / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"no picture for 'b'.*images=FOLDER"):
        read_pictures(photos / "truth.csv")


def test_what_an_answer_is_worth():
    answer, metrics = worth(ANSWERS[0], *PLACES["a"])
    assert answer.city == "Lyon"
    assert metrics["distance_km"] == pytest.approx(11.12, abs=0.01)
    assert (metrics["acc_1km"], metrics["acc_25km"], metrics["failure_rate"]) == (0, 1, 0)
    assert worth(ANSWERS[1], *PLACES["b"])[0].error == REFUSED
    answer, metrics = worth(ANSWERS[2], *PLACES["c"], stop="length")
    assert answer.error == CUT_OFF
    assert (metrics["geoguessr_score"], metrics["acc_2500km"], metrics["failure_rate"]) == (0, 0, 1)
    assert metrics["distance_km"] == pytest.approx(20015, abs=1)


INSPECT = """
import json, sys
from inspect_ai import eval
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from geospot.plugs.inspect_task import geolocation
answers, stops = json.loads(sys.argv[1]), {"stop": "stop", "length": "max_tokens"}
outputs = [ModelOutput.from_content("mockllm/model", text, stops[stop]) for text, stop in answers]
for output in outputs:
    output.usage = ModelUsage()  # else it is counted with a tokenizer from the network
model = get_model("mockllm/model", custom_outputs=outputs)
(log,) = eval(geolocation("truth.csv"), model=model, log_dir="logs", display="none", max_connections=1, max_samples=1)
assert log.status == "success", log.error
image = log.samples[0].input[0].content[0]
found = {score.name: {name: m.value for name, m in score.metrics.items()} for score in log.results.scores}
print(json.dumps({"log": log.location, "metrics": found, "image": image.type}))
"""


def test_inspect(photos):
    found = run_beside("inspect-ai", INSPECT, json.dumps(list(zip(ANSWERS, STOPS, strict=True))), cwd=photos)
    evaluation = evaluate_file(found["log"].removeprefix("file://"))  # its log, read without its package
    assert evaluation.predictions.failure_counts() == {REFUSED: 1, CUT_OFF: 1}
    summary, metrics = evaluation.summary, found["metrics"]
    assert metrics["distance_km"]["median_value"] == pytest.approx(summary["median_km"])
    assert metrics["distance_km"]["mean"] == pytest.approx(summary["mean_km"])
    for key in ("geoguessr_score", "acc_25km", "acc_2500km", "failure_rate"):
        assert metrics[key]["mean"] == pytest.approx(summary[key]), key
    assert found["image"] == "image"
