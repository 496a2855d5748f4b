"""What a person, a monitor and a log see of `geospot serve`: true counts, escaped texts, no key anywhere."""

import json
from html.parser import HTMLParser

import httpx
import pytest
import tinker
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from servers.tinker import Serving
from tinker import types

from geospot.engine.serve.request_log import RequestLog
from geospot.engine.serve.status import as_page
from geospot.errors import EngineError
from geospot.training.datums import supervised_datum

KEY = "tml-very-secret"
NAME = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "below" / "requests.jsonl"


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory, log_file):
    folder = tmp_path_factory.mktemp("served")
    with Serving(tiny_folder, folder, api_key=KEY, request_log=RequestLog(str(log_file))) as server:
        yield server


@pytest.fixture(scope="module")
def seen(server, renderer, pictures):
    """What is seen while a client works: the metrics before and after, and the page."""
    before = metrics(server)
    prompt = renderer.prompt(pictures[:1], "Where?")
    data = [supervised_datum(prompt, renderer.answer_tokens("City: Lyon"))]
    with tinker.ServiceClient(
        base_url=server.url, api_key=KEY, display_name=NAME, user_metadata={"note": "<img src=x>"}
    ) as sdk:
        training = sdk.create_lora_training_client(server.model_name, rank=2, seed=0, train_unembed=False).result()
        training.forward_backward(data, "cross_entropy").result()
        training.save_state("one").result()
        sampler = training.save_weights_and_get_sampling_client().result()
        sampler.sample(prompt, 2, types.SamplingParams(max_tokens=3, stop=[])).result()
        wrong = types.Datum(model_input=prompt, loss_fn_inputs={"target_tokens": [1], "weights": [1.0]})
        with pytest.raises(tinker.RequestFailedError):
            training.forward_backward([wrong], "cross_entropy").result()
        page = httpx.get(f"{server.url}/", auth=("me", KEY))
        yield {"before": before, "after": metrics(server), "page": page, "prompt": prompt, "datum": data[0]}


def metrics(server) -> dict[tuple, float]:
    answer = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {KEY}"})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_metrics_count_what_was_done(seen):
    def added(name: str, **labels: str) -> float:
        key = (name, *sorted(labels.items()))
        return seen["after"].get(key, 0.0) - seen["before"].get(key, 0.0)

    for kind in ("create_model", "forward_backward", "save_weights", "snapshot", "sample"):
        assert added("geospot_requests_total", kind=kind, outcome="answered") == 1
        assert added("geospot_request_seconds_count", kind=kind) == 1 + (kind == "forward_backward")
    assert added("geospot_requests_total", kind="forward_backward", outcome="refused") == 1
    assert added("geospot_tokens_total", use="prompt") == seen["prompt"].length
    assert added("geospot_tokens_total", use="sampled") == 6
    assert added("geospot_tokens_total", use="scored") >= seen["datum"].model_input.length
    assert added("geospot_engine_total", what="batches") == 1
    assert added("geospot_engine_total", what="samples") == 1
    assert added("geospot_sessions") == added("geospot_models") == added("geospot_samplers") == 1
    assert added("geospot_http_requests_total", endpoint="/api/v1/asample", method="POST", status="200") == 1
    assert seen["after"]["process_resident_memory_bytes",] > 1e7


def test_the_page_shows_clients_models_and_checkpoints_with_their_text_as_text(seen, server):
    page = seen["page"]
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "<img" not in page.text
    text = Reader.of(page.text).text
    for words in (NAME, "note=<img src=x>", server.model_name, "/weights/one", ":train:0", "forward_backward"):
        assert words in text


class Reader(HTMLParser):
    """The tags of a page, and its text as a browser shows it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.text = set(), ""

    @classmethod
    def of(cls, page: str) -> "Reader":
        reader = cls()
        reader.feed(page)
        reader.close()
        return reader

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1) | st.sampled_from(
    ["</td><script>x</script>", "<!--", "&lt;b&gt;", "</style><b>", "]]>", "javascript:x", "\"onload='x'"]
)


@given(TEXT, TEXT, TEXT)
def test_no_text_becomes_markup(model, name, cell):
    page = Reader.of(as_page({"model": model}, name, {name: [{name: cell}]}))
    assert page.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "thead",
                         "tbody", "tr", "th", "td"}  # fmt: skip
    assert page.text.count(cell) >= 1
    assert model in page.text


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_both_want_the_key_and_take_it_as_a_password(server, path):
    url = server.url + path
    bare = httpx.get(url)
    assert bare.status_code == 401
    assert bare.headers["www-authenticate"].startswith("Basic")
    assert httpx.get(url, auth=("me", "tml-wrong")).status_code == 401
    assert httpx.get(url, headers={"authorization": "Basic ???"}).status_code == 401
    assert httpx.get(url, auth=("anybody", KEY)).status_code == 200
    # The protocol itself takes no password: a browser that knows it must not be made to send requests.
    assert httpx.get(f"{server.url}/api/v1/training_runs", auth=("me", KEY)).status_code == 401
    assert httpx.get(f"{server.url}/api/v1/training_runs", auth=("me", KEY)).headers.get("www-authenticate") is None


def test_the_log_has_a_line_for_each_request_and_no_key(seen, server, log_file):
    httpx.get(f"{server.url}/{KEY}?key={KEY}", headers={"x-api-key": KEY})
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert KEY not in log_file.read_text()
    assert NAME not in log_file.read_text()
    asked = [line for line in lines if line.get("kind") == "sample" and line["endpoint"] == "/api/v1/asample"]
    [answered] = [line for line in lines if line.get("kind") == "sample" and line.get("outcome") == "answered"]
    assert asked[0]["request_id"] == answered["request_id"]
    assert asked[0]["session"] == answered["session"]
    assert answered["endpoint"] == "/api/v1/retrieve_future"
    assert answered["waited_ms"] > 0
    assert {"refused", "answered"} <= {line.get("outcome") for line in lines}
    assert lines[-1]["endpoint"] == "unknown"
    assert lines[-1]["status"] == 404
    for line in lines:
        assert line.keys() >= {"time", "method", "endpoint", "status", "ms", "client"}


def test_a_log_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"request_log=.*cannot be written"):
        RequestLog(str(tmp_path / "file" / "log"))
