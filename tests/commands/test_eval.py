"""`geospot eval`, `compare` and `calibrate` as a user meets them: resumed, refused, and written down."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from made import jpeg

from geospot import __main__ as geospot
from geospot.asking.answer_log import AnswerLog, ask_set
from geospot.asking.requests import Question
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.errors import RunError


def run_cli(*words) -> None:
    geospot.main([str(word) for word in words])


@pytest.fixture
def two_files(tmp_path):
    """Truths and two models' predictions: the second is 1 degree off, the first half of that."""
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(40, 50, 60), rng.uniform(0, 20, 60)
    truth = "id,latitude,longitude\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(zip(lat, lon, strict=True)))
    (tmp_path / "truth.csv").write_text(truth)
    for name, off, last in (("near", 0.5, 60), ("far", 1.0, 55)):
        rows = "".join(f"{i},{lat[i] + off},{lon[i]}\n" for i in range(last))
        (tmp_path / f"{name}.csv").write_text("id,lat,lon\n" + rows)
    return tmp_path


def test_a_predictions_file_becomes_tables_json_and_a_page(two_files, capsys, monkeypatch):
    monkeypatch.chdir(two_files)
    run_cli("eval", "predictions=far.csv", "truth=truth.csv", "out=out", "references=all", "scale=map")
    out, err = capsys.readouterr()
    assert "5 of 60 pictures have no answer" in err
    assert "no answer in the file 5" in out
    assert "GeoCLIP" in out
    facts = json.loads((two_files / "out" / "metrics.json").read_text())["far"]
    assert facts["metrics"]["failure_rate"] == pytest.approx(5 / 60)
    assert facts["metrics"]["answered/median_km"] == pytest.approx(111.195, abs=0.01)
    assert facts["failures"] == {"no answer in the file": 5}
    assert {group["name"] for group in facts["groups"]["continent"]} == {"Europe"}
    assert len(facts["references"]) == 3
    page = (two_files / "out" / "report.html").read_text()
    for heading in (
        "Where the guesses land",
        "Errors",
        "By country",
        "Accuracy by continent, density and income",
        "Confused countries",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<script") == 1  # of the maps; the page allows no other
    assert "://" not in page


def test_models_are_compared_on_the_pictures_in_common(two_files, capsys, monkeypatch):
    monkeypatch.chdir(two_files)
    run_cli("compare", "near.csv", "worse:far.csv", "truth=truth.csv", "resamples=200", "out=out")
    out, err = capsys.readouterr()
    assert "55 pictures are in all files; left out are 5 of near" in err
    assert "worse − near" in out
    assert "+56 [+56, +56]*" in out
    facts = json.loads((two_files / "out" / "comparison.json").read_text())["differences"]["worse − near"]
    assert facts["median_km"]["value"] == pytest.approx(55.6, abs=0.1)
    # the folder of an evaluation is a model, too
    run_cli("eval", "predictions=near.csv", "truth=truth.csv", "out=mine", "report=false")
    run_cli("compare", "mine", "far.csv", "truth=truth.csv", "resamples=200")
    assert "far − mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "near.csv"], "two or more"),
        (["compare", "near.csv", "far.csv"], "give truth=FILE"),
        (["compare", "near.csv", "far.csv", "scale=moon"], "must be world, map"),
        (["eval", "predictions=nowhere.csv"], "no such file"),
        (["eval", "predictions=near.csv", "checkpoint=x"], "give one of them"),
        (["eval", "truth=truth.csv"], "belong to predictions="),
        (["eval", "references=best"], "must be one of constant"),
        (["eval", "samples=4", "temperature=0"], "all answers would be alike"),
        (["eval", "data=bluemarble", "sets=test"], "this data has eval, eval-far"),
        (["guess", "a.jpg", "format=xml"], "must be one of auto, text"),
    ],
)
def test_bad_words_are_refused_with_the_remedy(two_files, words, says, capsys, monkeypatch):
    monkeypatch.chdir(two_files)
    monkeypatch.setattr("geospot.commands.ask.held_out_sets", lambda *_: {"eval": "", "eval-far": ""})
    with pytest.raises(SystemExit) as left:
        run_cli(*words)
    assert left.value.code == 2
    assert says in capsys.readouterr().err


# --- asking ---


def samples(n: int) -> list[Sample]:
    return [Sample(f"k{i}", (jpeg(i),), Place(1.0, 2.0)) for i in range(n)]


