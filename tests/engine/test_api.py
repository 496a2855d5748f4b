"""Models behind APIs: names, what an SDK's error means, prices, and the three protocols through the providers' SDKs."""

import json
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg
from servers.models import Said, serving

from geospot.answer import Reply, read_reply
from geospot.engine.api.addresses import ApiModel, is_api_model
from geospot.engine.api.chunks import names_of
from geospot.engine.api.exchange import Options, Wanted
from geospot.engine.api.trouble import Trouble
from geospot.errors import EngineError, ModelError
from geospot.net.retry import RetryPolicy

pytest.importorskip("openai", reason="needs the extra api")

QUICK = RetryPolicy(retries=2, first_s=0.01, longest_s=0.05)
PICTURE = jpeg(1, 56, 56)
ANSWER = "Latitude: 1.5\nLongitude: 2.5"
MODELS = [("openai/seer", "/v1"), ("anthropic/seer", ""), ("gemini/seer", "")]


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", f"key-of-{name.lower()}")
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)


def wanted(text: str = "Where?", **changes: object) -> Wanted:
    return Wanted(((PICTURE, "jpeg"),), text, 100, **changes)


def ask(server, model: str, path: str, options: Options | None = None, n: int = 1, **changes: object) -> list[Reply]:
    from geospot.engine.api.client import ApiClient

    with ApiClient(ApiModel.of(model, base_url=server.url + path), options or Options(), concurrency=2) as client:
        found = dict(client.ask({i: wanted(**changes) for i in range(n)}, policy=QUICK))
    return [found[i] for i in range(n)]


# --- names ---


