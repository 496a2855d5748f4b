"""Each plug with its real package: the numbers are those of `geospot eval`, and what it writes down is read back."""

import json

import pytest
from made import jpeg
from PIL import Image
from plug_env import run_beside, run_with

from geospot.answer.endings import CUT_OFF, REFUSED
from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.errors import DataError
from geospot.pictures import carries_position
from geospot.plugs import lmms_eval_task
from geospot.plugs.examples import find_pictures, place_of, read_pictures
from geospot.plugs.worth import training_reward, worth
from geospot.scoring.tables.evaluations import evaluate_file

PLACES = {"a": (45.76, 4.84), "b": (48.85, 2.35), "c": (52.52, 13.4)}
ANSWERS = [
    "City: Lyon\nLatitude: 45.86\nLongitude: 4.84",
    "I'm sorry, I can't help with that.",
    "Latitude: 53\nLongitude: 1",
]
STOPS = ["stop", "stop", "length"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
    assert place_of(pictures[2].facts) == Place(52.52, 13.4, country="Germany")
    (uri,) = pictures[0].data_uris()
    assert uri.startswith("data:image/jpeg;base64,/9j/")
    assert [picture.key for picture in find_pictures(photos / "truth.csv", places=2)] == ["a", "b"]
    (photos / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"no picture for 'b'.*images=FOLDER"):
        read_pictures(photos / "truth.csv")


def test_what_a_picture_says_of_itself_is_not_sent(photos):
    """A file with its position in EXIF, and one that is no picture."""
    image, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (45.0, 45.0, 0.0), 3: "E", 4: (4.0, 50.0, 0.0)})
    image.save(photos / "a.jpg", exif=exif)
    (photos / "b.jpg").write_bytes(b"not a picture")
    first, second, _ = read_pictures(photos / "truth.csv")
    assert carries_position(first.files[0].read_bytes())
    ((data, kind),) = first.encoded()
    assert kind == "jpeg"
    assert not carries_position(data)
    with pytest.raises(DataError, match=r"b\.jpg: not a picture that can be read"):
        second.data_uris()


def test_held_out_places_of_any_source_and_what_contradicts_itself(photos):
    samples = [Sample(key, (jpeg(i), jpeg(i + 9)), Place(*at)) for i, (key, at) in enumerate(PLACES.items())]
    write_shard(photos / "eval.tar", samples)
    found = list(find_pictures(data=str(photos / "eval.tar"), places=2))
    assert [(one.key, len(one.data_uris())) for one in found] == [("a", 2), ("b", 2)]
    assert found[1].place == Place(48.85, 2.35)
    for given, says in (
        ({"truth": "t.csv", "data": "x"}, "give one of them"),
        ({"images": "photos"}, "which is missing"),
        ({"data": str(photos / "eval.tar"), "sets": ("far",)}, "this data has eval"),
    ):
        with pytest.raises(DataError, match=says):
            list(find_pictures(**given))


def test_what_an_answer_is_worth():
    answer, metrics = worth(ANSWERS[0], Place(*PLACES["a"]))
    assert answer.city == "Lyon"
    assert metrics["distance_km"] == pytest.approx(11.12, abs=0.01)
    assert (metrics["acc_1km"], metrics["acc_25km"], metrics["failure_rate"]) == (0, 1, 0)
    assert worth(ANSWERS[1], Place(*PLACES["b"]))[0].error == REFUSED
    answer, metrics = worth(ANSWERS[2], Place(*PLACES["c"]), stop="length")
    assert answer.error == CUT_OFF
    assert (metrics["geoguessr_score"], metrics["acc_2500km"], metrics["failure_rate"]) == (0, 0, 1)
    assert metrics["distance_km"] == pytest.approx(20015, abs=1)


def test_the_reward_of_training_tightens_and_pays_nothing_for_a_failed_answer():
    here, text = Place(*PLACES["a"]), "Latitude: 45.860000\nLongitude: 4.840000"
    early, late = (training_reward(text, here, progress) for progress in (0.0, 1.0))
    assert 0.9 < early < 1
    assert 0.5 < late < early - 0.2
    assert training_reward(ANSWERS[1], here, 0.0) == 0
    assert training_reward(text, here, 0.0, stop="length") == 0  # its last number may have been on its way


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
    # It calls a metric "geospot/median_value" where geospot is installed.
    (median,) = (value for name, value in metrics["distance_km"].items() if name.endswith("median_value"))
    assert median == pytest.approx(summary["median_km"])
    assert metrics["distance_km"]["mean"] == pytest.approx(summary["mean_km"])
    for key in ("geoguessr_score", "acc_25km", "acc_2500km", "failure_rate"):
        assert metrics[key]["mean"] == pytest.approx(summary[key]), key
    assert found["image"] == "image"


