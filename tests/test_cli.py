"""The commands as a user meets them: help, refusals before any work, evaluation and guesses."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import chz
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import jpeg

from geospot import __main__ as geospot
from geospot import config as configs
from geospot import sft, train
from geospot.cli import ALIASES, COMMON, extra_of, help_page, parse, reported
from geospot.config import FORMATS, SftConfig, TrainConfig
from geospot.config.keys import TOPICS
from geospot.report import guess_files
from geospot.runs.config import MAY_DIFFER
from geospot.scoring.results import finite

CONFIGS = {name: geospot.config_class(name) for name in geospot.COMMANDS}
INTERNALS = re.compile("chz|blueprint|subclass|entrypoint|allow_hyphens|Traceback", re.IGNORECASE)


def refused(capsys, main, *argv: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(list(argv))
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert not INTERNALS.search(message), message
    return message


# --- help ---


@pytest.mark.parametrize("command", geospot.COMMANDS)
def test_help_shows_an_example_and_every_key_by_topic(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    geospot.main([*command.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 or all("=" in line or "Example" in line for line in lines if len(line) > 80)
    assert lines[0].endswith((".", "that was", "leaks.")) or lines[1].endswith(".")
    example = next(line for line in lines if line.startswith("Example:"))
    words = shlex.split(example.removeprefix("Example:"))
    assert words[: 1 + len(command.split())] == ["geospot", *command.split()]
    parse(CONFIGS[command], words[1 + len(command.split()) :], geospot.COMMANDS[command].plain)
    shown = [re.match(r"  ([a-z_]+)=", line) for line in lines]
    assert sorted(m[1] for m in shown if m) == sorted([*chz.chz_fields(CONFIGS[command]), *COMMON])
    headings = [line for line in lines if line in TOPICS]
    assert headings == sorted(headings, key=TOPICS.index)


def test_help_follows_the_terminal(monkeypatch):
    def widest(columns: str) -> int:
        monkeypatch.setenv("COLUMNS", columns)
        return max(map(len, help_page("sft", SftConfig).splitlines()[4:]))

    assert widest("40") <= 80 < widest("110") <= 110
    assert widest("500") <= 120


def test_every_key_has_a_topic_and_a_meaning():
    classes = [value for name in dir(configs) if isinstance(value := getattr(configs, name), type)]
    assert len(classes) > 12
    for cls in classes:
        for name, field in chz.chz_fields(cls).items():
            assert field.metadata["topic"] in TOPICS, (cls, name)
            assert 5 < len(field.metadata["doc"]) < 330, (cls, name)


def test_no_word_and_help_list_the_commands(capsys):
    for words in ([], ["--help"], ["help"]):
        geospot.main(words)
        out = capsys.readouterr().out
        assert all(name in out for name in geospot.COMMANDS)
    geospot.main(["data"])
    out = capsys.readouterr().out
    assert "data inspect" in out
    assert "data pack" in out
    assert "export" not in out


def test_help_with_a_word_is_that_command_s_help(capsys):
    geospot.main(["help", "data", "pack"])
    assert "shard_samples=1000" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    from geospot import __version__

    geospot.main(["--version"])
    assert capsys.readouterr().out == f"geospot {__version__}\n"


# --- words ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], ["'trian'", "Did you mean train?", "calibrate"]),
        (["data", "inspekt", "photos"], ["'data inspekt'", "Did you mean data inspect?"]),
        (["data", "--out=x"], ["'data --out=x'"]),
    ],
)
def test_an_unknown_command_is_named_with_the_nearest(words, says, capsys):
    message = refused(capsys, geospot.main, *words)
    assert all(word in message for word in says), message


@given(st.data())
def test_three_ways_to_write_a_key_are_one(data):
    key = data.draw(st.sampled_from(["max_steps", "batch_size", "learning_rate", "lr_schedule", "log_to", "overlap"]))
    value = data.draw(
        {
            "learning_rate": st.sampled_from(["1e-3", "0.5", "none"]),
            "lr_schedule": st.sampled_from(["cosine", "linear"]),
            "log_to": st.just(""),
            "overlap": st.sampled_from(["true", "False", "1", "no"]),
        }.get(key, st.integers(1, 999).map(str))
    )
    hyphens = key.replace("_", "-")
    ways = [[f"{key}={value}"], [f"--{key}", value], [f"--{key}={value}"], [f"--{hyphens}={value}"]]
    assert len({repr(parse(TrainConfig, words)) for words in ways}) == 1


def refusal(words: list[str]) -> str:
    """What `parse` says, or nothing where it takes the words."""
    try:
        parse(TrainConfig, words)
    except ValueError as error:
        return str(error)
    return ""


WORDS = st.text(max_size=12) | st.sampled_from(["max_steps=x", "--overlap", "seed=1", "--seed", "-1"])


@given(st.lists(WORDS, max_size=4))
def test_whatever_is_typed_is_read_or_refused_in_our_words(words):
    message = refusal(words)
    assert not INTERNALS.search(message)
    assert not message or any(word.lstrip("-").split("=")[0] in message for word in words)


def test_a_switch_needs_no_value():
    assert parse(TrainConfig, ["--overlap", "--seed", "3"]).overlap
    assert not parse(TrainConfig, ["--overlap", "no"]).overlap
    guess = parse(CONFIGS["guess"], ["--coarse", "photo.jpg", "--", "--odd.jpg"], "photos")
    assert (guess.coarse, guess.photos) == (True, ("photo.jpg", "--odd.jpg"))


def test_a_file_with_an_equals_sign_is_a_plain_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lat=1.jpg").touch()
    words = ["lat=1.jpg", "https://example.org/?id=3", "seed=2"]
    assert parse(CONFIGS["guess"], words, "photos").photos == ("lat=1.jpg", "https://example.org/?id=3")


@pytest.mark.parametrize("command", [name for name, cls in CONFIGS.items() if "model_name" in chz.chz_fields(cls)])
def test_model_is_model_name_in_every_command(command):
    extra = {"guess": ["a.jpg"]}.get(command, [])
    name = "geospot/tiny-untrained"
    for word in (f"model={name}", f"--model={name}", f"model_name={name}"):
        assert parse(CONFIGS[command], [word, *extra], geospot.COMMANDS[command].plain).model_name == name
    assert set(ALIASES) == {"model", "from"}


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        ("export", [], "checkpoint and out: required; for example: geospot export"),
        ("guess", [], "photos: required; for example: geospot guess photos/"),
        ("data inspect", [], "data: required"),
        ("data pack", ["photos.csv"], "out: required"),
        ("data pack", ["a.csv", "b.csv", "out=x"], "a.csv b.csv: give one source"),
        ("compare", ["a.csv"], "two or more"),
        ("compare", ["a.csv", "b.csv", "references=contry"], "Did you mean country?"),
        ("guess", ["a.jpg", "format=geojsn"], "Did you mean geojson?"),
        ("sft", ["--max-steps"], "--max-steps: a value is missing; write --max-steps VALUE or max-steps=VALUE"),
        ("sft", ["max_steps"], "max_steps: a value is missing; write max_steps=VALUE"),
        ("sft", ["learningrate=1"], "Did you mean learning_rate?"),
        ("sft", ["modle=x"], "Did you mean model?"),
        ("sft", ["merge_lora=perhaps"], "must be true or false"),
        ("sft", ["-x"], "there is no key x"),
        ("demo", ["model=geospot/tini"], "Did you mean geospot/tiny?"),
        ("serve", ["port=99999"], "at most 65535"),
    ],
)
def test_what_is_missing_or_mistyped_is_refused_with_the_remedy(command, words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, geospot.main, *command.split(), *words)


def test_the_formats_of_guesses_are_those_that_can_be_written():
    assert set(FORMATS) == {*guess_files.FORMATS, "html"}  # a page is written by guess_page


@pytest.mark.parametrize(
    ("main", "argument", "says"),
    [
        (sft.main, "max_step=3", ["max_step", "max_steps"]),
        (sft.main, "max_steps=three", ["max_steps=three", "must be a whole number"]),
        (sft.main, "max_steps=0", ["max_steps=0", "above 0"]),
        (sft.main, "decimals=7", ["decimals=7", "2, 3 or 4"]),
        (sft.main, "engine=cloud", ["engine", "cloud", "local"]),
        (sft.main, "lr_schedule=step", ["lr_schedule", "cosine"]),
        (sft.main, "device=tpu", ["device=tpu", "cuda"]),
        (sft.main, "log_to=sheets", ["log_to=sheets", "wandb"]),
        (sft.main, "steps", ["steps", "key=value"]),
        (train.main, "group_size=1", ["group_size=1", "at least 2"]),
        (train.main, "coord_weight=2", ["coord_weight", "2.0"]),
        (train.main, "coord_tau=-1", ["coord_tau=-1", "> 0"]),
        (train.main, "loss=sgd", ["loss=sgd", "cispo"]),
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
    assert "pip install '.[trackio]'" in refused(capsys, sft.main, "log_to=trackio")


def test_results_that_are_nan_become_null_however_deep():
    """A set without labels has NaN intervals, and so has a model that answers nothing."""
    nan = float("nan")
    assert finite({"eval": {"intervals": {"text_city_acc": (nan, 0.5)}, "n": nan}}) == {
        "eval": {"intervals": {"text_city_acc": [None, 0.5]}, "n": None}
    }


def test_missing_data_and_models_are_named_without_a_traceback(capsys, tmp_path, monkeypatch, tiny_folder):
    monkeypatch.chdir(tmp_path)
    assert "nothing matches nowhere/*.tar" in refused(
        capsys, sft.main, f"model_name={tiny_folder}", "data=nowhere/*.tar"
    )
    assert "no such folder" in refused(capsys, sft.main, "model_name=./nothing")
    assert "no such run folder" in refused(capsys, train.main, "checkpoint=nothing")


def test_eval_prints_the_table_and_writes_every_answer(sft_run, shards, tiny_folder, tmp_path, capsys):
    geospot.main([
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
        geospot.main([
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
    geospot.main(words)
    assert "100.0%" in capsys.readouterr().out
    assert "set model_name=" in refused(capsys, geospot.main, *words, "model_name=geospot/tiny")


def test_what_a_run_was_set_to_is_what_it_is_evaluated_with(sft_run, tmp_path):
    from geospot.asking.subject import run_setting
    from geospot.runs.checkpoints import find_checkpoint

    checkpoint = find_checkpoint(str(sft_run[0]))
    assert run_setting(checkpoint, "max_steps", 0) == 90
    assert run_setting(checkpoint, "zoom_km", 1.0) == 1000.0
    assert run_setting(str(tmp_path / "alone" / "checkpoint"), "zoom_km", 7.0) == 7.0
    assert run_setting(None, "zoom_km", 7.0) == 7.0


def test_memory_and_speed_may_change_on_resume_and_what_is_learned_may_not():
    from geospot.runs.config import refused as refused_keys

    fields = chz.chz_fields(TrainConfig)
    assert set(fields) >= MAY_DIFFER
    memory = ["max_batch_tokens", "max_sample_tokens", "shuffle_buffer", "open_shards", "data_workers", "compile"]
    assert refused_keys(memory, MAY_DIFFER) == []
    learned = ["learning_rate", "batch_size", "seed", "data", "group_size", "coord_tau", "max_tokens", "views"]
    assert refused_keys(learned, MAY_DIFFER) == learned


# --- how a command ends ---


def test_ctrl_c_ends_with_130_and_one_line(capsys, monkeypatch):
    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geospot.sft.run", interrupted)
    with pytest.raises(SystemExit) as left:
        geospot.main(["sft"])
    assert left.value.code == 130
    assert capsys.readouterr().err == "geospot sft: interrupted; what was saved is intact\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["data", "--help"], ["data"], []])
def test_a_reader_that_is_gone_ends_a_command_quietly(words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    command, env = [sys.executable, "-m", "geospot", *words], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120, env=env)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode in (1, 141)


# --- start-up ---

# Packages of the extras; the light install has none of them.
EXTRAS = (
    "torch transformers peft tinker huggingface_hub httpx httpx2 fsspec PIL pillow_heif rich mpl_toolkits "
    "pyarrow matplotlib starlette uvicorn wandb tensorboard trackio pydantic safetensors yaml"
)
LIGHT = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS.split()}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
from geospot.__main__ import main
for line in sys.stdin.read().splitlines():
    print("@@", line)
    try:
        main(line.split())
        print("status 0")
    except SystemExit as left:
        print("status", left.code)
"""


