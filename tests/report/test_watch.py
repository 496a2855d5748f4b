"""`geospot watch`: what the page is sent while a run goes on, what a replay holds, and who may look."""

import base64
import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import urllib.parse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_site import HOSTILE, LOOPBACK, GrowingRun, get, serving

from geospot.__main__ import main
from geospot.config import WatchConfig
from geospot.report.live import watching
from geospot.report.live.following import FollowedRun
from geospot.report.live.replay import thinned
from geospot.report.live.site import make_site
from geospot.report.live.watching import Watch
from geospot.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    made = GrowingRun(tmp_path / "runs" / "one", said=HOSTILE)
    for _ in range(3):
        made.step()
    yield made
    made.run.close()


@pytest.fixture
def site(run):
    watch = Watch(run.path.parent)
    with serving(make_site(watch.routes(), hosts=LOOPBACK, lifespan=watch.lifespan)) as address:
        yield address


def asked(site: str, path: str) -> dict:
    status, body, _ = get(f"{site}/api/{path}")
    assert status == 200, body
    return json.loads(body)


def unpacked(block: dict) -> dict[str, np.ndarray]:
    values = np.frombuffer(base64.b64decode(block["data"]), "<f4").reshape(len(block["columns"]), -1)
    return dict(zip(block["columns"], values, strict=True))


def test_a_run_is_listed_with_its_state_and_the_time_that_is_left(site):
    [line] = json.loads(get(f"{site}/api/runs")[1])
    assert (line["id"], line["state"], line["steps"], line["max_steps"]) == ("one", "running", 3, 10)
    assert line["seconds_left"] == 7 * 2.0


def test_the_answers_of_a_span_of_steps_are_those_in_the_file(site):
    assert asked(site, "runs")
    assert asked(site, "run?run=one")["answers"] == {"train": [[0, 12], [1, 12], [2, 12]]}
    block = asked(site, "answers?run=one&split=train&step=1&to=2")
    assert (block["steps"], block["counts"]) == ([1, 2], [12, 12])
    columns = unpacked(block)
    assert columns["group_index"].tolist() == [g for _ in range(2) for g in range(3) for _ in range(4)]
    np.testing.assert_allclose(columns["distance_km"][:4], [112.5, 225, 337.5, np.nan])
    assert np.isnan(columns["lat"][3])  # an answer that could not be read is nowhere, and not at 0, 0


def test_a_picture_s_answers_come_with_each_part_of_the_reward(site):
    asked(site, "runs")
    found = asked(site, "picture?run=one&split=train&step=2&group=1")
    assert found["truth"]["place"] == "Lima, Peru"
    assert [one["error"] for one in found["answers"]] == [None, None, None, "no latitude"]
    assert found["answers"][0]["parts"] == {"coordinate": 0.5, "country": 1.0}
    assert found["answers"][0]["text"] == HOSTILE.format("Lima")


@pytest.mark.parametrize(
    ("query", "status"),
    [("picture?run=one&split=train&step=2&group=99", 404), ("picture?run=one&split=train&step=x&group=1", 422),
     ("answers?run=../../etc&split=train&step=0", 404), ("answers?run=one&split=train&step=5&to=2", 422),
     ("answers?run=one&split=none&step=0&to=9", 200)],
)  # fmt: skip
def test_what_is_not_there_is_said(site, query, status):
    asked(site, "runs")
    assert get(f"{site}/api/{query}")[0] == status


def events(site: str):
    """What a watcher is sent, message by message."""
    connection = http.client.HTTPConnection(site.removeprefix("http://"), timeout=600)
    connection.request("GET", "/api/events")
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b"data: ") and line != b"data: {}\n":
            yield json.loads(line[6:])
        if line.startswith(b"event: hello"):
            yield "hello"


def test_a_step_reaches_all_who_watch_when_it_is_logged(site, run):
    asked(site, "runs")
    watchers = [events(site), events(site)]
    assert [next(one) for one in watchers] == ["hello", "hello"]
    step = run.step()
    for one in watchers:
        message = next(one)
        assert (message["from"], message["steps"]) == (3, 4)
        assert [row["step"] for row in message["new"]] == [step]
        assert message["new"][0]["tau_km"] == 500
        assert message["answers"] == {"train": [[3, 12]]}