VERIFIERS = """
import asyncio, json, sys
import verifiers.v1 as vf
from geospot_env import GeolocationTaskset
from geospot.plugs.verifiers_env import GeolocationConfig, GeolocationTaskConfig
def score(config):
    found = []
    for task, (text, stop) in zip(GeolocationTaskset(config), json.loads(sys.argv[1])):
        about = vf.TraceTask(type="geolocation", data=task.data)
        ended = "max_output_tokens" if stop == "length" else None
        trace = vf.Trace.model_construct(
            task=about, root_reply=text, stop_condition=ended, nodes=[], calls=[], rewards={}, metrics={}
        )
        asyncio.run(task.score(trace))
        kinds = [part.type for part in task.data.prompt[0].content]
        found.append({"key": task.key, "kinds": kinds, "reward": trace.rewards["geoguessr"].value,
                      "metrics": trace.metrics})
    return found
paid = GeolocationTaskConfig(pays="training", progress=1.0)
print(json.dumps([score(GeolocationConfig(truth="truth.csv")), score(GeolocationConfig(truth="truth.csv", task=paid))]))
"""


def test_verifiers(photos):
    given = json.dumps(list(zip(ANSWERS, STOPS, strict=True)))
    found, paid = run_beside("verifiers>=0.4,<0.5", VERIFIERS, given, cwd=photos)
    assert [one["key"] for one in found] == ["a", "b", "c"]
    assert found[0]["kinds"] == ["image_url", "text"]
    for one, other, text, stop, at in zip(found, paid, ANSWERS, STOPS, PLACES.values(), strict=True):
        place = Place(*at, country="Germany" if at == PLACES["c"] else "France")
        metrics = worth(text, place, stop)[1]
        assert one["metrics"] == pytest.approx(metrics)
        assert one["reward"] == pytest.approx(metrics["geoguessr_score"] / 5000)
        assert other["reward"] == pytest.approx(training_reward(text, place, 1.0, stop))


def test_a_task_of_lmms_eval_is_written_and_pays_as_geospot_eval_does(photos, capsys):
    lmms_eval_task.main(["task", "--truth", "truth.csv"])
    assert "wrote 3 pictures" in capsys.readouterr().out
    rows = [json.loads(line) for line in (photos / "task" / "geolocation.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["pictures"] == ["000001.jpeg"]
    for row, text in zip(rows, ANSWERS, strict=True):
        assert lmms_eval_task.results(row, [text]) == worth(text, Place(*PLACES[row["key"]]))[1]
    assert lmms_eval_task.results(rows[0], [None])["failure_rate"] == 1
    (image,) = lmms_eval_task.visuals_in(photos / "task")(rows[0])
    assert image.mode == "RGB"
    with pytest.raises(SystemExit):
        lmms_eval_task.main(["task", "--truth", "truth.csv"])
    assert "is not empty" in capsys.readouterr().err


LMMS_EVAL = """
import json, sys
from lmms_eval import evaluator
from lmms_eval.tasks import TaskManager
found = evaluator.simple_evaluate(
    model="dummy", model_args="response=" + sys.argv[1], tasks=["geolocation"], batch_size=1, log_samples=True,
    task_manager=TaskManager(include_path="task", include_defaults=False),
)
metrics = {name.partition(",")[0]: value for name, value in found["results"]["geolocation"].items()}
samples = [{"doc": sample["doc"], "resps": sample["resps"]} for sample in found["samples"]["geolocation"]]
print(json.dumps({"metrics": metrics, "samples": samples}, default=str))
"""


def test_lmms_eval(photos):
    """Its own loader and evaluator, with its model that always says the same; `uv pip install --no-deps --target DIR
    lmms-eval datasets evaluate sacrebleu loguru pandas ...` is enough of it.
    """
    lmms_eval_task.main(["task", "--truth", "truth.csv"])
    found = run_with("GEOSPOT_LMMS_EVAL", LMMS_EVAL, ANSWERS[0], cwd=photos)
    (photos / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in found["samples"]))
    summary = evaluate_file(photos / "samples.jsonl").summary
    assert found["metrics"]["distance_km"] == pytest.approx(summary["median_km"])
    for key in ("geoguessr_score", "acc_25km", "acc_750km", "failure_rate"):
        assert found["metrics"][key] == pytest.approx(summary[key]), key
