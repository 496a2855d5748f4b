"""The commands as a user meets them: help, refusals before any work, evaluation and guesses."""

import json
import subprocess
import sys

import pytest
from made import jpeg

from geospot import cli, sft, train
from geospot.scoring.results import finite


def refused(capsys, main, *argv: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(list(argv))
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", [*sorted(set(cli.COMMANDS) - {"data"}), "data inspect", "data pack"])
def test_help_lists_every_key_with_its_meaning(command, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([*command.split(), "--help"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    keys = [line for line in lines[4:] if line.startswith("  ") and "(default)" in line]
    assert len(keys) > 5
    assert all(line.split("(default)")[1].strip() for line in keys), "a key without an explanation"


def test_no_word_and_help_list_the_commands(capsys):
    cli.main([])
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)


def test_an_unknown_command_is_named(capsys):
    assert "no command 'trian'" in refused(capsys, cli.main, "trian")


@pytest.mark.parametrize(
    ("main", "argument", "says"),
    [
        (sft.main, "max_step=3", ["max_step", "max_steps"]),
        (sft.main, "max_steps=three", ["max_steps", "three"]),
        (sft.main, "max_steps=0", ["max_steps=0", "above 0"]),
        (sft.main, "decimals=7", ["decimals=7", "2, 3 or 4"]),
        (sft.main, "engine=cloud", ["engine", "cloud", "local"]),
        (sft.main, "lr_schedule=step", ["lr_schedule", "cosine"]),
        (sft.main, "device=tpu", ["device='tpu'", "cuda"]),
        (sft.main, "log_to=sheets", ["log_to='sheets'", "wandb"]),
        (sft.main, "steps", ["steps", "key=value"]),
        (train.main, "group_size=1", ["group_size=1", "at least 2"]),
        (train.main, "coord_weight=2", ["coord_weight", "2.0"]),
        (train.main, "coord_tau=-1", ["coord_tau=-1", "> 0"]),
        (train.main, "loss=sgd", ["loss='sgd'", "cispo"]),
        (train.main, "num_substeps=999", ["num_substeps=999", "batch_size=128"]),
        (train.main, "clip_low=2", ["clip_low=2", "importance_sampling does not clip"]),
        (sft.main, "learning_rate=nan", ["learning_rate=nan", "above 0"]),
    ],
)
def test_a_bad_argument_is_refused_before_any_work(main, argument, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, main, argument)
    assert all(word in message for word in says), message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


def test_a_logger_that_is_not_installed_is_refused_before_any_work(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert "pip install 'geospot[trackio]'" in refused(capsys, sft.main, "log_to=trackio")


def test_results_that_are_nan_become_null_however_deep():
    """A set without labels has NaN intervals, and so has a model that answers nothing."""
    nan = float("nan")
    assert finite({"eval": {"intervals": {"city_acc": (nan, 0.5)}, "n": nan}}) == {
        "eval": {"intervals": {"city_acc": [None, 0.5]}, "n": None}
    }


def test_missing_data_and_models_are_named_without_a_traceback(capsys, tmp_path, monkeypatch, tiny_folder):
    monkeypatch.chdir(tmp_path)
    assert "nothing matches nowhere/*.tar" in refused(
        capsys, sft.main, f"model_name={tiny_folder}", "data=nowhere/*.tar"
    )
    assert "no such folder" in refused(capsys, sft.main, "model_name=./nothing")
    assert "neither a run folder" in refused(capsys, train.main, "checkpoint=nothing")


def test_eval_prints_the_table_and_writes_every_answer(sft_run, shards, tiny_folder, tmp_path, capsys):
    cli.main([
        "eval", f"model_name={tiny_folder}", f"checkpoint={sft_run[0]}", f"data={shards}/eval.tar",
        f"out={tmp_path}/out", "threads=1", "max_tokens=16", "device=cpu",
    ])  # fmt: skip
    out = capsys.readouterr().out
    assert "median km" in out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["eval"]["metrics"]["failure_rate"] == 0
    low, high = metrics["eval"]["intervals"]["median_km"]
    assert low <= metrics["eval"]["metrics"]["median_km"] <= high
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["text"].startswith("City: Lyon")


def test_guess_answers_photos_and_names_those_it_cannot_read(sft_run, tiny_folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg(0))
    (tmp_path / "photos" / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as left:
        cli.main([
            "guess", str(tmp_path / "photos"), f"model={tiny_folder}", f"checkpoint={sft_run[0]}", "threads=1",
            "max_tokens=16", "device=cpu",
        ])  # fmt: skip
    assert left.value.code == 1  # something was skipped
    out, err = capsys.readouterr()
    assert "France (45.7" in out
    assert "openstreetmap.org/?mlat=45.7" in out
    assert "b.jpg: unreadable image" in err


def test_the_checkpoint_says_which_model(sft_run, shards, tiny_folder, tmp_path, capsys, monkeypatch):
    """No model_name is needed with a checkpoint, and another model than its own is refused."""
    monkeypatch.chdir(tmp_path)
    words = ["eval", f"checkpoint={sft_run[0]}", f"data={shards}/eval.tar", "threads=1", "max_tokens=16", "device=cpu"]
    cli.main(words)
    assert "100.0%" in capsys.readouterr().out
    assert "set model_name=" in refused(capsys, cli.main, *words, "model_name=geospot/tiny")


def test_what_a_run_was_set_to_is_what_it_is_evaluated_with(sft_run, tmp_path):
    from geospot.asking.subject import run_setting
    from geospot.runs.checkpoints import find_checkpoint

    checkpoint = find_checkpoint(str(sft_run[0]))
    assert run_setting(checkpoint, "max_steps", 0) == 90
    assert run_setting(checkpoint, "zoom_km", 1.0) == 1000.0
    assert run_setting(str(tmp_path / "alone" / "checkpoint"), "zoom_km", 7.0) == 7.0
    assert run_setting(None, "zoom_km", 7.0) == 7.0


def test_guess_without_a_photo_says_what_to_give(capsys):
    assert "PHOTO" in refused(capsys, cli.main, "guess")
    assert "nowhere.jpg" in refused(capsys, cli.main, "guess", "nowhere.jpg")


def test_scoring_needs_neither_torch_nor_tinker():
    """The light install: these rooms must import without the heavy packages."""
    code = (
        "import sys\n"
        "for name in ('torch', 'tinker', 'transformers', 'PIL', 'chz'): sys.modules[name] = None\n"
        "from geospot.answer import parse_answer\n"
        "from geospot.reward import RewardConfig, reward_parts\n"
        "from geospot.earth.place import Place\n"
        "a = parse_answer('City: Lyon\\nCountry: France\\nLatitude: 45.76\\nLongitude: 4.84')\n"
        "r = reward_parts([a], [Place(45.76, 4.84, 'Lyon', None, 'France')], 1.0, RewardConfig())\n"
        "assert r.total[0] > 0.99, r\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_calibrating_gives_guesses_a_radius(sft_run, shards, tiny_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("geospot.asking.calibration.LEAST_PLACES", 3)
    words = [f"checkpoint={sft_run[0]}", "threads=1", "max_tokens=16", "device=cpu", "samples=3"]
    path = tmp_path / "c.json"
    cli.main(["calibrate", *words, f"data={shards}/train.tar", f"out={tmp_path}/cal", f"file={path}"])
    assert "holds the truth" in capsys.readouterr().out
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    cli.main(["guess", str(tmp_path / "a.jpg"), *words, f"calibration={path}", "probability=0.5"])
    assert "50 % probability (calibrated)" in capsys.readouterr().out
    other = ["guess", str(tmp_path / "a.jpg"), *words[:-1], "samples=2", f"calibration={path}"]
    assert "it is of samples 3 (here 2)" in refused(capsys, cli.main, *other)


def test_the_guesser_is_a_few_lines(sft_run, tiny_folder, tmp_path):
    from geospot import Guesser, score

    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    with Guesser(checkpoint=str(sft_run[0]), threads=1, max_tokens=16, device="cpu") as guesser:
        guess = guesser(tmp_path / "a.jpg")
        again = guesser((tmp_path / "a.jpg").read_bytes(), samples=2)
        with pytest.raises(ValueError, match="unreadable image"):
            guesser(b"nothing")
    assert (guess.country, len(again.texts)) == ("France", 2)
    assert score(guess, (guess.lat, guess.lon)).summary["geoguessr_score"] == 5000