def test_who_watches_does_not_hold_up_a_server_that_is_stopped(run, caplog):
    watch = Watch(run.path.parent)
    with serving(make_site(watch.routes(), hosts=LOOPBACK, lifespan=watch.lifespan), closing=watch.close) as address:
        stream = events(address)
        assert next(stream) == "hello"
    assert list(stream) == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []  # no traceback per watcher


def test_a_run_that_went_back_is_read_anew(run):
    followed = FollowedRun(run.path, "one")
    followed.poll()
    assert (followed.epoch, len(followed.rows)) == (0, 3)
    run.back_to(1)
    assert followed.poll()
    assert (followed.epoch, [row["step"] for row in followed.rows]) == (1, [0])
    run.step()
    followed.poll()
    assert (followed.epoch, [row["step"] for row in followed.rows]) == (1, [0, 1])


def test_another_run_in_the_folder_of_a_deleted_one_is_read_from_its_beginning(run):
    followed = FollowedRun(run.path, "one")
    followed.poll()
    run.run.close()
    shutil.rmtree(run.path)
    assert followed.poll()
    assert followed.summary()["state"] == "deleted"
    with RunFolder.create(run.path, {"command": "train", "max_steps": 50}) as other:
        for step in range(40):
            other.log(step, {"reward": 0.5, "tau_km": 9.0})
        followed._inode = os.stat(run.path / "metrics.jsonl").st_ino  # as a file system may give it once more
        assert followed.poll()
        assert (followed.epoch, len(followed.rows), followed.state) == (1, 40, "running")


def test_answers_that_cannot_be_read_now_come_later_and_hold_up_no_other_run(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "POLL_S", 0.02)  # how long a file that is locked is waited for
    one, two = GrowingRun(tmp_path / "one"), GrowingRun(tmp_path / "two")
    one.step()
    one.run.close()
    watch = Watch(tmp_path)
    assert [message["id"] for message in watch.look()] == ["one", "two"]
    assert watch.look() == []
    with contextlib.closing(sqlite3.connect(tmp_path / "one" / "rollouts.sqlite", isolation_level=None)) as base:
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("BEGIN EXCLUSIVE")
        base.execute("INSERT INTO rollouts (step, split, sample_key, group_index, member_index, text) "
                     "VALUES (1, 'train', 'k', 0, 0, '')")  # fmt: skip
        with open(tmp_path / "one" / "metrics.jsonl", "a") as file:
            file.write('{"step": 1, "reward": NaN}\n')
        two.step()
        messages = {message["id"]: message for message in watch.look()}
        assert [row["step"] for row in messages["one"]["new"]] == [1]
        assert (messages["one"]["answers"], messages["two"]["answers"]) == ({}, {"train": [[0, 12]]})
        assert watch.look() == []  # and nothing is sent again and again
        with serving(make_site(watch.routes(), hosts=LOOPBACK)) as address:
            status, said, _ = get(f"{address}/api/run?run=one")
            assert (status, "cannot be read" in said) == (503, True)
        base.execute("COMMIT")
    [message] = watch.look()
    assert (message["id"], message["answers"]) == ("one", {"train": [[1, 1]]})
    two.run.close()


def test_a_folder_whose_name_is_no_text_is_watched_like_any_other(tmp_path):
    made = GrowingRun(tmp_path / os.fsdecode(b"caf\xe9 <b>"))
    made.step()
    with serving(make_site(Watch(tmp_path).routes(), hosts=LOOPBACK)) as address:
        [line] = json.loads(get(f"{address}/api/runs")[1])
        assert asked(address, f"run?run={urllib.parse.quote(line['id'])}")["answers"] == {"train": [[0, 12]]}
    with serving(make_site(Watch(made.path).routes(), hosts=LOOPBACK)) as address:
        assert get(f"{address}/")[0] == 200
    main(["watch", str(made.path), f"out={tmp_path / 'replay.html'}"])
    made.run.close()


