"""`geospot probe`, and the probe before an evaluation: what sees its pictures passes, and four things do not."""

import pytest
from made import jpeg
from servers.models import Asked, Said, serving

from geospot import __main__ as geospot
from geospot.asking.eyesight import (
    ASK_COLOUR,
    ASK_WORD,
    COLOURS,
    WORDS,
    field_picture,
    names_colour,
    reads_word,
    same_model,
    word_picture,
)
from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.net.retry import RetryPolicy

pytest.importorskip("openai", reason="needs the extra api")

ANSWER = "Latitude: 1.0\nLongitude: 2.0"


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr("geospot.engine.api.client.QUICK", RetryPolicy(retries=1, first_s=0.01))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def contents() -> dict[bytes, str]:
    """What there is to see in each test picture."""
    found = {word_picture(word): word.capitalize() for word in WORDS}
    found |= {field_picture(colour): name for name, colour in COLOURS.items()}
    return found | {field_picture((255, 255, 255)): "It is white."}


@pytest.fixture
def sees(contents):
    def answer(asked: Asked) -> Said:
        looks = asked.text in (ASK_WORD, ASK_COLOUR)
        return Said(contents[asked.pictures[0]]) if looks else Said(ANSWER)

    return answer


def run_cli(*words: object) -> None:
    geospot.main([str(word) for word in words])


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        run_cli(*words)
    assert left.value.code == 2
    return capsys.readouterr().err


def test_a_model_that_sees_passes(sees, capsys):
    with serving(sees) as server:
        run_cli("probe", f"{server.url}/v1")
        assert len(server.asked) == 4
    out = capsys.readouterr().out
    assert out.count("(right)") == 3
    assert "the server answers as seer; seer was asked for" in out
    assert "read as 1.00, 2.00" in out
    assert "seer sees its pictures" in out


def test_a_server_that_drops_pictures_is_caught(sees, capsys):
    """Whatever the model says then: that there is no picture, or an invented one."""
    for said in ("There is no picture in your message.", "blue", "PARIS", ""):
        with serving(lambda asked, said=said: Said(said)) as server:
            assert "does not see its pictures: asked for the word" in refused(capsys, "probe", f"{server.url}/v1")


def test_a_model_for_text_is_caught(sees, capsys):
    with serving(sees) as server:
        for why in (
            "This model does not support image inputs",
            "seer is not a multimodal model",
            "image input is not supported",
        ):
            server.refuse = lambda asked, why=why: why
            err = refused(capsys, "probe", f"{server.url}/v1")
            assert f"takes no pictures, it is a model for text: refused by the server (400): {why}" in err


def test_another_model_behind_the_name_is_caught(sees, capsys):
    with serving(lambda asked: Said(sees(asked).text, served="seer-mini")) as server:
        err = refused(capsys, "probe", f"{server.url}/v1", "api_model=seer")
        assert "answers as seer-mini, and seer was asked for: another model stands behind the name" in err
        run_cli("probe", f"{server.url}/v1", "api_model=seer", "served_name=seer-mini")
    with serving(lambda asked: Said(sees(asked).text, served="seer-2026-01-31")) as server:
        run_cli("probe", f"{server.url}/v1", "api_model=seer")


def test_a_dead_tunnel_is_caught(sees, capsys):
    with serving(sees) as server:
        server.fault = lambda asked, n: "page"
        err = refused(capsys, "probe", f"{server.url}/v1", "api_model=seer")
        assert "not the API" in err
        assert "is a tunnel down" in err
        server.fault = lambda asked, n: "502"
        assert "server error (502)" in refused(capsys, "probe", f"{server.url}/v1", "api_model=seer")
    err = refused(capsys, "probe", f"{server.url}/v1", "api_model=seer")
    assert "does not answer: no connection" in err


def test_an_evaluation_begins_with_it_and_ends_where_it_fails(sees, tmp_path, capsys):
    picture = jpeg(1)
    write_shard(tmp_path / "eval.tar", [Sample("a", (picture,), Place(1.0, 2.0))])
    words = ["eval", "data=eval.tar", "out=out", "report=false", "data_workers=0"]
    with serving(lambda asked: Said("I see nothing.")) as server:
        assert "does not see its pictures" in refused(capsys, *words, f"model={server.url}/v1")
        assert picture not in [p for asked in server.asked for p in asked.pictures]
        run_cli(*words, f"model={server.url}/v1", "probe=false")
    with serving(sees) as server:
        run_cli(*words[:2], "out=seen", *words[3:], f"model={server.url}/v1")
        assert [asked.pictures for asked in server.asked].index([picture]) == 4
    assert "probe: a picture that is blank" in capsys.readouterr().out


def test_the_pictures_show_what_they_should():
    """The word is most of the picture's width, dark on white; the field has one colour."""
    import io

    import numpy as np
    from PIL import Image

    for word in (min(WORDS, key=len), max(WORDS, key=len)):
        dark = np.array(Image.open(io.BytesIO(word_picture(word))).convert("L")) < 128
        columns, lines = np.flatnonzero(dark.any(axis=0)), np.flatnonzero(dark.any(axis=1))
        assert 0.75 < np.ptp(columns) / dark.shape[1] < 0.98
        assert 0.05 < np.ptp(lines) / dark.shape[0] < 0.5
    assert Image.open(io.BytesIO(field_picture((1, 2, 3)))).getcolors() == [(448 * 448, (1, 2, 3))]


def test_what_an_answer_says_is_read_fairly():
    assert reads_word("The word is **L I S B O N**.", "LISBON")
    assert not reads_word("LONDON", "LISBON")
    assert names_colour("The picture is a solid Blue.", "blue")
    assert not names_colour("It could be red, green or blue.", "blue")
    assert not names_colour("no picture", "white")


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("gpt-5", "gpt-5-2025-08-07", True),
        ("openai/gpt-5", "gpt-5", True),
        ("llama3.2-vision", "llama3.2-vision:latest", True),
        ("Qwen/Qwen3-VL-8B", "/models/qwen3-vl-8b.gguf", True),
        ("gemini-2.5-pro", "gemini-2.5-pro-preview", True),
        ("claude-sonnet-5", "claude-sonnet-5-20260101", True),
        ("gpt-5", "gpt-5-mini", False),
        ("Qwen3-VL-8B", "Qwen3-VL-8B-AWQ", False),
        ("gpt-5", "gpt-4o", False),
        ("seer", "", False),
    ],
)
def test_a_version_of_a_model_is_the_model_and_a_smaller_one_is_not(asked, served, same):
    assert same_model(asked, served) is same
