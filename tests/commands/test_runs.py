"""`geospot runs`, `geospot report`, `geospot completion`, config=FILE and dry_run=true, as a user meets them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import TypeVar

import pytest

from geospot import __main__ as geospot
from geospot.cli import parse
from geospot.config import SftConfig, TrainConfig
from geospot.runs.folder import RunFolder, read_config

BEFORE = Path(__file__).parents[1] / "data" / "run_before"
Config = TypeVar("Config")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs that were stopped after 2 of 4 steps, and a folder that is none."""
    for name in ("sft", "train"):
        shutil.copytree(BEFORE / name, tmp_path / "runs" / name)
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.json").write_text('{"model_type": "qwen2"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def left(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        geospot.main(list(words))
    return stopped.value.code


def test_runs_are_listed_with_state_steps_best_and_size(runs, capsys):
    geospot.main(["runs"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["runs/sft", "runs/train"]
    for says in ("stopped", "2 of 4", "20,015 km on eval, step 0", "step 2", " MB", "sft model"):
        assert says in lines[1], says
    assert "other" not in "".join(lines)
    with RunFolder.create("runs/sft", read_config("runs/sft")):
        geospot.main(["runs", "runs/sft"])
        assert "running" in capsys.readouterr().out
    (runs / "train" / "metrics.jsonl").write_text("{broken\n{}\n")
    geospot.main(["runs"])
    assert "damaged" in capsys.readouterr().out


def test_no_runs_are_said_to_be_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert left("runs") == 2
    assert "no such folder; runs are made by geospot sft" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    geospot.main(["runs"])
    assert "no run in runs" in capsys.readouterr().out


def test_a_run_that_is_not_finished_has_a_page(runs, capsys):
    geospot.main(["report", "runs/train"])
    assert "wrote runs/train/report.html" in capsys.readouterr().out
    page = (runs / "train" / "report.html").read_text()
    assert "is stopped: 2 of 4 steps are done" in page
    for words in ("Reward (its scale tightens)", "Tau, km", "before, step 0"):
        assert words in page, words
    assert "Read this before the numbers" not in page
    assert left("report", "runs") == 2
    err = capsys.readouterr().err
    assert "not a run folder" in err
    assert "there are runs in it: runs/sft, runs/train" in err
    assert left("report", "runs/none") == 2
    assert left("report", "runs/train", "out=page.pdf") == 2


def test_a_page_shows_what_the_reward_cannot_see_and_warns_above_everything(runs):
    """Of a run that lost its form and answers one place whatever it is shown."""
    evaluation = {"median_km": 9000.0, "median_km_low": 8000.0, "median_km_high": 9500.0, "constant_km": 6000.0,
                  "pictures": 300.0, "distinct_answers": 1.0, "in_form": 0.4, "failure_rate": 0.0}  # fmt: skip
    step = {"groups_without_signal": 0.9, "dead_zone": 0.8, "decimal_endings": 2.0, "pool_easy": 0.1,
            "pool_hard": 0.7, "answers_cut_off": 0.5, "reward_form": 0.4}  # fmt: skip
    rows = [{"step": i, "time": 0.0} | step for i in range(12)]
    rows[6] |= {f"eval/{key}": value for key, value in evaluation.items()}
    (runs / "train" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    geospot.main(["report", "runs/train"])
    page = (runs / "train" / "report.html").read_text()
    above, _, below = page.partition("</header>")
    for words in (
        "eval: no better than one constant place", "1 different answers for 300 pictures", "40% of the answers",
        "90% of the groups of the last 10 steps have no signal", "50% of the answers of the last 10 steps reached",
    ):  # fmt: skip
        assert words in above.replace("&#x27;", "'"), words
    for words in (
        "answers in the dead zone",
        "Different answers of a step",
        "Pools by difficulty",
        "Different answers to the held-out",
    ):
        assert words in below, words


def parsed(config_class: type[Config], words: list[str]) -> Config:
    return parse(config_class, [*words, "max_steps=9"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("my.toml", 'model = "geospot/tiny"\nmax_steps = 7\nregion = true\nlr-schedule = "cosine"\ncoord_tau = 30'),
        ("my.yaml", "model: geospot/tiny\nmax_steps: 7\nregion: true\nlr_schedule: cosine\ncoord_tau: 30"),
        (
            "my.json",
            '{"model": "geospot/tiny", "max_steps": 7, "region": true, "lr_schedule": "cosine", "coord_tau": 30, '
            '"seed": null, "log_to": []}',
        ),
    ],
)
def test_a_configuration_file_is_read_and_keys_override_it(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    for words in ([f"config={tmp_path / name}"], ["--config", str(tmp_path / name)], [f"--config={tmp_path / name}"]):
        found = parsed(TrainConfig, words)
        assert (found.model_name, found.max_steps, found.region) == ("geospot/tiny", 9, True)
        assert (found.lr_schedule, found.coord_tau, found.seed, found.log_to) == ("cosine", 30.0, 0, ())


def test_the_configuration_of_a_run_is_one(runs):
    found, there = parsed(TrainConfig, ["config=runs/train"]), read_config("runs/train")
    assert (found.group_size, found.model_name, found.max_steps) == (there["group_size"], there["model_name"], 9)
    assert parsed(TrainConfig, ["config=runs/train/config.json"]) == found
    # what another command has no key for is left out
    assert parsed(SftConfig, ["config=runs/train"]).batch_size == there["batch_size"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_step = 3", "there is no key max_step. Did you mean max_steps?"),
        ("max_steps = 'x'", "max_steps=x: must be a whole number"),
        ("lr_schedule = 'cosin'", "Did you mean cosine?"),
        ("[train]\nmax_steps = 3", "there is no key train"),
        ("max_steps = ", "not TOML"),
    ],
)
def test_a_bad_configuration_file_is_refused_in_our_words(tmp_path, text, says, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(text)
    assert left("train", "config=my.toml") == 2
    assert says in capsys.readouterr().err
    assert left("train", "config=mine.toml") == 2
    assert "config=mine.toml: no such file. Did you mean my.toml?" in capsys.readouterr().err


def test_a_dry_run_opens_everything_and_writes_nothing(common, tmp_path, capsys):
    words = [f"{key}={value}" for key, value in common.items()]
    before = sorted(tmp_path.iterdir())
    geospot.main(["sft", *words, "max_steps=4", "log_path=new", "dry_run=true", "price_train=1"])
    out = capsys.readouterr().out
    for says in ("new: a new run of 4 steps", "a first batch of 4 pictures was read", "held out    eval 6 places",
                 "this run, without its evaluations: 4 steps", "at the prices given at most $", "s per step",
                 "dry run: nothing was written"):  # fmt: skip
        assert says in out, says
    assert sorted(tmp_path.iterdir()) == before
    geospot.main(["train", *words, "checkpoint=none", "max_steps=4", "group_size=2", "--dry-run"])
    assert "sample requests" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before
    assert left("sft", *words, "dry_run=true", f"data={tmp_path}/none.tar") == 2
    geospot.main(["data", "pack", common["data"], "out=packed", "dry_run=true"])
    assert "opened, 1 part" in capsys.readouterr().out
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("typed", "offers"),
    [
        ("geospot tr", ["train "]),
        ("geospot data in", ["inspect "]),
        ("geospot train max_st", ["max_steps="]),
        ("geospot sft lr_schedule=c", ["lr_schedule=constant ", "lr_schedule=cosine "]),
        ("geospot data pack shuf", ["shuffle=", "shuffle_buffer="]),
    ],
)
def test_a_shell_completes_commands_keys_and_values(typed, offers, capsys, tmp_path):
    geospot.main(["completion", "bash"])
    script = capsys.readouterr().out
    words = typed.split()
    lines = [script, f"COMP_WORDS=({' '.join(words)})", f"COMP_CWORD={len(words) - 1}", "_geospot",
             "printf '%s\\n' \"${COMPREPLY[@]}\""]  # fmt: skip
    found = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert found.stderr == ""
    assert found.stdout.splitlines() == offers


def test_zsh_and_fish_have_scripts_too(capsys):
    for shell, says in (("zsh", "bashcompinit"), ("fish", "lr_schedule=cosine")):
        geospot.main(["completion", shell])
        assert says in capsys.readouterr().out
    assert left("completion", "fsh") == 2
    assert "Did you mean fish?" in capsys.readouterr().err