def test_answers_are_asked_for_once_and_do_not_depend_on_where_one_stopped(tiny_folder, tmp_path):
    from geospot.engine.local.service import LocalOptions, LocalServiceClient
    from geospot.models.loading import load_processing
    from geospot.models.prompt import Renderer

    renderer, question = Renderer(load_processing(tiny_folder)), Question("Where?", 6, 2, 1.0, seed=3)
    with LocalServiceClient(LocalOptions(checkpoint_dir=str(tmp_path), threads=1)) as service:
        client = service.create_sampling_client(base_model=tiny_folder).result()

        def ask(folder: str, given: list[Sample], batch: int) -> tuple[list, int]:
            with AnswerLog(tmp_path / folder, {"a": 1}) as log:
                parts = list(ask_set(lambda: client, renderer, "eval", given, question, log, batch_size=batch))
            return [draws.texts for _, found, _ in parts for draws in found], sum(new for *_, new in parts)

        whole, asked = ask("whole", samples(7), 4)
        assert asked == 7
        assert ask("parts", samples(5), 2)[1] == 5
        again, asked = ask("parts", samples(7), 4)
        assert asked == 2
        assert again == whole
        assert all(len(texts) == 2 for texts in whole)
        changed = [Sample("other", s.pictures, s.place) if i == 1 else s for i, s in enumerate(samples(7))]
        with pytest.raises(RunError, match="picture 1 of eval was 'k1' and is 'other' now"):
            ask("parts", changed, 4)


def test_an_answer_is_parsed_once(shards, tiny_folder, tmp_path, monkeypatch):
    """From the model to metrics, predictions, gallery and report: six pictures, six answers read."""
    from geospot.answer import parse_answer

    read = []

    def counted(text):
        read.append(text)
        return parse_answer(text)

    for name, module in list(sys.modules.items()):
        if name.startswith("geospot.") and hasattr(module, "parse_answer"):
            monkeypatch.setattr(module, "parse_answer", counted)
    run_cli("eval", f"model={tiny_folder}", f"data={shards}/eval.tar", f"out={tmp_path}/out", "threads=1",
            "max_tokens=16", "device=cpu", "data_workers=0")  # fmt: skip
    assert len(read) == len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 6


def test_answers_to_other_questions_do_not_mix(tmp_path):
    with AnswerLog(tmp_path, {"model": "a", "data": "x"}) as log:
        log.add("eval", [(0, "k", ["lone \ud800 surrogate"])])
    with pytest.raises(RunError, match=r"model='a', and this is model='b'.*resume=never"):
        AnswerLog(tmp_path, {"model": "b", "data": "x"})
    with AnswerLog(tmp_path, {"model": "a", "data": "x"}) as log:
        assert log.get("eval", 0, "k") == ["lone ? surrogate"]
    with AnswerLog(tmp_path, {"model": "b", "data": "x"}, fresh=True) as log:
        assert len(log) == 0


KILLED_AFTER_TWO = """
import os, signal, sys
from geospot import __main__ as geospot
from geospot.asking.answer_log import AnswerLog
def add(log, *rows, add=AnswerLog.add):
    add(log, *rows)
    if len(log) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
AnswerLog.add = add
geospot.main(sys.argv[1:])
"""


def test_an_evaluation_that_is_killed_goes_on_where_it_was(shards, tiny_folder, tmp_path, capsys):
    words = [
        "eval", f"model={tiny_folder}", f"data={shards}/eval.tar", f"out={tmp_path}/out", "threads=1",
        "max_tokens=16", "device=cpu", "batch_size=1", "report=false",
    ]  # fmt: skip
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_TWO, *words])
    assert killed.returncode == -signal.SIGKILL
    log = tmp_path / "out" / "answers.jsonl"
    assert log.read_bytes().count(b"\n") == 2
    kept = log.read_bytes()[: log.read_bytes().rfind(b"\n") + 1]
    log.write_bytes(kept + b'{"set": "eval", "i"')  # a line torn by the kill
    with pytest.warns(RuntimeWarning, match="cut off"):
        run_cli(*words)
    assert "are not asked for again" in capsys.readouterr().out
    assert log.read_bytes().startswith(kept)
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    run_cli(*(word.replace("/out", "/whole") for word in words))
    whole = [json.loads(line) for line in (tmp_path / "whole" / "predictions.jsonl").read_text().splitlines()]
    assert rows == whole
