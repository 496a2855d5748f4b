"""`geospot eval`, `compare` and `calibrate` as a user meets them: resumed, refused, and written down."""

import json
import os
import re
import signal
import sys

import forks
import numpy as np
import pytest
from made import jpeg

from geospot import __main__ as geospot
from geospot.answer import Reply
from geospot.asking.answer_log import AnswerLog, ask_set
from geospot.asking.requests import Question
from geospot.asking.respondents import EngineRespondent
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


def test_figures_for_papers_are_drawn_where_they_are_asked_for(two_files, capsys, monkeypatch):
    """matplotlib costs more time than the whole evaluation of a small file."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(two_files)
    run_cli("eval", "predictions=near.csv", "truth=truth.csv", "out=plain")
    assert not list((two_files / "plain").glob("figure.*"))
    run_cli("eval", "predictions=near.csv", "truth=truth.csv", "out=drawn", "figures=true")
    run_cli("compare", "near.csv", "far.csv", "truth=truth.csv", "resamples=200", "out=both", "figures=true")
    for folder in ("drawn", "both"):
        assert (two_files / folder / "figure.png").read_bytes().startswith(b"\x89PNG")
        assert (two_files / folder / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(SystemExit):
        run_cli("compare", "near.csv", "far.csv", "truth=truth.csv", "figures=true")
    assert "add out=FOLDER" in capsys.readouterr().err


def test_with_truths_every_picture_counts_for_every_model(two_files, capsys, monkeypatch):
    monkeypatch.chdir(two_files)
    run_cli("compare", "near.csv", "w:far.csv", "truth=truth.csv", "resamples=200", "out=out")
    out, err = capsys.readouterr()
    assert "w: 5 of 60 pictures have no answer and count as failed" in err
    assert "60 pictures of truth.csv, each of which counts for every model" in out
    assert "8.3%" in out
    assert "w: failed answers: no answer in the file 5" in out
    assert "left out" not in out + err
    assert "w − near" in out
    facts = json.loads((two_files / "out" / "comparison.json").read_text())
    assert facts["models"]["w"]["metrics"]["failure_rate"] == pytest.approx(5 / 60)
    assert facts["models"]["near"]["n"] == facts["models"]["w"]["n"] == 60
    assert "60 pictures of truth.csv" in (two_files / "out" / "report.html").read_text()
    # the folder of an evaluation is a model, too
    run_cli("eval", "predictions=near.csv", "truth=truth.csv", "out=mine", "report=false")
    run_cli("compare", "mine", "far.csv", "truth=truth.csv", "resamples=200")
    assert "far − mine" in capsys.readouterr().out


def with_truths(folder, name: str, rows: range, off: float, key: str = "key", columns: str = "") -> None:
    lines = "".join(f"{f'{key}{i}.jpg,' if key else ''}{i % 80},{i},{i % 80 + off},{i}\n" for i in rows)
    head = f"{columns or 'image_name'}," if key else ""
    (folder / name).write_text(f"{head}true_lat,true_lon,lat,lon\n{lines}")


def test_without_truths_the_pictures_in_common_are_named_as_such(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_truths(tmp_path, "a.csv", range(1, 41), 0.5)
    with_truths(tmp_path, "b.csv", range(11, 61), 1.0, key="folder/key")
    run_cli("compare", "a.csv", "b.csv", "resamples=200")
    out, err = capsys.readouterr()
    assert "30 pictures in common; left out are 10 of a, 20 of b: with truth=FILE every picture counts" in out
    assert "matched by their file names" in err
    run_cli("compare", "a.csv", "again:a.csv", "resamples=200")
    assert "40 pictures in common: every file has all of them" in capsys.readouterr().out


def test_one_word_is_one_metric_and_the_same_pictures_have_the_same_interval_in_every_table(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    lat, lon = rng.uniform(44, 49, 40), rng.uniform(1, 6, 40)  # all in France: one continent, one income group
    for name in ("a", "b"):
        off = rng.exponential(1.0, (2, 40))
        rows = [{"key": i, "true_lat": lat[i], "true_lon": lon[i], "lat": lat[i] + off[0, i], "lon": lon[i] + off[1, i],
                 "country": "France", "city": "Lyon"} for i in range(40)]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = []
    for name in ("a", "b"):
        run_cli("eval", f"predictions={name}.jsonl", f"out={name}")
        shown.append(capsys.readouterr().out)
    run_cli("compare", "b.jsonl", "a.jsonl", "out=both")
    compared = capsys.readouterr().out
    for name, out in zip(("a", "b"), shown, strict=True):
        interval = re.search(rf"^{name} .*?(\d+ \[\d+, \d+\])", out, re.M)[1]  # the median
        assert interval in re.search(rf"^{name} .*", compared, re.M)[0]
        assert interval in re.search(r"^Europe .*", out, re.M)[0]
        assert "country (geo)" in out
        assert "country (text)" in out
        heads = [line for line in out.splitlines() if "country" in line]
        assert all("country (" in head for head in heads)
    facts = json.loads((tmp_path / "both/comparison.json").read_text())["models"]["a"]
    alone = json.loads((tmp_path / "a/metrics.json").read_text())["a"]
    for key, (low, high) in alone["intervals"].items():
        if low is not None:
            assert facts["intervals"][key] == pytest.approx([low, high]), key


def test_an_answer_that_failed_in_an_evaluation_stays_failed(two_files, capsys, monkeypatch):
    monkeypatch.chdir(two_files)
    for name in ("near", "far"):
        run_cli("eval", f"predictions={name}.csv", "truth=truth.csv", f"out={name}", "report=false")
    capsys.readouterr()
    run_cli("compare", "near", "far", "resamples=200")  # their own truths: of all 60
    out = capsys.readouterr().out
    assert "60 pictures in common: every file has all of them" in out
    assert "8.3%" in out


def test_files_without_keys_are_paired_by_row_number_and_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_truths(tmp_path, "a.csv", range(1, 41), 0.5, key="")
    with_truths(tmp_path, "b.csv", range(1, 41), 1.0, key="")
    rows = [{"true_lat": i, "true_lon": i, "lat": i, "lon": i} for i in range(1, 41)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # no header: row 1 is line 1
    run_cli("compare", "a.csv", "b.csv", "c.jsonl", "resamples=200")
    out, err = capsys.readouterr()
    assert "40 pictures in common" in out
    assert "a and b and c have no column for the key of a picture, so they are paired by row number" in err
    with_truths(tmp_path, "b.csv", range(2, 42), 1.0, key="")
    with pytest.raises(SystemExit):
        run_cli("compare", "a.csv", "b.csv")
    assert "their rows were paired by number: name the column of the key" in capsys.readouterr().err


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

        respondent = EngineRespondent(lambda: client, renderer)

        def ask(folder: str, given: list[Sample], batch: int) -> tuple[list, int]:
            with AnswerLog(tmp_path / folder, {"a": 1}) as log:
                parts = list(ask_set(lambda: respondent, "eval", given, question, log, batch_size=batch))
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
        log.add("eval", [(0, "k", {0: Reply("lone \ud800 surrogate")})])
    with pytest.raises(RunError, match=r"model=a, and this is model=b.*resume=never"):
        AnswerLog(tmp_path, {"model": "b", "data": "x"})
    with AnswerLog(tmp_path, {"model": "a", "data": "x"}) as log:
        assert log.get("eval", 0, "k") == {0: Reply("lone ? surrogate")}
    with AnswerLog(tmp_path, {"model": "b", "data": "x"}, fresh=True) as log:
        assert len(log) == 0


def be_killed_behind_two_answers(words: list[str]) -> None:
    add_rows = AnswerLog.add

    def add(log: AnswerLog, *rows: object) -> None:
        add_rows(log, *rows)
        if len(log) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    AnswerLog.add = add  # in the fork alone
    run_cli(*words)


def test_an_evaluation_that_is_killed_goes_on_where_it_was(shards, tiny_folder, tmp_path, capsys):
    words = [
        "eval", f"model={tiny_folder}", f"data={shards}/eval.tar", f"out={tmp_path}/out", "threads=1",
        "max_tokens=16", "device=cpu", "batch_size=1", "report=false",
    ]  # fmt: skip
    assert forks.run(lambda: be_killed_behind_two_answers(words)) == -signal.SIGKILL
    log = tmp_path / "out" / "answers.jsonl"
    assert log.read_bytes().count(b"\n") == 2
    kept = log.read_bytes()[: log.read_bytes().rfind(b"\n") + 1]
    log.write_bytes(kept + b'{"set": "eval", "i"')  # a line torn by the kill
    with pytest.warns(RuntimeWarning, match="cut off"):
        run_cli(*words)
    out = capsys.readouterr().out
    assert "are not asked for again" in out
    assert out.count("memory, GiB:") == 1
    assert log.read_bytes().startswith(kept)
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    run_cli(*(word.replace("/out", "/whole") for word in words))
    whole = [json.loads(line) for line in (tmp_path / "whole" / "predictions.jsonl").read_text().splitlines()]
    assert rows == whole
