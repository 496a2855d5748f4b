"""`geospot eval` and `guess` with a model behind an API: the real SDKs against servers on loopback."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import forks
import pytest
from made import jpeg
from servers.models import Asked, Said, Server, serving

from geospot import __main__ as geospot
from geospot.asking.answer_log import AnswerLog
from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.net.retry import RetryPolicy

pytest.importorskip("openai", reason="needs the extra api")

KEY = "sk-secret-0123456789"
PROVIDERS = ["openai", "anthropic", "gemini"]


def run_cli(*words: object) -> None:
    geospot.main([str(word) for word in words])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """200 pictures in a shard, and where each was taken."""
    folder = tmp_path_factory.mktemp("many")
    places = {jpeg(i, 56, 56): (-60 + 0.6 * i, 170 - 1.5 * i) for i in range(200)}
    samples = [Sample(f"{i:03d}", (p,), Place(*at)) for i, (p, at) in enumerate(places.items())]
    write_shard(folder / "eval.tar", samples)
    write_shard(folder / "few.tar", samples[:6])
    write_shard(folder / "some.tar", samples[:12])
    write_shard(folder / "least.tar", samples[:20])
    return folder, places


def knows(places: dict[bytes, tuple[float, float]], thoughts: str = ""):
    """A model that is right about every picture."""

    def answer(asked: Asked) -> Said:
        lat, lon = places[asked.pictures[0]]
        return Said(f"Latitude: {lat:.4f}\nLongitude: {lon:.4f}", thoughts=thoughts)

    return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Short waits between tries, and a key that must be nowhere afterwards."""
    monkeypatch.setattr("geospot.engine.api.client.POLICY", RetryPolicy(retries=4, first_s=0.01, longest_s=0.05))
    monkeypatch.setattr("geospot.engine.api.client.QUICK", RetryPolicy(retries=1, first_s=0.01))
    for name in ("MY_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def words(server: Server, data: object, *more: str) -> list[str]:
    return ["eval", f"model={server.url}/v1", f"data={data}", "out=out", "report=false", "data_workers=0",
            "probe=false", "api_key_env=MY_KEY", *more]  # fmt: skip


def of_provider(server: Server, provider: str) -> list[str]:
    """The words that lead a provider's own SDK to the stand-in for its server."""
    return [f"model={provider}/seer", f"base_url={server.url}{'/v1' if provider == 'openai' else ''}"]


def rows(folder: str = "out") -> list[dict]:
    return [json.loads(line) for line in Path(f"{folder}/predictions.jsonl").read_text().splitlines()]


def test_a_model_at_an_address_is_evaluated_and_asked_once(many, capsys):
    folder, places = many
    with serving(knows(places, thoughts="Palms, so the south.")) as server:
        run_cli(*words(server, folder / "few.tar"))
        out = capsys.readouterr().out
        assert "6 answers: about" in out
        assert "no published price" in out
        assert [row["distance_km"] < 0.1 for row in rows()] == [True] * 6
        assert all("Palms" not in row["text"] for row in rows())  # thoughts are kept, apart from the answer
        assert "Palms" in Path("out/answers.jsonl").read_text()
        assert len(server.asked) == 6
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        assert server.asked[0].body["temperature"] == 0
        run_cli(*words(server, folder / "few.tar"))
        assert len(server.asked) == 6
        assert "6 answers are in out already" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            run_cli(*words(server, folder / "few.tar", "thinking=low"))
        assert "thinking" in capsys.readouterr().err


def test_two_hundred_pictures_through_everything_that_goes_wrong(many, capsys):
    """Each fault once: rate limits, server errors, broken streams; refusals are answers. (Stalls: see below.)"""
    folder, places = many
    kinds = {3: "429", 5: "429 after 0", 8: "500", 13: "503", 21: "cut", 34: "cut", 60: "page"}
    number = {picture: i for i, picture in enumerate(places)}

    def answer(asked: Asked) -> Said:
        i = number[asked.pictures[0]]
        if i in (100, 101):
            return Said("I cannot help with that.", "refusal")
        if i == 102:
            return Said("", "safety")
        return Said("City: Li", "length") if i == 103 else knows(places)(asked)

    with serving(answer) as server:
        server.fault = lambda asked, n: kinds.get(number[asked.pictures[0]]) if n == 1 else None
        run_cli(*words(server, folder / "eval.tar", "concurrency=4"))
        assert Counter(server.times.values()) == {1: 200 - len(kinds), 2: len(kinds)}
    out = capsys.readouterr().out
    assert "refused 2" in out
    assert "stopped by a safety filter 1" in out
    assert "cut off 1" in out
    assert "rate limit (429) 2" in out
    assert "truncated stream 2" in out
    assert sum(row["error"] is None for row in rows()) == 196


def test_a_request_that_fails_for_good_is_counted_and_sent_again_by_the_next_run(many, capsys):
    folder, places = many
    with serving(knows(places)) as server:
        server.fault = lambda asked, n: "500" if asked.pictures[0] == next(iter(places)) else None
        run_cli(*words(server, folder / "few.tar"))
        assert "request failed (server error (500)) 1" in capsys.readouterr().out
        server.fault = lambda asked, n: None
        before = len(server.asked)
        run_cli(*words(server, folder / "few.tar"))
        assert len(server.asked) == before + 1
        assert all(row["error"] is None for row in rows())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_is_evaluated_through_its_own_sdk_with_everything_that_goes_wrong(many, provider, capsys):
    """The stall is waited for; on a slow machine another request may take as long, so one more of each is allowed."""
    folder, places = many
    faults = {1: "429", 2: "429 after 0", 3: "500", 4: "cut", 5: "stall", 6: "529"}
    ends = {7: "refusal", 8: "safety", 9: "length"}
    number = {picture: i for i, picture in enumerate(places)}

    def answer(asked: Asked) -> Said:
        i = number[asked.pictures[0]]
        return Said("City: Li", ends[i]) if i in ends else knows(places, "Palms, so the south.")(asked)

    def goes_wrong(asked: Asked, n: int) -> str | None:
        i = number[asked.pictures[0]]
        return "500" if i == 10 else faults.get(i) if n == 1 else None  # one fails for good

    with serving(answer) as server:
        server.fault = goes_wrong
        given = ["eval", *of_provider(server, provider), f"data={folder}/some.tar", "out=out", "report=false",
                 "data_workers=0", "probe=false", "concurrency=4"]  # fmt: skip
        run_cli(*given, "request_timeout_s=2")
        for i, picture in enumerate(list(places)[:12]):
            least = 5 if i == 10 else 1 + (i in faults)
            assert least <= server.times[picture] <= least + (i != 10), i
        assert {asked.protocol for asked in server.asked} == {provider}
        found = {row["key"]: row for row in rows()}
        assert [key for key, row in found.items() if row["error"] is not None] == ["007", "008", "009", "010"]
        assert found["009"]["error"] == "cut off"
        assert found["010"]["error"] == "request failed (server error (500))"
        assert all(row["distance_km"] < 0.1 for row in found.values() if row["error"] is None)
        assert {found["007"]["error"], found["008"]["error"]} <= {"refused", "stopped by a safety filter"}
        out = capsys.readouterr().out
        for reason in ("rate limit (429) 2", "server error (500) ", "server error (529) 1", "timeout ", "truncated"):
            assert reason in out, reason
        thoughts = [
            json.loads(line)["about"][0].get("thoughts") for line in Path("out/answers.jsonl").read_text().splitlines()
        ]
        assert thoughts.count("Palms, so the south.") == 8
        server.fault = lambda asked, n: None
        before = len(server.asked)
        run_cli(*given)  # only what failed is asked again
        assert len(server.asked) == before + 1
        assert [row["error"] for row in rows() if row["key"] == "010"] == [None]


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_an_evaluation_of_each_provider_that_is_killed_repeats_no_request(many, provider):
    folder, places = many
    with serving(knows(places)) as server:
        given = ["eval", *of_provider(server, provider), f"data={folder}/few.tar", "out=out", "report=false",
                 "data_workers=0", "probe=false", "concurrency=1"]  # fmt: skip
        run_and_be_killed(given, answers=4)
        run_cli(*given)
        assert 6 <= len(server.asked) <= 7
        assert [row["distance_km"] < 0.1 for row in rows()] == [True] * 6


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_wrong_model_of_each_provider_ends_the_evaluation(many, provider, capsys):
    folder, places = many
    with serving(knows(places)) as server:
        given = of_provider(server, provider)
        with pytest.raises(SystemExit) as left:
            run_cli(
                "eval", given[0].replace("seer", "sear"), given[1], f"data={folder}/few.tar", "probe=false", "out=o"
            )
        assert left.value.code == 2
        assert "has no model 'sear'. Did you mean seer?" in capsys.readouterr().err


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_photo_is_guessed_by_each_provider(many, provider, tmp_path):
    from geospot import Guesser

    _, places = many
    picture, (lat, lon) = next(iter(places.items()))
    (tmp_path / "a.jpg").write_bytes(picture)
    with serving(knows(places)) as server:
        given = of_provider(server, provider)
        run_cli("guess", "a.jpg", *given, "samples=2", "out=a.geojson")
        (found,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
        assert found["geometry"]["coordinates"] == pytest.approx([lon, lat], abs=1e-3)
        with Guesser(given[0].partition("=")[2], base_url=given[1].partition("=")[2]) as guesser:
            guess = guesser(picture)
        assert (guess.lat, guess.lon) == pytest.approx((lat, lon), abs=1e-3)
        assert len(server.asked) == 3


def test_a_model_behind_an_api_is_calibrated_and_its_guesses_have_a_radius(many, tmp_path, capsys):
    """Its answers are some 100 km off; asked in another way, it has no radius, since it was not calibrated so."""
    folder, places = many

    def answer(asked: Asked) -> Said:
        lat, lon = places[asked.pictures[0]]
        return Said(f"Latitude: {lat + 0.9:.4f}\nLongitude: {lon:.4f}")

    with serving(answer) as server:
        given = of_provider(server, "anthropic")
        run_cli("calibrate", *given, f"data={folder}/least.tar", "out=answers", "samples=2", "data_workers=0",
                "probe=false")  # fmt: skip
        assert len(server.asked) == 20 * 2
        out = capsys.readouterr().out
        assert "20 pictures of" in out
        assert "geospot guess samples=2 finds it" in out
        (tmp_path / "a.jpg").write_bytes(next(iter(places)))
        run_cli("guess", "a.jpg", *given, "samples=2", "out=a.json")
        run_cli("guess", "a.jpg", *given, "samples=2", "thinking=low", "out=b.json")
        (known,), (other,) = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
        assert 90 < known["radius_km"] < 120
        assert other["radius_km"] is None


def test_two_models_behind_apis_are_compared(many, capsys):
    folder, places = many

    def worse(asked: Asked) -> Said:
        lat, lon = places[asked.pictures[0]]
        return Said(f"Latitude: {lat + 1:.4f}\nLongitude: {lon:.4f}")

    for provider, answer in (("openai", knows(places)), ("gemini", worse)):
        with serving(answer) as server:
            run_cli("eval", *of_provider(server, provider), f"data={folder}/some.tar", f"out={provider}",
                    "report=false", "data_workers=0", "probe=false")  # fmt: skip
    capsys.readouterr()
    run_cli("compare", "openai", "gemini", "references=constant")
    out = capsys.readouterr().out
    assert "12 pictures" in out
    assert "gemini − openai" in out
    with pytest.raises(SystemExit):
        run_cli("compare", "openai/gpt-5", "openai")
    assert "geospot eval model=openai/gpt-5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["api_model=sear"], "has no model 'sear'. Did you mean seer?"),
        (["api_key_env=NOT_SET"], "no key: set NOT_SET"),
        ([f"api_key_env={KEY}"], "must be the name of an environment variable, never the key itself"),
        (["max_cost=1"], "give price_in= and price_out="),
        (["thinking=very"], "must be a number of tokens or one of none, minimal"),
        (["extra_body=[1]"], "must be a JSON object"),
        (["prompt=nowhere.txt"], "no such file"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(many, change, says, capsys):
    folder, places = many
    with serving(knows(places)) as server:
        with pytest.raises(SystemExit) as left:
            run_cli(*words(server, folder / "few.tar", *change))
        assert left.value.code == 2
        err = capsys.readouterr().err
        assert says in err
        assert KEY not in err


def test_a_key_in_an_address_is_refused_and_not_shown(many, capsys):
    folder, _ = many
    for model in (f"http://me:{KEY}@127.0.0.1:1/v1", f"http://127.0.0.1:1/v1?key={KEY}"):
        with pytest.raises(SystemExit):
            run_cli("eval", f"model={model}", f"data={folder}/few.tar", "api_model=x")
        err = capsys.readouterr().err
        assert "api_key_env=" in err
        assert KEY not in err


def test_where_everything_fails_the_rest_is_not_tried(many, capsys):
    folder, places = many
    with serving(knows(places)) as server:
        server.fault = lambda asked, n: "500"
        with pytest.raises(SystemExit):
            run_cli(*words(server, folder / "eval.tar", "concurrency=2"))
        assert "8 requests in a row failed" in capsys.readouterr().err
        assert len(server.times) <= 10
    with pytest.raises(SystemExit):  # now nobody listens there
        run_cli(*words(server, folder / "eval.tar"))
    assert "does not answer: no connection" in capsys.readouterr().err


def test_what_the_server_does_not_know_is_left_out(many, capsys):
    folder, places = many
    with serving(knows(places)) as server:
        server.refuse = lambda asked: next(
            (f"Unsupported parameter: '{key}'" for key in ("seed", "temperature") if key in asked.body),
            "Use 'max_completion_tokens' instead of 'max_tokens'" if "max_tokens" in asked.body else None,
        )
        run_cli(*words(server, folder / "few.tar", "concurrency=1"))
        assert "left out, as the server asked: seed, temperature" in capsys.readouterr().out
        assert len(server.asked) == 6 + 3


def test_max_cost_stops_with_every_answer_kept(many, capsys):
    """300 tokens in and 40 out at 1 and 10 dollars per million are 0.0007 dollars an answer."""
    folder, places = many
    prices = ["concurrency=2", "price_in=1", "price_out=10"]
    with serving(knows(places)) as server:
        with pytest.raises(SystemExit):
            run_cli(*words(server, folder / "eval.tar", *prices, "max_cost=0.0105"))
        assert "the same command with a larger max_cost goes on" in capsys.readouterr().err
        kept = len(Path("out/answers.jsonl").read_text().splitlines())
        assert kept == len(server.asked)
        assert 10 <= kept <= 15
        with pytest.raises(SystemExit):  # what the folder has cost already counts
            run_cli(*words(server, folder / "eval.tar", *prices, "max_cost=0.0107"))
        assert len(server.asked) <= 16


def run_and_be_killed(given: list[str], answers: int) -> None:
    """In a process of its own, killed (-9) behind so many answers."""

    def work() -> None:
        AnswerLog.add = _killing(AnswerLog.add, answers)
        run_cli(*given)

    assert forks.run(work) == -signal.SIGKILL


def _killing(add, answers: int):
    def then_die(log: AnswerLog, *rows: object) -> None:
        add(log, *rows)
        if sum(1 for _ in log.replies()) == answers:
            os.kill(os.getpid(), signal.SIGKILL)

    return then_die


def test_an_evaluation_that_is_killed_repeats_no_request(many):
    folder, places = many
    with serving(knows(places)) as server:
        given = words(server, folder / "few.tar", "concurrency=1", "samples=2")
        run_and_be_killed(given, answers=5)
        run_cli(*given)
        # The one that was on its way when the process died may be sent twice.
        assert 12 <= len(server.asked) <= 13
        seeds = Counter(asked.body["seed"] for asked in server.asked)
        assert len(seeds) == 12
        assert sum(seeds.values()) <= 13


def test_a_question_of_ones_own_is_asked(many, tmp_path):
    folder, places = many
    (tmp_path / "mine.txt").write_text("Name the coordinates.\n")
    with serving(knows(places)) as server:
        run_cli(*words(server, folder / "few.tar", "prompt=mine.txt"))
        assert {asked.text for asked in server.asked} == {"Name the coordinates."}


def test_guess_asks_it_too(many, tmp_path, capsys):
    _, places = many
    picture, (lat, _) = next(iter(places.items()))
    (tmp_path / "a.jpg").write_bytes(picture)
    with serving(knows(places)) as server:
        run_cli("guess", "a.jpg", f"model={server.url}/v1", "probe=false", "samples=3", "out=a.json")
        assert "3 answers: about" in capsys.readouterr().err
        assert len({asked.body["seed"] for asked in server.asked}) == 3
    (found,) = json.loads((tmp_path / "a.json").read_text())
    assert found["candidates"][0]["lat"] == pytest.approx(lat, abs=0.01)


def test_what_is_known_beforehand_is_told_and_costs_no_further_request(many, capsys):
    folder, places = many
    with serving(knows(places)) as server:
        lat, lon = places[next(iter(places))]
        run_cli(*words(server, folder / "few.tar"))
        run_cli(*words(server, folder / "few.tar", f"near={lat},{lon}", "within=150"))
        assert len(server.asked) == 6
        assert [row["error"] is None for row in rows()] == [True, True, False, False, False, False]
        assert "within=150 4" in capsys.readouterr().out
        run_cli(*words(server, folder / "few.tar", "country=FR", "tell_prior=true", "resume=never"))
        assert server.asked[-1].text.endswith("It is known that it was taken in France.")


def test_our_own_model_gives_the_same_metrics_over_http_as_in_process(sft_run, shards, tmp_path):
    from servers.tinker import Serving

    from geospot.commands.export import run as export
    from geospot.config import ExportConfig

    merged = export(ExportConfig(checkpoint=str(sft_run[0]), out="merged"))["merged"]
    given = ["eval", f"data={shards}/eval.tar", "max_tokens=16", "data_workers=0", "report=false"]
    run_cli(*given, f"checkpoint={sft_run[0]}", "out=here", "threads=1", "device=cpu")
    with Serving(str(merged), tmp_path / "served") as server:
        run_cli(*given, f"model={server.url}/v1", "out=there", "probe=false")
    assert rows("here") == rows("there")
    here, there = (json.loads(Path(f"{folder}/metrics.json").read_text()) for folder in ("here", "there"))
    assert here["eval"] == there["eval"]
    assert here["eval"]["metrics"]["failure_rate"] < 0.5
    replies = [json.loads(line)["about"][0] for line in Path("there/answers.jsonl").read_text().splitlines()]
    assert all(reply["tokens_in"] > 0 and reply["served"] == str(merged) for reply in replies)


def test_a_model_behind_an_api_cannot_be_trained(capsys):
    with pytest.raises(SystemExit):
        run_cli("train", "model=openai/gpt-9")
    assert "is only asked" in capsys.readouterr().err
