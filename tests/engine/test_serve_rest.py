"""What the SDK's command line, its REST client and the Tinker cookbook's downloads ask of `geospot serve`."""

import json
import re
import urllib.request
from pathlib import Path

import httpx
import numpy as np
import pytest
import tinker
from click.testing import CliRunner
from safetensors.torch import load_file
from servers.tinker import Serving
from tinker.cli.__main__ import main_cli
from tinker.types import AccessibleSearchOwner, SessionSearchRequest

from geospot.engine.adapter_names import use_model_names
from geospot.engine.serve.rest import REFUSED
from geospot.engine.weights import fetch_weights, write_adapter
from geospot.training.datums import supervised_datum


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    with Serving(tiny_folder, tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def rest(server):
    return tinker.RestClient(base_url=server.url, api_key="tml-test")


@pytest.fixture(scope="module")
def saved(server, renderer, pictures):
    """Two checkpoints of one run of a named session."""
    with tinker.ServiceClient(
        base_url=server.url, api_key="tml-test", user_metadata={"who": "me"}, display_name="Nightly run"
    ) as sdk:
        training = sdk.create_lora_training_client(
            server.model_name, rank=2, seed=0, train_unembed=False, user_metadata={"try": "1"}
        ).result()
        data = [supervised_datum(renderer.prompt(pictures[:1], "Where?"), renderer.answer_tokens("City: Lyon"))]
        training.forward_backward(data, "cross_entropy").result()
        training.optim_step(tinker.AdamParams(learning_rate=1e-2)).result()
        state = training.save_state("one", ttl_seconds=7200).result().path
        sampler = training.save_weights_for_sampler("two").result().path
        return {"run": training.model_id, "state": state, "sampler": sampler}


def test_runs_checkpoints_and_sessions_are_listed_from_the_disk_and_outlive_a_restart(server, rest, saved):
    for restarted in (False, True):
        if restarted:
            server.restart()
        run = rest.get_training_run(saved["run"]).result()
        assert (run.base_model, run.lora_rank, run.user_metadata) == (server.model_name, 2, {"try": "1"})
        assert run.last_checkpoint.tinker_path == saved["state"]
        assert run.last_sampler_checkpoint.tinker_path == saved["sampler"]
        assert saved["run"] in [r.training_run_id for r in rest.list_training_runs().result().training_runs]
        found = rest.list_checkpoints(saved["run"]).result().checkpoints
        assert [(c.checkpoint_type, c.checkpoint_id) for c in found] == [
            ("training", "weights/one"),
            ("sampler", "sampler_weights/two"),
        ]
        assert found[0].size_bytes > found[1].size_bytes > 1000
        assert found[0].expires_at is not None
        everything = rest.list_user_checkpoints(limit=1, offset=1).result()
        assert (len(everything.checkpoints), everything.cursor.total_count) == (1, 2)
        session_id = saved["run"].partition(":")[0]
        session = rest.get_session(session_id).result()
        assert (session.training_run_ids, session.display_name) == ([saved["run"]], "Nightly run")
        assert session_id in rest.list_sessions().result().sessions
        asked = SessionSearchRequest(display_name="nightly", owner=AccessibleSearchOwner(), user_metadata={"who": "me"})
        hits = rest.search_sessions(asked).result().sessions
        assert [(s.session_id, s.checkpoints_count) for s in hits] == [(session_id, 2)]
        with pytest.raises(tinker.NotFoundError, match="training run 'none' is not known here"):
            rest.get_training_run("none").result()


def command(server, *words: str):
    return CliRunner().invoke(
        main_cli, list(words), env={"TINKER_BASE_URL": server.url, "TINKER_API_KEY": "tml-test"}, catch_exceptions=False
    )


def test_the_sdks_command_line_works(server, rest, saved, tmp_path):
    for words, says in (
        (["run", "list"], saved["run"]),
        (["run", "info", saved["run"]], server.model_name.rsplit("/", 1)[-1]),
        (["checkpoint", "list"], saved["state"]),
        (["checkpoint", "list", "--run-id", saved["run"]], saved["sampler"]),
        (["checkpoint", "info", saved["state"]], "weights/one"),
    ):
        shown = command(server, "-f", "json", *words)
        assert shown.exit_code == 0, shown.output
        assert says in shown.output
    done = command(server, "checkpoint", "set-ttl", saved["state"], "--ttl", "4000")
    assert done.exit_code == 0, done.output
    done = command(server, "-f", "json", "checkpoint", "download", saved["state"], "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert list(tmp_path.rglob("adapter_model.safetensors"))
    assert not [c for c in rest.list_user_checkpoints().result().checkpoints if c.checkpoint_type == "external"]


def test_a_client_goes_on_after_a_restart(server, saved, renderer, pictures):
    """Its session and its samplers do; a model in training is gone, and the error says what to do."""
    prompt, params = renderer.prompt(pictures[:1], "Where?"), tinker.SamplingParams(max_tokens=4, seed=0)
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        named = sdk.create_sampling_client(model_path=saved["sampler"]).result()
        base = sdk.create_sampling_client(base_model=server.model_name).result()
        training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
        snapshot = training.save_weights_and_get_sampling_client().result()
        before = [s.sample(prompt, 1, params).result().sequences[0].tokens for s in (named, base)]
        server.restart()
        after = [s.sample(prompt, 1, params).result(timeout=120).sequences[0].tokens for s in (named, base)]
        assert before == after
        with pytest.raises(tinker.NotFoundError, match="go on from its last checkpoint"):
            training.optim_step(tinker.AdamParams()).result(timeout=120)
        with pytest.raises(tinker.NotFoundError, match="unnamed snapshots are gone; go on from the last checkpoint"):
            snapshot.sample(prompt, 1, params).result(timeout=120)
        assert sdk.create_training_client_from_state_with_optimizer(saved["state"]).result()


def test_a_checkpoint_is_copied_and_deleted(server, rest, saved):
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        body = {"session_id": sdk.holder.get_session_id(), "model_seq_id": 7, "source_path": saved["state"]}
        copy = httpx.post(f"{server.url}/api/v1/copy_weights", json=body).json()["tinker_path"]
        assert sdk.create_training_client_from_state(copy).result().get_info().lora_rank == 2
        done = command(server, "checkpoint", "delete", copy, "--yes")
        assert done.exit_code == 0, done.output
        with pytest.raises(tinker.NotFoundError):
            sdk.create_training_client_from_state(copy).result()


def test_an_encrypted_download_is_for_its_recipient_alone(server, rest, saved, tmp_path):
    """As the cookbook's `weights.download` asks for a training checkpoint."""
    pyrage = pytest.importorskip("pyrage")
    key = pyrage.x25519.Identity.generate()
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        training = sdk.create_training_client_from_state(saved["state"]).result()
        path = training.save_weights_external(
            "download", ttl_seconds=3600, age_encryption_recipients=[str(key.to_public())]
        ).result().path  # fmt: skip
        urls = rest.get_external_weights_urls(path).result().urls
        assert sorted(urls) == ["adapter_config.json.age", "adapter_model.safetensors.age"]
        with urllib.request.urlopen(urls["adapter_config.json.age"]) as response:
            secret = response.read()
        assert b"lora" not in secret
        assert json.loads(pyrage.decrypt(secret, [key]))["r"] == 2
        with pytest.raises(tinker.TinkerError, match="is no public key"):
            training.save_weights_external("bad", age_encryption_recipients=["age1nonsense"]).result()


def test_an_adapter_goes_out_with_the_services_names_and_comes_back_with_the_models(server, saved, tmp_path):
    """The cookbook merges by the former, PEFT loads by the latter; the other way round each passes over it."""
    folder = Path(server.local.checkpoint_dir) / saved["run"].replace(":", "_") / "weights/one"
    own = load_file(write_adapter(folder, tmp_path / "own") / "adapter_model.safetensors")
    theirs = write_adapter(folder, tmp_path / "theirs", names="service")
    names = list(load_file(theirs / "adapter_model.safetensors"))
    assert names
    assert all(re.match(r"base_model\.model\.model\.layers\.\d+\.\w+\.\w+\.lora_[AB]\.weight$", n) for n in names)
    use_model_names(theirs, server.model_name)
    back = load_file(
        fetch_weights(saved["state"], tmp_path / "back", base_url=server.url) / "adapter_model.safetensors"
    )
    for found in (load_file(theirs / "adapter_model.safetensors"), back):
        assert found.keys() == own.keys()
        for name, tensor in found.items():
            np.testing.assert_array_equal(tensor, own[name])
    modules = json.loads((tmp_path / "back/adapter_config.json").read_text())["target_modules"]
    assert {f"base_model.model.{m}.lora_A.weight" for m in modules} == {n for n in own if "lora_A" in n}


def endpoints_of_the_sdk() -> set[tuple[str, str]]:
    """Method and path of each, read off the SDK's source; names in braces are left out."""
    found = set()
    for source in Path(tinker.__file__).parent.rglob("*.py"):
        text = source.read_text() if not source.name.endswith("_test.py") else ""
        for match in re.finditer(r"/api/v1/([^\"'?`\s]+)", text):
            before = text[max(0, match.start() - 120) : match.start()]
            methods = re.findall(r"\b_?(get|post|put|delete)\(|\"(GET|POST|PUT|DELETE)\"", before)
            if methods:  # else it is mentioned in words
                found.add(("".join(methods[-1]).upper(), match[1].rstrip("/.,;)")))
    return {(method, re.sub(r"{\w+}", "{}", path.replace("{checkpoint_id}", "{}/{}"))) for method, path in found}


def test_every_endpoint_of_the_sdk_is_answered_or_refused_as_the_table_in_the_docs_says(server):
    page = (Path(__file__).parents[2] / "docs/tinker-endpoints.md").read_text()
    rows = re.findall(r"^\| ([A-Z]+) \| `(.+?)` \| (.+?) \| (.*?) ?\|$", page, re.MULTILINE)
    assert {(method, re.sub(r"{\w+}", "{}", path)) for method, path, _, _ in rows} == endpoints_of_the_sdk()
    assert f"{len(rows)} endpoints" in page
    with httpx.Client(timeout=120) as client:
        for method, path, answer, words in rows:
            url = f"{server.url}/api/v1/" + re.sub(r"{\w+}", "x", path.replace("{kind}", "weights"))
            said = client.request(method, url, json={} if method != "GET" else None)
            is_refusal = said.status_code == 422 and said.json()["detail"] in REFUSED.values()
            assert is_refusal == answer.startswith("refused"), (method, path)
            if is_refusal:
                assert said.json()["detail"] == words
            else:
                assert said.status_code < 500, (method, path)
                assert "is no endpoint" not in said.text
                assert said.status_code < 400 or said.json()["detail"], (method, path)