def test_which_names_are_those_of_an_api(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(map(is_api_model, ("openai/gpt-5", "anthropic/x", "gemini/x", "http://h/v1", "HTTPS://h/v1")))
    assert not any(map(is_api_model, ("Qwen/Qwen3-VL-4B", "geospot/tiny", "openai", "openai/", "google/gemma-3", None)))
    assert not is_api_model("openai/gpt-oss", "local")
    (tmp_path / "openai" / "mine").mkdir(parents=True)
    assert not is_api_model("openai/mine")


def test_a_name_that_is_left_open_is_that_of_the_only_model():
    with serving(lambda asked: Said(ANSWER), "one") as server:
        from geospot.engine.api.client import ApiClient

        model = ApiModel.of(f"{server.url}/v1/")
        with ApiClient(model, Options()) as client:
            assert str(model.named(client.served())) == "http:one"
    with pytest.raises(ModelError, match="name the model with api_model=; the server lists a, b"):
        model.named(["a", "b"])


@settings(max_examples=30)
@given(st.text(min_size=1))
def test_what_is_no_variable_s_name_is_taken_for_a_key_and_not_shown(text):
    if text.isascii() and text.isidentifier():
        assert ApiModel.of("openai/x", key_env=text).key_env == text
        return
    with pytest.raises(EngineError, match="must be the name of an environment variable") as refused:
        ApiModel.of("openai/x", key_env=text)
    assert len(text) < 8 or text not in str(refused.value)


# --- three protocols ---


@pytest.mark.parametrize(("model", "path"), MODELS)
def test_a_picture_a_question_and_an_answer_in_each_protocol(model, path):
    with serving(lambda asked: Said(ANSWER, thoughts="It is warm.")) as server:
        (reply,) = ask(server, model, path, seed=7, temperature=0.5)
        (asked,) = server.asked
    assert reply == Reply(ANSWER, thoughts="It is warm.", served="seer", tokens_in=300, tokens_out=40)
    assert (asked.pictures, asked.text, asked.model) == ([PICTURE], "Where?", "seer")
    assert asked.protocol == model.partition("/")[0]
    assert any(f"key-of-{asked.protocol}" in value for value in asked.headers.values())
    assert "temperature': 0.5" in str(asked.body)


@pytest.mark.parametrize(("model", "path"), MODELS)
def test_the_thinking_budget_is_passed_on_and_lengthens_the_answer(model, path):
    with serving(lambda asked: Said(ANSWER)) as server:
        ask(server, model, path, Options(thinking="2000"))
        ask(server, model, path, Options(thinking="low"))
        budget, effort = (asked.body for asked in server.asked)
    assert "2000" in str(budget)
    assert "2100" in str(budget)
    assert "low" in str(effort).lower()


@pytest.mark.parametrize(("model", "path"), MODELS)
def test_how_an_answer_ended_says_why_there_is_none(model, path):
    ends = {"length": "cut off", "refusal": "refused", "safety": "stopped by a safety filter"}
    with serving(lambda asked: Said("City: Li", asked.text)) as server:
        for finish, why in ends.items():
            (reply,) = ask(server, model, path, text=finish)
            error = read_reply(reply).error
            assert error == why or (error in ends.values() and finish != "length"), finish
        (reply,) = ask(server, model, path, text="stop")
        assert read_reply(reply).error == "no coordinates"


@pytest.mark.parametrize(("model", "path"), MODELS)
def test_what_passes_is_asked_once_more_and_what_does_not_is_not(model, path):
    for fault in ("429", "429 after 0", "500", "529", "cut", "page"):
        with serving(lambda asked: Said(ANSWER)) as server:
            server.fault = lambda asked, n, fault=fault: fault if n == 1 else None
            assert [reply.text for reply in ask(server, model, path)] == [ANSWER], fault
            assert len(server.asked) == 2, fault
    with serving(lambda asked: Said(ANSWER)) as server:
        server.refuse = lambda asked: "picture too large"
        (reply,) = ask(server, model, path)
        assert reply.finish == "error"
        assert reply.detail.startswith("refused by the server (400): picture too large")
        assert len(server.asked) == 1


@pytest.mark.parametrize(("model", "path"), MODELS)
def test_a_wrong_name_and_a_wrong_key_end_it_all(model, path):
    with serving(lambda asked: Said(ANSWER)) as server:
        with pytest.raises(EngineError, match=r"has no model 'sear'\. Did you mean seer\?"):
            ask(server, model.replace("seer", "sear"), path, n=20)
        assert len(server.asked) <= 2
        server.fault = lambda asked, n: "401"
        with pytest.raises(EngineError, match="the server refuses the key: busy"):
            ask(server, model, path, n=20)
        assert len(server.asked) <= 4


def test_while_a_server_asks_to_wait_nothing_is_sent(monkeypatch):
    """The wait is of the key, not of one request: its Retry-After holds the others, too."""
    from geospot.engine.api import client

    held = []
    monkeypatch.setattr(client.Gate, "hold", lambda gate, seconds: held.append(seconds))
    with serving(lambda asked: Said(ANSWER)) as server:
        server.fault = lambda asked, n: "429 after 2" if n == 1 else None
        monkeypatch.setattr(client.Attempts, "_wait_s", lambda self, asked_s: 0.0)
        ask(server, "openai/seer", "/v1")
    assert held == [2.0]
    monkeypatch.undo()
    gate, stop = client.Gate(), threading.Event()
    gate.hold(3600)
    waiting = threading.Thread(target=gate.wait, args=(stop,))
    waiting.start()
    assert waiting.is_alive()
    stop.set()
    waiting.join()


def test_a_key_that_a_server_repeats_is_hidden():
    with serving(lambda asked: Said(f"I was sent key-of-openai. {ANSWER}")) as server:
        (reply,) = ask(server, "openai/seer", "/v1")
        assert "I was sent <hidden>." in reply.text
        server.refuse = lambda asked: "bad key key-of-openai"
        (reply,) = ask(server, "openai/seer", "/v1")
        assert "bad key <hidden>" in reply.detail


@given(st.text(), st.text(alphabet="ab</think>\n "), st.sampled_from(["think", "thinking", ""]))
def test_thoughts_before_an_answer_are_kept_apart(thoughts, text, tag):
    thoughts = thoughts.replace("<", "").strip()
    opening = f"<{tag}>" if tag else ""
    reply = Reply(f"{opening}{thoughts}</{tag or 'think'}>\n{text}").without_thoughts()
    assert (reply.thoughts, reply.text) == (thoughts, text.lstrip())
    assert Reply(text.replace("<", "")).without_thoughts() == Reply(text.replace("<", ""))


def test_only_thoughts_are_no_answer():
    reply = Reply("<think>somewhere at latitude: 1, longitude: 2", "length").without_thoughts()
    assert (reply.text, reply.thoughts) == ("", "somewhere at latitude: 1, longitude: 2")
    assert read_reply(reply).error == "cut off"


# --- what it costs ---


def test_published_prices_are_those_of_the_provider():
    from geospot.engine.api.prices import Budget, CostReached, Estimate, Price, published_price

    pytest.importorskip("genai_prices")
    price = published_price(ApiModel.of("openai/gpt-5"))
    assert (price.tokens_in, price.tokens_out) == (1.25, 10.0)
    assert "genai-prices" in price.source
    assert published_price(ApiModel.of("openai/no-such-model")) is None
    assert published_price(ApiModel.of("http://127.0.0.1/v1", name="gpt-5")) is None
    estimate = Estimate.of(wanted("x" * 320), [(750, 1000)], 1000)
    assert (estimate.tokens_in, estimate.tokens_out, estimate.most_out) == (1100.0, 1060.0, 1100.0)
    assert estimate.in_words(1000, price).startswith(
        "1,000 answers: about 1.10 million tokens in, 1.06 million out (at most 1.10 million): about $11.97, at most "
    )
    budget = Budget(Price(1.0, 10.0, "ours"), 0.0015, Estimate(300, 40, 40))
    for _ in range(2):
        with budget.spending() as one:
            one.reply = Reply("", tokens_in=300, tokens_out=40)
    assert budget.spent == pytest.approx(0.0014)
    with pytest.raises(CostReached, match=r"\$0\.0014 is spent"), budget.spending():
        pass


def test_errors_are_counted_in_a_few_words():
    from geospot.engine.api.client import ApiClient

    with serving(lambda asked: Said(ANSWER)) as server:
        server.fault = lambda asked, n: {1: "503", 2: "cut"}.get(n)
        with ApiClient(ApiModel.of("openai/seer", base_url=f"{server.url}/v1"), Options()) as client:
            dict(client.ask({0: wanted()}, policy=QUICK))
            assert client.retried == Counter({"retry: server error (503)": 1, "retry: truncated stream": 1})


# --- servers that speak OpenAI's protocol in their own way ---


def chunk(delta: object, finish: str | None = None, **more: object) -> dict:
    return {"model": "seer", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def events(*chunks: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(one)}\n\n" for one in chunks]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


WHOLE = {"model": "seer", "choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}], "usage": {}}
STREAM = "text/event-stream"
THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]


@pytest.mark.parametrize(
    ("kind", "body", "thoughts"),
    [
        ("application/json", json.dumps(WHOLE, indent=1).encode(), ""),  # `stream` passed over
        (STREAM, json.dumps(WHOLE).encode(), ""),
        (STREAM, events(WHOLE), ""),  # a message in place of a delta
        (
            STREAM,
            events(chunk({"content": THINKING}), chunk({"content": [{"type": "text", "text": ANSWER}]}, "stop")),
            "hm",
        ),
        (STREAM, events(None, chunk(None), chunk({"content": ANSWER}, "stop")), ""),
        (STREAM, events(chunk({"content": ANSWER})), ""),  # no reason for the end, but an end
        (STREAM, events(chunk({"content": ANSWER}, "stop", usage={"prompt_tokens": "5"})), ""),
        (STREAM, b": waking up\n\n" + events(chunk({"content": ANSWER}, "eos")).replace(b"\n", b"\r\n"), ""),
        ("application/x-ndjson", json.dumps(chunk({"content": ANSWER}, "stop")).encode() + b"\n", ""),
        (
            STREAM,
            events({"choices": [*chunk({"content": ANSWER})["choices"], {"index": 1, "delta": {"content": "x"}}]}),
            "",
        ),
    ],
)
def test_an_answer_is_read_in_whatever_form_a_server_sends_it(kind, body, thoughts):
    with serving(lambda asked: Said("")) as server:
        server.raw = lambda asked: (200, kind, body)
        (reply,) = ask(server, "openai/seer", "/v1")
    assert (reply.text, reply.finish, reply.thoughts) == (ANSWER, "stop", thoughts)
    assert reply.tokens_in is None
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (
            "application/json",
            b'{"error": {"message": "loading the model", "code": 503}}',
            "server error (503): loading",
        ),
        ("application/json", b'{"error": "out of memory"}', "server error in the answer: out of memory"),
        (
            STREAM,
            events(chunk({"content": "Ci"}), {"error": {"code": 502, "message": "gone"}}),
            "server error (502): gone",
        ),
        (STREAM, events({"error": {"code": "429", "message": "slow down"}}), "rate limit (429): slow down"),
        (STREAM, events({"object": "error", "message": "CUDA", "code": 500}), "server error (500): CUDA"),
        (STREAM, b'event: error\ndata: {"message": "key-of-openai"}\n\n', "server error in the answer: <hidden>"),
        (
            STREAM,
            events(chunk({"content": "Ci"}, "error")),
            "server error in the answer: it ended the answer with 'error'",
        ),
        (STREAM, b"data: hello\n\n", "unreadable response: no JSON: 'hello'"),
        (STREAM, events(chunk({"content": "Ci"}), done=False), "truncated stream"),
        ("application/json", b'{"choices": [{"messa', "unreadable response: no JSON"),
    ],
)
def test_an_error_with_status_200_is_tried_again_and_said(kind, body, reason):
    """It is no answer of the model, and it does not end the command for all other pictures."""
    with serving(lambda asked: Said(ANSWER)) as server:
        server.raw = lambda asked: (200, kind, body) if len(server.asked) == 1 else None
        assert [reply.text for reply in ask(server, "openai/seer", "/v1")] == [ANSWER]
        server.raw = lambda asked: (200, kind, body)
        (reply,) = ask(server, "openai/seer", "/v1")
    assert reply.finish == "error"
    assert reply.detail.startswith(reason)