def run_light(lines: list[str], cwd: Path) -> dict[str, tuple[str, str]]:
    """Each command line -> (status, what it printed), in one process that can import no extra."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], input="\n".join(lines), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=300, cwd=cwd, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    results = {}
    for part in done.stdout.split("@@ ")[1:]:
        line, _, printed = part.partition("\n")
        results[line] = (printed.rpartition("status ")[2].strip(), printed)
    assert len(results) == len(lines), done.stdout
    return results


def test_the_light_install_is_enough_for_help_and_refusals(tmp_path):
    help_lines = [f"{name} --help" for name in geospot.COMMANDS]
    bad = [
        "sft max_step=3", "train loss=sgd", "eval samples=x", "calibrate samples=0", "guess nowhere.jpg",
        "demo seed=-1", "compare a.csv b.csv", "eval predictions=nowhere.csv", "train checkpoint=nowhere",
        "sft data=nowhere/*.tar", "train eval_data=nowhere.csv", "sft model=./nowhere",
        "data inspect nowhere", "data pack nowhere.csv out=x", "study nowhere.toml out=x",
        "serve port=-1", "export checkpoint=nowhere out=x", "eval checkpoint=nowhere", "calibrate data=csv:nowhere.csv",
    ]  # fmt: skip
    results = run_light([*help_lines, *bad, "--help", "--version", "doctor"], tmp_path)
    assert {line: status for line, (status, _) in results.items() if line in bad and status != "2"} == {}
    assert {line: status for line, (status, _) in results.items() if line not in bad and status != "0"} == {}
    doctor = results["doctor"][1]
    assert "float32 (numpy)" in doctor
    assert "torch –" in doctor
    assert "Start with  `uv sync --extra train`" in doctor


def test_the_light_install_scores_compares_and_inspects(tmp_path):
    (tmp_path / "truth.csv").write_text("id,lat,lon\n" + "".join(f"{i},{40 + i},{i}\n" for i in range(30)))
    for name, off in (("a", 0.1), ("b", 0.5)):
        rows = "".join(f"{i},{40 + i + off},{i}\n" for i in range(30))
        (tmp_path / f"{name}.csv").write_text("id,lat,lon\n" + rows)
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    (tmp_path / "metadata.json").write_text('[{"image": "0.jpg", "lat": 48.8, "lon": 2.3}]')
    (tmp_path / "photos.csv").write_text("image,lat,lon\n0.jpg,48.8,2.3\n")
    results = run_light(
        [
            "eval predictions=a.csv truth=truth.csv out=a references=all",
            "compare a.csv b.csv truth=truth.csv resamples=200 out=both",
            "data inspect metadata.json out=page.html",
            "data inspect photos.csv",  # a CSV of pictures is read by pyarrow
        ],
        tmp_path,
    )
    assert [status for status, _ in results.values()] == ["0", "0", "0", "2"], results
    (_, scored), (_, compared), (_, inspected), _ = results.values()
    assert "median km" in scored
    assert "b − a" in compared
    assert "France" in inspected


def test_a_missing_extra_is_named_with_a_command_that_works_from_a_checkout(tmp_path):
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    for words, (status, printed) in run_light(
        ["sft", "train", "guess 0.jpg", "demo", "eval", "serve"], tmp_path
    ).items():
        extra = "serve" if words == "serve" else "train"
        assert status == "2", words
        assert f"install the extra {extra} with `uv sync --extra {extra}` or `pip install '.[{extra}]'`" in printed


def test_modules_know_their_extras():
    assert extra_of("torch.nn") == "train"
    assert extra_of("PIL") == extra_of("PIL", "play") == "train"  # of several: not the first by name
    assert (extra_of("starlette", "serve"), extra_of("starlette", "watch")) == ("serve", "pages")
    assert extra_of("openai") == "api"
    assert extra_of("geospot.nothing") is None


def test_guess_names_a_photo_that_is_not_there(capsys):
    assert "nowhere.jpg" in refused(capsys, geospot.main, "guess", "nowhere.jpg")


@pytest.mark.parametrize(
    ("words", "may_have"),
    [
        (["--help"], set()),
        (["train", "--help"], {"chz", "numpy"}),
        (["sft", "max_step=3"], {"chz", "numpy"}),
        (["guess", "nowhere.jpg"], {"chz", "numpy"}),
    ],
)
def test_help_and_refusals_import_little(words, may_have):
    heavy = [*EXTRAS.split(), "scipy", "numpy", "chz"]
    code = (
        "import sys\nfrom geospot.__main__ import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert set(done.stderr.splitlines()[-1].split()) <= may_have


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts this process's threads as Linux lists them")
def test_a_command_leaves_numpy_one_thread():
    code = (
        "import os; import geospot.__main__ as geospot; geospot.main(['--version']); import numpy, scipy.linalg; "
        "print(len(os.listdir('/proc/self/task')))"
    )
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "1"


def test_rewards_need_no_extra():
    """The light install parses answers and rewards them."""
    code = (
        LIGHT.partition("from geospot")[0] + "from geospot.answer import parse_answer\n"
        "from geospot.reward import RewardConfig, reward_parts\n"
        "from geospot.earth.place import Place\n"
        "a = parse_answer('City: Lyon\\nCountry: France\\nLatitude: 45.76\\nLongitude: 4.84')\n"
        "r = reward_parts([a], [Place(45.76, 4.84, 'Lyon', None, 'France')], 1.0, RewardConfig())\n"
        "assert r.total[0] > 0.99, r\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


# --- answers ---


def test_calibrating_gives_guesses_a_radius(sft_run, shards, tiny_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("geospot.asking.calibration.LEAST_PLACES", 3)
    words = [f"checkpoint={sft_run[0]}", "threads=1", "max_tokens=16", "device=cpu", "samples=3"]
    path = tmp_path / "c.json"
    geospot.main(["calibrate", *words, f"data={shards}/train.tar", f"out={tmp_path}/cal", f"file={path}"])
    assert "holds the truth" in capsys.readouterr().out
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    geospot.main(["guess", str(tmp_path / "a.jpg"), *words, f"calibration={path}", "probability=0.5"])
    assert f"50 % probability, for pictures like those of {shards}/train.tar (eval)" in capsys.readouterr().out
    other = ["guess", str(tmp_path / "a.jpg"), *words[:-1], "samples=2", f"calibration={path}"]
    assert "it is of samples 3 (here 2)" in refused(capsys, geospot.main, *other)


def test_the_guesser_is_a_few_lines(sft_run, tiny_folder, tmp_path):
    from geospot import Guesser, score

    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    said = []
    with Guesser(checkpoint=str(sft_run[0]), threads=1, max_tokens=16, device="cpu") as guesser:
        guesser.say = said.append
        guess = guesser(tmp_path / "a.jpg")
        again = guesser((tmp_path / "a.jpg").read_bytes(), samples=2)
        with pytest.raises(ValueError, match="unreadable image"):
            guesser(b"nothing")
    assert (guess.country, len(again.texts)) == ("France", 2)
    assert [text[:12] for text in said] == ["memory, GiB:"]  # once, when it opens
    assert score(guess, (guess.lat, guess.lon)).summary["geoguessr_score"] == 5000


# --- said before the work ---


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("data inspect photos.csv out=nowhere/page.html", "out=nowhere/page.html: no such folder: nowhere"),
        ("data inspect photos.csv out=phots/page.html", "no such folder: phots. Did you mean photos?"),
        ("data inspect photos.csv out=photos.html", "out=photos.html: is a folder; give the name of a file in it"),
        ("guess photos/a.jpg out=g.doc", "out=g.doc: must end in .txt, .htm, .csv"),
        ("guess photos/a.jpg out=g.geojsn", "Did you mean .geojson?"),
        ("eval predictions=photos.csv out=photos.csv", "out=photos.csv: is a file; give the name of a folder"),
        ("eval predictions=photo.csv", "predictions=photo.csv: no such file. Did you mean photos.csv?"),
        ("data inspect photos data_workers=0", "no usable place in photos"),
        ("data inspect photo", "there is no such file or folder. Did you mean photos?"),
        ("guess photos/a.jpg model=geospot/tny", "there is no such built-in model. Did you mean geospot/tiny?"),
        ("sft data=bluemarbl", "Did you mean bluemarble?"),
        ("sft data=photos.csv eval_data=cell", "Did you mean cells?"),
        ("sft from=photos", "from=photos: neither a run folder (config.json) nor a checkpoint in one"),
        ("sft shuffle_buffer=1 region=ture", "Did you mean true?"),
        ("evaluate", "Did you mean eval?"),
        ("predict a.jpg", "Did you mean guess?"),
        ("report photos", "not a run folder"),
    ],
)
def test_what_would_fail_later_is_refused_at_once_with_the_remedy(line, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.html").mkdir()
    (tmp_path / "photos.csv").write_text("image,lat,lon\na.jpg,1,2\n")
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg(0))
    with pytest.raises(SystemExit) as left:
        geospot.main(line.split())
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert says in err
    assert not re.search(r"\[Errno|Traceback|\bNone\b|object at 0x", err)


def test_an_error_of_the_system_is_a_sentence(tmp_path):
    from geospot.cli import in_words

    with pytest.raises(OSError, match="Errno") as missing:
        (tmp_path / "x").read_bytes()
    assert in_words(missing.value) == f"{tmp_path}/x: no such file or directory"
    assert in_words(OSError(28, "cannot write x: the disk is full")) == "cannot write x: the disk is full"


def test_each_data_set_has_its_own_folder(tmp_path, monkeypatch):
    from geospot.commands.ask import own_folder
    from geospot.config import EvalConfig

    monkeypatch.chdir(tmp_path)

    def folder(**given) -> str:
        return str(own_folder(EvalConfig(**given), "runs/eval-m"))

    assert folder() == folder(data="bluemarble") == "runs/eval-m"
    assert folder(data="hf://datasets/a/b/eval/*.tar") == "runs/eval-m-eval"
    assert folder(data="one/test.tar") == "runs/eval-m-test"
    assert folder(data="one/test.tar", out="mine") == "mine"
    Path("runs/eval-m-test").mkdir(parents=True)
    Path("runs/eval-m-test/settings.json").write_text('{"data": "one/test.tar"}')
    assert folder(data="one/test.tar") == "runs/eval-m-test"  # the same command goes on
    assert folder(data="two/test.tar") == "runs/eval-m-test-2"


def test_the_light_install_names_the_extra_that_is_missing(tmp_path):
    (tmp_path / "my.yaml").write_text("max_steps: 3")
    (tmp_path / "my.toml").write_text("max_step = 3")
    results = run_light(["sft config=my.yaml", "sft config=my.toml"], tmp_path)
    assert {status for status, _ in results.values()} == {"2"}
    ask = LIGHT.partition("from geospot.__main__")[0] + "from geospot import Guesser; Guesser()"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=120)
    assert re.search(r"ModuleNotFoundError: Guesser needs \w+: install the extra train with ", done.stderr)


def test_the_guesser_takes_model_name_too():
    from geospot.asking.guesser import Guesser

    assert Guesser(model_name="geospot/tiny").subject == Guesser("geospot/tiny").subject


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Cannot allocate memory (os error 12)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_out_of_memory_is_one_sentence(capsys, error):
    with pytest.raises(SystemExit) as ended, reported("train"):
        raise error
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("geospot train: out of memory")
    assert "what was saved is intact" in line


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="ours"), reported("train"):
        raise RuntimeError("ours")
