"""The chat endpoint of OpenAI's API: eval harnesses and chat pages on the base model and on any checkpoint."""

import base64
import json
import socket

import httpx
import pytest
import tinker
from hypothesis import given
from hypothesis import strategies as st
from made import jpeg, until
from servers.tinker import Serving
from tinker import types

from geospot.engine.serve.request_log import RequestLog
from geospot.engine.serve.streams import Pieces
from geospot.training.datums import supervised_datum


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "requests.jsonl"


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory, log_file):
    log = RequestLog(str(log_file))
    with Serving(tiny_folder, tmp_path_factory.mktemp("served"), api_key="tml-right", request_log=log) as server:
        yield server


def ask(server, path: str = "chat/completions", key: str = "tml-right", **body) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    if not body:
        return httpx.get(f"{server.url}/v1/{path}", headers=headers, timeout=120)
    return httpx.post(f"{server.url}/v1/{path}", headers=headers, json=body, timeout=120)


def question(picture: bytes, text: str = "Where?") -> list[dict]:
    url = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                         {"type": "text", "text": text}]}]  # fmt: skip


def test_answers_are_those_of_the_sdk_for_the_base_model_and_a_checkpoint(server, renderer):
    picture = jpeg(0)
    prompt = renderer.prompt([picture], "Where?")
    params = types.SamplingParams(max_tokens=8, seed=3, stop=renderer.stop_token_ids)
    with tinker.ServiceClient(base_url=server.url, api_key="tml-right") as sdk:
        training = sdk.create_lora_training_client(server.model_name, rank=2, seed=0, train_unembed=False).result()
        data = [supervised_datum(prompt, renderer.answer_tokens("City: Lyon"))]
        training.forward_backward(data, "cross_entropy").result()
        training.optim_step(types.AdamParams(learning_rate=3e-2)).result()
        path = training.save_weights_for_sampler("one").result().path
        listed = [model["id"] for model in ask(server, "models").json()["data"]]
        assert {server.model_name, path} <= set(listed)
        told = {"messages": question(picture), "n": 2, "seed": 3, "max_tokens": 8, "logprobs": True, "top_logprobs": 2}
        seen = []
        for name, source in ((server.model_name, {"base_model": server.model_name}), (path, {"model_path": path})):
            sampler = sdk.create_sampling_client(**source).result()
            want = sampler.sample(prompt, 2, params).result().sequences
            answer = ask(server, model=name, **told).json()
            assert answer["usage"]["prompt_tokens"] == prompt.length
            for choice, sequence in zip(answer["choices"], want, strict=True):
                assert choice["message"]["content"] == renderer.decode(sequence.tokens)
                assert choice["finish_reason"] == sequence.stop_reason
                content = choice["logprobs"]["content"]
                assert [c["logprob"] for c in content] == pytest.approx(sequence.logprobs, abs=1e-4)
                assert all(len(c["top_logprobs"]) == 2 for c in content)
            seen.append([c["message"]["content"] for c in answer["choices"]])
        assert seen[0] != seen[1]


def test_a_stream_says_the_same_and_ends(server):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "seed": 1, "max_tokens": 5}
    whole = ask(server, **told).json()["choices"][0]
    streamed = ask(server, **told, stream=True)
    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert "".join(c["delta"].get("content", "") for c in chunks) == whole["message"]["content"]
    assert chunks[-1]["finish_reason"] == whole["finish_reason"]


def streamed(server, **told) -> tuple[list[dict], dict[int, str]]:
    """The chunks' choices, and the text of each answer."""
    events = [line.removeprefix("data: ") for line in ask(server, **told, stream=True).text.splitlines() if line]
    assert events[-1] == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events[:-1]]
    texts: dict[int, str] = {}
    for choice in choices:
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"].get("content", "")
    return choices, texts


@pytest.mark.parametrize("more", [{}, {"stop": ["e", "i"]}, {"logprobs": True, "top_logprobs": 1}])
def test_a_stream_comes_in_pieces_that_make_up_the_answers(server, more):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "seed": 2, "max_tokens": 40, "n": 2} | more
    whole = ask(server, **told).json()["choices"]
    choices, texts = streamed(server, **told)
    assert [texts[i] for i in range(2)] == [choice["message"]["content"] for choice in whole]
    for i in range(2):
        own = [choice for choice in choices if choice["index"] == i]
        assert own[0]["delta"]["role"] == "assistant"
        assert [c["finish_reason"] for c in own] == [None] * (len(own) - 1) + [whole[i]["finish_reason"]]
        assert [c["logprobs"] for c in own if c["logprobs"]] == [whole[i]["logprobs"]] * ("logprobs" in more)


def logged(log_file, outcome: str, n_before: int) -> dict:
    """The line of the log that has come with this outcome, once it is there."""

    def lines() -> list[dict]:
        new = [json.loads(line) for line in log_file.read_text().splitlines()[n_before:]]
        return [line for line in new if line.get("outcome") == outcome]

    until(lines)
    [line] = lines()
    return line


