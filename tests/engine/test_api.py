"""Models behind APIs: names, what an SDK's error means, prices, and the three protocols through the providers' SDKs."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg
from servers.models import Said, serving

from geospot.answer import Reply, read_reply
from geospot.engine.api.addresses import ApiModel, is_api_model
from geospot.engine.api.exchange import Options, Wanted
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