def test_what_a_server_refuses_is_sent_in_the_way_that_it_knows():
    unknown = {
        "max_completion_tokens": "Unrecognized request argument: max_completion_tokens",
        "stream": "no stream here",
    }
    for name, why in unknown.items():
        with serving(lambda asked: Said(ANSWER)) as server:
            server.refuse = lambda asked, name=name, why=why: why if asked.body.get(name) else None
            assert [reply.text for reply in ask(server, "openai/seer", "/v1", n=3)] == [ANSWER] * 3, name
            assert server.asked[-1].body.get("max_tokens") == (100 if name != "stream" else None)


def test_no_credit_ends_the_command_and_a_body_that_is_too_large_is_not_sent_again():
    page = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
    with serving(lambda asked: Said(ANSWER)) as server:
        server.raw = lambda asked: (413, "text/html", page)
        (reply,) = ask(server, "openai/seer", "/v1")
        assert len(server.asked) == 1
        assert reply.detail == (
            "request too large (413): 413 Request Entity Too Large; set a smaller max_pixels, or fewer views"
        )
        server.raw = lambda asked: (502, "text/html", page.replace(b"413 Request Entity Too Large", b"502 Bad Gateway"))
        assert ask(server, "openai/seer", "/v1")[0].detail == "not the API: a web page with status 502: 502 Bad Gateway"
        server.raw = lambda asked: (402, "application/json", b'{"error": {"message": "Insufficient credits"}}')
        with pytest.raises(EngineError, match="no credit left: Insufficient credits"):
            ask(server, "openai/seer", "/v1")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"object": "list", "data": [{"id": "seer"}]}, ["seer"]),
        ([{"id": "seer"}, {"id": "sage"}], ["seer", "sage"]),  # Together's
        ({"models": [{"name": "seer"}]}, ["seer"]),
        ({"data": ["seer", None, {"size": 3}]}, ["seer"]),
        ({"data": None}, []),
        ({"data": 5}, []),
        (5, []),
    ],
)
def test_a_list_of_models_is_read_in_whatever_form_it_comes(body, names):
    assert names_of(json.dumps(body), "application/json") == names


def test_what_is_no_list_of_models_is_said():
    with pytest.raises(Trouble, match="not the API: the server sent a web page"):
        names_of("<html></html>", "text/html")
    with pytest.raises(Trouble, match=r"server error \(503\): loading"):
        names_of('{"error": {"message": "loading", "code": 503}}', "application/json")
