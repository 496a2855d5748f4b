"""What `geospot serve` takes of whoever may connect: odd values, too much, too many, half of something, odd names."""

import contextlib
import json
import os
import socket

import httpx
import numpy as np
import pytest
import tinker
from servers.tinker import Serving
from tinker.proto import tinker_public_pb2 as pb


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    with Serving(tiny_folder, tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def sdk(server):
    client = tinker.ServiceClient(base_url=server.url, api_key="tml-test")
    yield client
    client.close("success").result(timeout=120)


def post(server, path: str, **kwargs) -> httpx.Response:
    return httpx.post(f"{server.url}/api/v1/{path}", timeout=120, **kwargs)


def test_messages_that_are_not_of_the_protocol_are_refused_with_a_reason(server):
    assert post(server, "create_session", content=b"{").status_code == 400
    wrong = post(server, "create_session", json={"tags": [], "user_metadata": None, "sdk_version": "x", "colour": 1})
    assert wrong.status_code == 422
    assert "colour" in wrong.json()["detail"]
    assert post(server, "forward_backward", content=b"\xff\xff").status_code == 400
    assert post(server, "retrieve_future", json={"request_id": "none"}).status_code == 410
    assert post(server, "get_info", json={"model_id": "none:train:0"}).status_code == 404
    assert post(server, "asample", content=b"x", headers={"content-encoding": "br"}).status_code == 415
    assert post(server, "asample", content=b"x", headers={"content-encoding": "zstd"}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://example.org"}, 403),
        ({"host": "attacker.example:8321"}, 403),
        ({"host": "127.0.0.1.attacker.example"}, 403),
        ({"host": "LOCALHOST:1"}, 422),
        ({"host": "[::1]:8321"}, 422),
    ],
)
def test_web_pages_are_not_served(server, headers, status):
    """Neither those of another origin nor, by DNS rebinding, those that call this machine by a name of their own."""
    assert post(server, "create_session", json={}, headers=headers).status_code == status


HOSTILE = [
    ("weights_info", {"tinker_path": 5}, 422),
    ("session_heartbeat", {"session_id": [1]}, 422),
    ("retrieve_future", {"request_id": {"a": 1}}, 422),
    ("cancel_future", {"request_id": None}, 422),
    ("asample", {"sampling_session_id": "a", "seq_id": 1, "prompt": {"chunks": []}, "sampling_params": {},
                 "num_samples": 10_000_000}, 422),
    ("asample", {"sampling_session_id": "a", "seq_id": 1, "prompt": {"chunks": []},
                 "sampling_params": {"max_tokens": 10**12}}, 422),
    ("create_model", {"session_id": "a", "model_seq_id": 10**400, "base_model": "b"}, 400),
    ("save_weights", {"model_id": "no", "path": "a" * 100_000, "seq_id": 1}, 404),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status"), HOSTILE)
def test_hostile_values_are_refused_before_any_work(server, path, body, status):
    answer = post(server, path, content=json.dumps(body).encode())
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.fixture(scope="module")
def known(server):
    """The ids of a session with a model in training, a sampler and a checkpoint."""
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
        sampler = sdk.create_sampling_client(base_model=server.model_name).result()
        path = training.save_state("known").result().path
        session = training.model_id.partition(":")[0]
        yield {"session": session, "model": training.model_id, "sampler": sampler._sampling_session_id, "path": path}


def whole_messages(server, known) -> dict[str, dict]:
    """A message for each endpoint that would be done as it is, but for its place in the order."""
    of_model = {"model_id": known["model"], "seq_id": 900}
    a = {"session_id": known["session"]}
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [5, 6]}]}
    adam = {"learning_rate": 0.0, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0, "grad_clip_norm": 1.0}
    params = {"max_tokens": 1, "seed": 0, "stop": [3], "temperature": 1.0, "top_k": -1, "top_p": 1.0}
    return {
        "create_session": {"tags": ["a"], "user_metadata": {"a": "b"}, "sdk_version": "x", "display_name": "n"},
        "create_model": {**a, "model_seq_id": 900, "base_model": server.model_name, "user_metadata": {"a": "b"},
                         "lora_config": {"rank": 1, "seed": 1}},
        "get_info": {"model_id": known["model"]},
        "optim_step": {**of_model, "adam_params": adam},
        "asample": {"sampling_session_id": known["sampler"], "seq_id": 900, "num_samples": 1, "prompt": prompt,
                    "sampling_params": params, "topk_prompt_logprobs": 1, "topk_sample_logprobs": 1,
                    "prompt_logprobs": True, "prompt_logprobs_last_n": 1,
                    "target_prompt_logprobs": {"data": [5], "dtype": "int64", "shape": [1, 1]}},
        "save_weights": {**of_model, "path": "odd", "overwrite": True, "ttl_seconds": 4000, "user_metadata": {}},
        "save_weights_for_sampler": {**of_model, "path": "odd", "ttl_seconds": 4000, "kind": "snapshot"},
        "save_weights_external": {**of_model, "path": "odd", "ttl_seconds": 4000},
        "load_weights": {**a, "model_seq_id": 901, "path": known["path"], "optimizer": True},
        "create_sampling_session": {**a, "sampling_session_seq_id": 900, "base_model": server.model_name},
        "weights_info": {"tinker_path": known["path"]},
        "copy_weights": {**a, "model_seq_id": 902, "source_path": known["path"], "ttl_seconds": 4000},
        "sessions/search": {"session_id": known["session"], "limit": 1, "display_name": "n", "user_metadata": {}},
        "session_heartbeat": {"session_id": known["session"]},
        "cancel_future": {"request_id": "none"},
    }  # fmt: skip