def test_the_log_says_what_became_of_a_stream_once_it_has_ended(server, log_file):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "seed": 1, "n": 2, "logprobs": True}
    n = len(log_file.read_text().splitlines())
    whole = ask(server, **told, max_tokens=5).json()["usage"]
    used = {"prompt": whole["prompt_tokens"], "sampled": whole["completion_tokens"]}
    assert logged(log_file, "answered", n)["tokens"] == used
    streamed(server, **told, max_tokens=5)
    line = logged(log_file, "answered", n + 1)
    assert (line["endpoint"], line["status"], line["kind"]) == ("/v1/chat/completions", 200, "chat")
    assert line["tokens"] == used
    assert line["ms"] >= line["waited_ms"] > 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_the_engine_and_the_log_says_so(server, log_file, stream):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "stream": stream, "n": 64, "max_tokens": 8000}
    n, turns, body = len(log_file.read_text().splitlines()), server.service.turns, json.dumps(told).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer tml-right\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: turns.depth["sampled"] == 1)
        while stream and b"data: " not in client.recv(1 << 16):
            pass
    line = logged(log_file, "client gone", n)
    assert line["status"] == (200 if stream else 499)
    assert line["tokens"]["prompt"] > 0
    assert not stream or line["tokens"]["sampled"] > 0
    until(lambda: turns.depth["sampled"] == 0)


def test_what_is_wrong_before_the_first_word_of_a_stream_has_a_status(server):
    told = {"model": server.model_name, "messages": question(b"no picture"), "max_tokens": 2, "stream": True}
    assert ask(server, **told).status_code == 422


@given(st.text("abé\ufffd", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3), st.data())
def test_pieces_make_up_the_text_before_its_first_stop(text, stops, data):
    pieces = Pieces(stops)
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    end = min((text.index(stop) for stop in stops if stop in text), default=len(text))
    got = "".join(pieces.more(0, text[:n]) for n in ends)
    assert text[:end].startswith(got)
    assert got + pieces.more(0, text, whole=True) == text[:end]


def test_a_stop_string_ends_the_answer_and_is_not_in_it(server):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "seed": 1, "max_tokens": 40}
    text = ask(server, **told).json()["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    cut = ask(server, **told, stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == text.partition(stop)[0]
    assert cut["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"model": "gpt-9"}, 404, "is not served here"),
        ({"model": "tinker://no/weights/x"}, 404, "is not known here"),
        ({"n": 10**7}, 422, "num_samples=10000000"),
        ({"temperature": -1}, 422, "temperature=-1"),
        ({"max_tokens": 10**6}, 422, "max_tokens=1000000"),
        ({"tools": [{}]}, 422, "tools is not served"),
        ({"response_format": {"type": "json_object"}}, 422, "only text"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, 422, "response_format is not served"),
        ({"tool_choice": "required"}, 422, "tool_choice is not served"),
        ({"functions": [{"name": "f"}]}, 422, "functions is not served"),
        ({"top_k": 40}, 422, "top_k is not served"),
        ({"repetition_penalty": 1.1}, 422, "repetition_penalty is not served"),
        ({"guided_regex": "a*"}, 422, "guided_regex is not served"),
        ({"max_completion_tokens": 0}, 422, "max_tokens=0"),
        ({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, 422,
            "messages.0.content.parts.0.type: Input should be 'text' or 'image_url'"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "user", "content": "a" * (64 * 32_768 + 1)}]}, 422, "2097153 characters; at most"),
        ({"messages": [{"role": "user", "content": "<|image_pad|>"}]}, 422, "image tokens for 0 pictures"),
        ({"messages": question(b"no picture")}, 422, ""),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
            "url": "http://127.0.0.1:1/x.jpg"}}]}]}, 422, "nothing is fetched"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
            "url": "data:image/png;base64,%%%"}}]}]}, 422, "not base64"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_in_words(server, changes, status, says):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "max_tokens": 2}
    answer = ask(server, **told | changes)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_key_is_wanted_here_too(server):
    answer = ask(server, "models", key="wrong")
    assert answer.status_code == 401
    assert "another API key" in answer.json()["error"]["message"]
    assert "no endpoint" in ask(server, "embeddings", model="x").json()["error"]["message"]


def test_part_of_a_letter_has_no_bytes_of_its_own(server):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "max_tokens": 24, "seed": 0, "temperature": 2.0}
    [choice] = ask(server, **told, logprobs=True, top_logprobs=20).json()["choices"]
    tokens = [t for c in choice["logprobs"]["content"] for t in (c, *c["top_logprobs"])]
    assert any(t["bytes"] is None for t in tokens)
    assert all(t["bytes"] == (None if "\ufffd" in t["token"] else list(t["token"].encode())) for t in tokens)


def test_what_clients_send_without_meaning_anything_by_it_changes_nothing(server):
    told = {"model": server.model_name, "messages": question(jpeg(1)), "max_tokens": 3, "temperature": 0}
    usual = ask(server, **told).json()["choices"]
    unset = [
        "n",
        "seed",
        "stop",
        "top_p",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
    ]
    unset += ["max_completion_tokens", "frequency_penalty", "presence_penalty", "logit_bias", "response_format"]
    idle = {"top_k": -1, "repetition_penalty": 1.0, "tools": [], "response_format": {"type": "text"}, "store": False}
    for more in (dict.fromkeys(unset), idle):
        answer = ask(server, **told | more)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"] == usual


def test_a_picture_may_be_encoded_as_encoders_do(server):
    told = {"model": server.model_name, "max_tokens": 3, "temperature": 0}
    usual = ask(server, **told, messages=question(jpeg(1))).json()["choices"]
    lines = base64.encodebytes(jpeg(1)).decode()
    for url in (
        f"data:image/jpeg;base64,{lines}",
        f"DATA:image/JPEG;Base64,{lines.replace('+', '-').replace('/', '_')}",
    ):
        messages = question(jpeg(1))
        next(part for part in messages[-1]["content"] if part["type"] == "image_url")["image_url"] = {"url": url}
        answer = ask(server, **told, messages=messages)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"] == usual


def test_a_model_is_found_by_its_name_and_no_other(server):
    assert ask(server, f"models/{server.model_name}").json()["id"] == server.model_name
    assert ask(server, "models/gpt-9").status_code == 404