def test_a_line_that_is_not_whole_yet_is_read_once_it_is(run):
    followed = FollowedRun(run.path, "one")
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "rew')
        file.flush()
        followed.poll()
        assert followed.steps == 3
        file.write('ard": 0.5}\n')
    followed.poll()
    assert followed.rows[-1] == {"step": 3, "reward": 0.5}


def test_only_this_machine_and_its_own_pages_are_served(site):
    assert get(f"{site}/")[0] == 200
    assert get(f"{site}/api/runs", Host="evil.example")[0] == 403
    assert get(f"{site}/api/runs", Origin="http://evil.example")[0] == 403
    headers = get(f"{site}/")[2]
    assert "unsafe" not in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]


def test_elsewhere_a_key_is_asked_for_in_every_request(run):
    watch = Watch(run.path.parent)
    with serving(make_site(watch.routes(), key="of-mine", hosts=None, lifespan=watch.lifespan)) as address:
        for path in ("", "api/runs", "api/events", "static/watch.js"):
            assert get(f"{address}/{path}")[0] == 401
            assert get(f"{address}/{path}?key=another")[0] == 401
        status, _, headers = get(f"{address}/?key=of-mine")
        assert (status, headers["location"]) == (303, "/")
        assert get(f"{address}//evil.example/?key=of-mine")[2]["location"] == "/evil.example/"
        assert "HttpOnly" in headers["set-cookie"]
        cookie = headers["set-cookie"].partition(";")[0]
        assert get(f"{address}/api/runs", Cookie=cookie)[0] == 200
        assert get(f"{address}/api/runs", Cookie=cookie, Origin="http://evil.example")[0] == 403


def test_only_files_of_the_pages_are_served(site):
    for name in ("../site.py", "site.py", "%2e%2e/page.py", "report:page.py", "vendor/htm.LICENSE"):
        assert get(f"{site}/static/{name}")[0] == 404
    assert get(f"{site}/static/report:style.css")[0] == 200


def test_a_replay_is_one_page_that_needs_nothing_else(run, tmp_path, capsys):
    main(["watch", str(run.path), f"out={tmp_path / 'replay.html'}"])
    assert "replay.html" in capsys.readouterr().out
    page = (tmp_path / "replay.html").read_text()
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    assert not re.search(r'(src|href)="(?!data:)', markup)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "connect-src" not in policy  # default-src 'none' holds
    assert "unsafe-eval" not in policy
    packed = re.search(r'id="replay">([^<]+)<', page)[1]
    content = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert [one["id"] for one in content["runs"]] == ["one"]
    assert content["answers"]["one"]["train"]["steps"] == [0, 1, 2]
    said = content["pictures"]["one"]["train"]["2"]["0"]["answers"][0]
    assert said["text"] == HOSTILE.format("Lyon")
    assert "onerror" not in markup  # words of a model are never markup of the page


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 400))
def test_a_long_run_s_replay_keeps_its_ends(counts, most):
    pairs = [[step, n] for step, n in enumerate(counts)]
    kept = thinned({"train": pairs}, most)["train"]
    assert kept[0] == pairs[0]
    assert kept[-1] == pairs[-1]
    assert all(pair in pairs for pair in kept)
    assert len(kept) <= max(2, len(pairs))


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path, capsys):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        with pytest.raises(SystemExit) as end:
            main(["watch", str(tmp_path), f"port={taken.getsockname()[1]}", "open=false"])
        assert end.value.code == 2
        assert f"port={taken.getsockname()[1]}: cannot listen there (Address already in use)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nowhere"], ["{tmp}"], ["{tmp}", "out=x.pdf"], ["{tmp}", "port=70000"]])
def test_what_cannot_be_watched_is_refused_in_one_message(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["watch", *(word.format(tmp=tmp_path) for word in words), "dry_run=false", "open=false",
              *([f"out={tmp_path}/r.html"] if words == ["{tmp}"] else [])])  # fmt: skip
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_defaults_reach_nobody_else():
    assert WatchConfig().host == "127.0.0.1"