def odd_ones(message: dict, value: object):
    """The message with each of its fields, and of theirs, replaced by a value."""
    for name, kept in message.items():
        yield {**message, name: value}
        if isinstance(kept, dict):
            yield from ({**message, name: inner} for inner in odd_ones(kept, value))


ODD = [None, -1, 1.5, "", [1], {"a": 1}, 10**30]


@pytest.mark.parametrize("value", ODD)
def test_no_value_of_any_field_breaks_the_server(server, known, value):
    """Every field of an otherwise whole message: refused at once in words, or done."""
    promised, seq_id = [], 1000 * (1 + ODD.index(value))
    with httpx.Client(timeout=120) as client:
        for path, message in whole_messages(server, known).items():
            for odd in odd_ones(message, value):
                seq_id += 1
                if odd.get("seq_id") == 900:
                    odd["seq_id"] = seq_id  # each a request of its own
                answer = client.post(f"{server.url}/api/v1/{path}", json=odd)
                assert answer.status_code < 500, (path, odd)
                if answer.status_code >= 400:
                    assert answer.json()["detail"]
                elif path == "create_session":
                    client.post(f"{server.url}/api/v1/sessions/{answer.json()['session_id']}/finish", json={})
                elif "request_id" in answer.json():
                    promised.append((path, odd, answer.json()["request_id"]))
        for path, odd, request_id in promised:
            found = client.post(f"{server.url}/api/v1/retrieve_future", json={"request_id": request_id})
            assert b'"category":"server"' not in found.content, (path, odd, found.text)
        assert client.get(f"{server.url}/api/v1/healthz").status_code == 200


def test_no_id_leads_out_of_the_checkpoint_folder(server, known, tmp_path):
    way = os.path.relpath(tmp_path, server.local.checkpoint_dir)
    for model_id in (f"{known['session']}:train:/../{way}/x", f"{known['session']}:../{way}/x"):
        body = {"model_id": model_id, "seq_id": 1, "path": known["path"], "optimizer": True}
        assert post(server, "load_weights", json=body).status_code == 404
    assert not list(tmp_path.iterdir())


def test_a_sparse_tensor_is_as_large_as_its_shape_says_and_its_indices_fit(server, known):
    def answer(shape: list[int], crow: list[int], column: list[int]) -> httpx.Response:
        message = pb.ForwardBackwardRequest(model_id=known["model"], seq_id=903, loss_fn="cross_entropy")
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = np.array([5, 6], np.int32).tobytes()
        for name, kind in (("target_tokens", np.int64), ("weights", np.float32)):
            tensor = datum.loss_fn_inputs[name]
            tensor.dtype = pb.DTYPE_INT64 if kind is np.int64 else pb.DTYPE_FLOAT32
            tensor.shape.extend(shape)
            tensor.sparse_csr.values = np.ones(len(column), kind).tobytes()
            tensor.sparse_csr.crow_indices = np.array(crow, np.int64).tobytes()
            tensor.sparse_csr.col_indices = np.array(column, np.int64).tobytes()
        return post(server, "forward_backward", content=message.SerializeToString())

    for shape in ([2, 1 << 40], [-2, 3]):
        refused = answer(shape, [0, 1, 2], [0, 1])
        assert refused.status_code == 422
        assert f"shape {shape}" in refused.json()["detail"]
    for crow, column in (([0, 1], [0]), ([0, 2, 1], [0, 1]), ([0, 1, 2], [0, 3]), ([1, 1, 2], [0, 1]), ([], [])):
        refused = answer([2, 3], crow, column)
        assert refused.status_code == 422, (crow, column)
        assert "index" in refused.json()["detail"] or "indices" in refused.json()["detail"]
    assert answer([2, 3], [0, 1, 2], [0, 1]).status_code == 200


