"""`geospot doctor`: what it says of a machine, with and without network, key, torch and room."""

import json
import re
import socket
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from geospot import __main__ as geospot
from geospot.cli import parse
from geospot.commands import doctor, measurements, reach
from geospot.config import DoctorConfig
from geospot.models.known import KNOWN
from geospot.training.capacity import TASKS, capacities, peak

GIB = 1 << 30
BY_NAME = {model.name.removeprefix("Qwen/"): model for model in KNOWN}


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "BUDGET_S", 0.0)
        patch.setattr(measurements, "_MOST_CHUNKS", 1)
        return doctor.examine(DoctorConfig())


def test_what_it_finds_is_json_and_its_text_says_it(found):
    assert json.loads(json.dumps(found)) == found
    text = doctor.as_text(found)
    assert found["cpu"]["cores"] >= 1
    assert f"torch {found['versions']['torch']}" in text
    assert {(s["dtype"], s["layout"]) for s in found["speed"]} == {
        (dtype, layout) for dtype in ("float32", "bfloat16") for layout in ("(out, in)", "(in, out)")
    }
    assert all(s["gflops"] > 0 for s in found["speed"])
    assert found["disk"]["write_mb_s"] > 0
    assert all(m["model"].removeprefix("Qwen/") in text for m in found["models"])
    assert "Start with  geospot demo" in text
    assert max(map(len, text.splitlines()[1:])) <= 120


def test_the_command_prints_json(capsys, monkeypatch, found):
    monkeypatch.setattr(doctor, "examine", lambda config: found)
    geospot.main(["doctor", "json=true"])
    assert json.loads(capsys.readouterr().out) == found
    geospot.main(["doctor"])
    assert capsys.readouterr().out.startswith("versions  geospot")


def test_every_extra_is_explained():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert doctor.EXTRAS.keys() == project["optional-dependencies"].keys()
    owners = packages_distributions()
    for extra, requirements in project["optional-dependencies"].items():
        modules = [module.partition(".")[0] for module in doctor.EXTRAS[extra][1].split()]
        found = {name.lower().replace("_", "-") for module in modules for name in [module, *owners.get(module, ())]}
        wanted = {re.split(r"[<>=\[ ]", requirement)[0].lower() for requirement in requirements}
        assert wanted <= found, f"a package of {extra} of which the doctor knows no module"


# -- network ----------------------------------------------------------------------------------------------------------


def test_offline_is_a_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert reach.hub()["says"] == "offline, as HF_HUB_OFFLINE says: only what is on the disk is loaded"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert reach.hub()["says"] == (
        "offline: http://127.0.0.1:9 cannot be reached (connection refused); what is on the disk works"
    )
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert not reach.hub()["reachable"]


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        said = reach.hub(patience_s=0.1)
    assert not said["reachable"]
    assert "cannot be reached" in said["says"]


def test_the_key_is_never_printed(monkeypatch):
    assert reach.service(None)["says"].startswith("no key: set TINKER_API_KEY")
    for key in ("tml-verysecret", "verysecret"):
        monkeypatch.setenv("TINKER_API_KEY", key)
        said = reach.service("http://127.0.0.1:9", patience_s=0.3)
        assert not said["reachable"]
        assert "verysecret" not in json.dumps(said)


def test_a_server_of_the_protocol_is_asked_what_it_serves(monkeypatch, tiny_folder, tmp_path):
    from servers.tinker import Serving

    with Serving(tiny_folder, tmp_path) as server:
        said = reach.service(server.url, patience_s=60.0)
    assert said["reachable"]
    assert said["says"].startswith("serves 1 models")


# -- room -------------------------------------------------------------------------------------------------------------


def test_more_memory_fits_more_and_larger_batches_need_more():
    model = BY_NAME["Qwen2.5-VL-3B-Instruct"]
    for task in ("sft", "train"):
        needs = [peak(model, task, batch, "bfloat16") for batch in (1, 4, 16)]
        assert needs == sorted(needs)
        assert peak(model, task, 1, "bfloat16", device="cpu") < needs[0]  # its weights are used as they are filed
    by_memory = [{c.model.name: c for c in capacities(n * GIB, ["bfloat16"])} for n in (8, 24, 80)]
    for name in by_memory[0]:
        for task in TASKS:
            batches = [found[name].fits[task].batch for found in by_memory]
            assert batches == sorted(batches), (name, task)
            assert all(fit.n_bytes <= n * GIB for found, n in zip(by_memory, (8, 24, 80), strict=True)
                       if (fit := found[name].fits[task]).batch)  # fmt: skip


def test_where_to_start_follows_what_fits(found):
    gpu = {"name": "one", "memory": 80 * GIB, "free": 80 * GIB}
    with_gpu = found | {"gpus": [gpu], "models": doctor.models([gpu])}
    command = doctor.start(with_gpu)
    assert command.startswith("geospot sft model_name=Qwen/")
    config = parse(geospot.config_class("sft"), command.split()[2:])
    assert config.batch_size >= 1
    assert doctor.start(found) == "geospot demo"
    bare = found | {"extras": found["extras"] | {"train": {"adds": "", "installed": False}}}
    assert "--extra train" in doctor.start(bare)


def test_a_folder_that_cannot_be_written_to_is_said(found):
    problem = measurements.disk("/nowhere/at/all")
    assert problem["problem"] == "no such file or directory"
    assert "disk      /nowhere/at/all: no such file or directory" in doctor.as_text(found | {"disk": problem})