@pytest.mark.parametrize(
    ("path", "change", "status", "says"),
    [
        ("create_session", {"user_metadata": {"a": "x" * (1 << 18)}}, 413, "larger than 256 KiB"),
        ("create_session", {"project_id": "p"}, 422, "project_id='p': this server has no accounts"),
        ("create_model", {"optimizer_config": {"type": "adamw", "momentum": 1}}, 422, "only adamw is served"),
        ("asample", {"sampling_params": {"stop": ["a"] * 2000}}, 422, "stop: 2000 of them"),
        ("asample", {"sampling_params": {"stop": ["a" * 20_000]}}, 422, "16384 characters"),
        ("load_weights", {"model_id": "x:train:0"}, 422, "model_id goes with seq_id"),
    ],
)
def test_what_would_be_kept_or_passed_over_is_refused(server, known, path, change, status, says):
    answer = post(server, path, json=whole_messages(server, known)[path] | change)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_models_and_snapshots_for_which_there_is_no_memory_are_refused_when_they_are_asked_for(
    server, sdk, monkeypatch
):
    training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
    path = training.save_state("kept").result().path
    monkeypatch.setattr("geospot.engine.serve.samplers.SPARE_MEMORY_BYTES", 1 << 60)
    with pytest.raises(tinker.TinkerError, match="no memory for another snapshot"):
        training.save_weights_and_get_sampling_client().result(timeout=120)
    with pytest.raises(tinker.TinkerError, match="no memory for another model in training"):
        sdk.create_lora_training_client(server.model_name, rank=2).result(timeout=120)
    with pytest.raises(tinker.TinkerError, match="no memory for another model in training"):
        sdk.create_training_client_from_state(path).result(timeout=120)
    training.load_state(path).result(timeout=120)  # in its own place


def test_a_body_is_counted_as_it_comes(server, monkeypatch):
    monkeypatch.setattr("geospot.engine.serve.core.MAX_BODY_BYTES", 1 << 20)
    sent = []

    def parts():
        for _ in range(2000):
            sent.append(1)
            yield b"x" * (64 << 10)

    with contextlib.suppress(httpx.WriteError):
        answer = post(server, "create_session", content=parts())
        assert answer.status_code == 413
    assert len(sent) < 2000


@pytest.mark.parametrize(
    "start", [b"", b"POST /api/v1/cre", b"POST /api/v1/create_session HTTP/1.1\r\nHost: localhost\r\n"]
)
def test_a_request_that_does_not_come_to_an_end_is_closed(server, monkeypatch, start):
    monkeypatch.setattr("geospot.engine.serve.listening.HEADER_S", 0.1)
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(start)
        half.settimeout(60)
        assert half.recv(1) == b""


def test_a_body_that_pauses_is_given_up(server, monkeypatch):
    monkeypatch.setattr("geospot.engine.serve.core.IDLE_S", 0.1)
    head = b"POST /api/v1/create_session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(head)
        half.settimeout(60)
        answer = b"".join(iter(lambda: half.recv(1 << 16), b""))  # to the end: it is closed
        assert answer.startswith(b"HTTP/1.1 408")


def test_sessions_and_connections_are_bounded(server, monkeypatch):
    monkeypatch.setattr("geospot.engine.serve.sessions.MOST_SESSIONS", 0)
    body = {"tags": [], "user_metadata": None, "sdk_version": "x"}
    full = post(server, "create_session", json=body)
    assert (full.status_code, full.headers["retry-after"]) == (429, "10")
    monkeypatch.setattr("geospot.engine.serve.listening.MOST_CONNECTIONS", 0)
    with socket.create_connection(("127.0.0.1", server.port)) as refused:
        refused.settimeout(60)
        assert refused.recv(1) == b""
