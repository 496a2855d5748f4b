"""Data sets on the hub, through the installed huggingface_hub and a server on loopback that speaks its API."""

import os
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.hub import Fault, serve, serve_apart, use_hub

from geospot.data.lists import find_web_files, read_list
from geospot.errors import DataError
from geospot.net.http import RetryPolicy, open_url
from geospot.net.hub import find_files, hub_headers, is_hub
from geospot.net.patterns import Pattern, expand_braces, has_pattern, parse_list

SOON = RetryPolicy(first_s=0.002, longest_s=0.01, stall_s=60.0, connect_s=60.0)
IMPATIENT = replace(SOON, stall_s=0.3)  # with a server that falls silent
FILES = {
    "README.md": b"about",
    "shards/a-0000.tar": b"a0",
    "shards/a-0001.tar": b"a1!",
    "shards/b-0000.tar": b"b0",
    "shards/deep/er/c-0000.tar": b"c0",
    "eval/x.parquet": b"x",
    "eval/y.parquet": b"y",
    "listed/shards.txt": b"# the good ones\n../shards/a-0001.tar\n\nd-{0..1}.tar\n",
}
SET = "hf://datasets/owner/name"


@pytest.fixture
def hub(monkeypatch):
    with serve(FILES) as server:
        use_hub(monkeypatch, server)
        yield server


def names(spec: str, *, policy: RetryPolicy = SOON, **options) -> list[str]:
    return [file.name for file in find_files(spec, policy=policy, **options).files]


def on_hub(*paths: str) -> list[str]:
    return [f"{SET}/{path}" for path in paths]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", ["shards/a-0000.tar", "shards/a-0001.tar", "shards/b-0000.tar", "shards/deep/er/c-0000.tar"]),
        ("/shards/", ["shards/a-0000.tar", "shards/a-0001.tar", "shards/b-0000.tar", "shards/deep/er/c-0000.tar"]),
        ("/eval", ["eval/x.parquet", "eval/y.parquet"]),
        ("/listed", ["shards/a-0001.tar", "listed/d-0.tar", "listed/d-1.tar"]),
        ("/listed/shards.txt", ["shards/a-0001.tar", "listed/d-0.tar", "listed/d-1.tar"]),
        ("/shards/b-0000.tar", ["shards/b-0000.tar"]),
        ("/shards/*.tar", ["shards/a-0000.tar", "shards/a-0001.tar", "shards/b-0000.tar"]),
        ("/shards/[!a]-*.tar", ["shards/b-0000.tar"]),
        ("/**/?-0000.tar", ["shards/a-0000.tar", "shards/b-0000.tar", "shards/deep/er/c-0000.tar"]),
        ("/shards/**", ["shards/a-0000.tar", "shards/a-0001.tar", "shards/b-0000.tar", "shards/deep/er/c-0000.tar"]),
        ("/shards/a-{0000..0001}.tar", ["shards/a-0000.tar", "shards/a-0001.tar"]),
        ("/{eval/x,shards/b-*}.{tar,parquet}", None),  # eval/x.tar is named, and is not there
        ("/{eval/x*,shards/b-*}.{tar,parquet}", ["eval/x.parquet", "shards/b-0000.tar"]),
    ],
)
def test_finds_what_a_spec_names(hub, path, found):
    if found is None:
        with pytest.raises(DataError, match=r"1 of 3 files are not there, the first eval/x\.tar"):
            names(SET + path)
    else:
        assert names(SET + path) == on_hub(*found)


def test_files_have_sizes_and_addresses_that_can_be_read(hub):
    found = find_files(f"{SET}/shards/a-*.tar", policy=SOON)
    a, b = on_hub("shards/a-0000.tar", "shards/a-0001.tar")
    assert [(file.name, file.size) for file in found.files] == [(a, 2), (b, 3)]
    for file in found.files:
        with open_url(file.url, headers=hub_headers(file.url), policy=SOON, size=file.size) as opened:
            assert opened.read() == FILES[file.path]


def test_a_revision_is_pinned_to_its_commit(hub):
    found = find_files(f"{SET}@v1/shards/*.tar")
    assert found.revision == hub.commit
    assert all(f"/resolve/{hub.commit}/" in file.url for file in found.files)
    assert find_files(f"{SET}/shards/*.tar").revision == hub.commit  # main
    again = find_files(f"{SET}@gone/shards/*.tar", revision=hub.commit)  # a resumed run asks for what it had
    assert again == found


def test_long_listings_come_in_pages(monkeypatch):
    many = {f"shards/{i:05d}.tar": i for i in range(2_500)}
    with serve(many, page_size=400) as server:
        use_hub(monkeypatch, server)
        found = find_files(f"{SET}/shards/*.tar")
        assert {file.path: file.size for file in found.files} == many
        assert len(server.requests("tree")) == 7


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (f"{SET}@v9", r"no revision 'v9'.*tags.*/datasets/owner/name/tree/main"),
        ("hf://datasets/owner/nothing/*.tar", r"knows no data set owner/nothing.*HF_TOKEN"),
        (
            f"{SET}/shards/z*.tar",
            r"nothing matches\. The folder shards holds 3 \.tar \(such as a-0000\.tar\); 1 folder",
        ),
        (f"{SET}/shard/*.tar", r"no folder shard\. The data set holds 1 \.md .*3 folders \(eval, listed, shards\)"),
        (f"{SET}/shards/deep/no/a.tar", r"there is no shards/deep/no/a\.tar\. The folder shards/deep holds"),
        (f"{SET}/shards/a-{{0000..0003}}.tar", r"2 of 4 files are not there, the first shards/a-0002\.tar"),
        (f"{SET}/eval/*.tar", r"nothing matches\. The folder eval holds 2 \.parquet"),
        (f"{SET}/a**b.tar", r"'\*\*' can only be an entire path component"),
        (f"{SET}/{{0..999999999}}.tar", r"more than 200,000 names"),
        (f"{SET}/README.md/x", r"there is no README\.md/x"),
        ("hf://owner/name", r"a model of the hub; for a data set write hf://datasets/owner/name"),
        ("hf://dataset/owner/name", r"plural"),
        ("hf://datasets/name", r"namespace/name.*hf://datasets/OWNER/NAME/PATH"),
    ],
)
def test_errors_say_what_is_wrong_and_what_is_there(hub, spec, said):
    with pytest.raises(DataError, match=said) as caught:
        names(spec, key="eval_data")
    assert str(caught.value).startswith(f"eval_data={spec!r}: ")


def test_a_folder_without_shards_says_what_it_holds(monkeypatch):
    with serve({"a/1.jpg": b"", "a/2.jpg": b"", "a/b/c.csv": b""}) as server:
        use_hub(monkeypatch, server)
        with pytest.raises(
            DataError, match=r"no \.tar, no \.parquet .* holds 2 \.jpg \(such as 1\.jpg\); 1 folder \(b\)"
        ):
            find_files(f"{SET}/a")


def test_gated_sets_need_terms_and_token(monkeypatch):
    with serve(FILES, gated=True, tokens=["hf_good"]) as server:
        use_hub(monkeypatch, server)
        with pytest.raises(
            DataError, match=rf"gated\. Accept its terms at {server.endpoint}/datasets/owner/name, .*HF_TO"
        ):
            names(SET)
        use_hub(monkeypatch, server, token="hf_other")
        with pytest.raises(DataError, match="gated"):
            names(SET)
        use_hub(monkeypatch, server, token="hf_good")
        assert names(f"{SET}/eval") == on_hub("eval/x.parquet", "eval/y.parquet")


def test_private_sets_need_a_token(monkeypatch):
    with serve(FILES, tokens=["hf_good"]) as server:
        use_hub(monkeypatch, server)
        with pytest.raises(DataError, match=r"hides it.*HF_TOKEN") as caught:
            names(SET)
        use_hub(monkeypatch, server, token="hf_good")
        found = find_files(f"{SET}/eval")
        assert "hf_good" not in repr(found) + str(caught.value)
        headers = hub_headers(found.files[0].url)
        assert headers["authorization"] == "Bearer hf_good"
        with open_url(found.files[0].url, headers=headers) as file:
            assert file.read() == b"x"
        assert server.leaks == []


def test_the_token_is_for_the_hub_alone(hub, monkeypatch):
    use_hub(monkeypatch, hub, token="hf_good")
    assert "authorization" in hub_headers(hub.url("a"))
    for url in (hub.plain("a"), "https://example.org/a.tar", hub.endpoint.replace("127.0.0.1", "127.0.0.1.evil.org")):
        assert "authorization" not in hub_headers(url)


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        (Fault("503", side="info", times=3), {"retry: 503": 3}),
        (Fault("429", side="info", retry_after="0"), {"retry: 429": 1}),
        (Fault("drop", side="info"), {"retry: dropped": 1}),
        (Fault("stall", side="info"), {"retry: dropped": 1}),
        (Fault("stall", side="tree"), {}),  # the hub's client tries again itself, once it knows that it has waited
        (Fault("500", side="paths-info"), {"retry: 500": 1}),
        (Fault("503", side="resolve"), {"retry: 503": 1}),
    ],
    ids=lambda value: f"{value.kind}-{value.side}" if isinstance(value, Fault) else "",
)
def test_listing_survives_an_outage(monkeypatch, fault, counted):
    with serve(FILES, faults=[fault]) as server:
        use_hub(monkeypatch, server)
        counts = Counter()
        path = "/listed/shards.txt" if fault.side in ("paths-info", "resolve") else "/shards/*.tar"
        silent = fault.kind == "stall"
        assert len(names(SET + path, policy=IMPATIENT if silent else SOON, counts=counts)) == 3
        assert server.delivered == [fault] * fault.times
        if silent:  # a slow answer of a busy machine is one more
            assert set(counted) <= set(counts) <= {"retry: dropped"}
        else:
            assert counts == counted


def test_listing_gives_up_in_the_end(monkeypatch):
    with serve(FILES, faults=[Fault("503", side="info", times=99)]) as server:
        use_hub(monkeypatch, server)
        with pytest.raises(DataError, match=r"HTTP 503 \(9 failures in a row, given up\)\. Try again later"):
            names(SET)


def test_other_requests_of_the_hub_client_keep_their_own_limits(hub):
    from huggingface_hub import get_session

    before = get_session().event_hooks
    names(f"{SET}/eval")
    assert get_session().event_hooks == before


def test_offline_and_without_network(hub, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(DataError, match=r"no connection to http.*local copy"):
            names(SET)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="Unset HF_HUB_OFFLINE"):
        names(SET)


def test_lists_name_files_anywhere(monkeypatch, tmp_path):
    lines = f"""one.tar
    sub/two.tar
    {SET}@v1/shards/a-0000.tar
    {SET}/shards/a-{{0000..0001}}.tar
    https://example.org/x.tar?sig=secret
    """
    with serve({**FILES, "lists/all.txt": lines.encode()}) as server:
        use_hub(monkeypatch, server)
        resolved = f"{server.endpoint}/datasets/owner/name/resolve/{server.commit}"
        shared = [f"{resolved}/shards/a-{n}.tar" for n in ("0000", "0000", "0001")]
        shared += ["https://example.org/x.tar?sig=secret"]

        there = find_files(f"{SET}/lists/all.txt").files
        assert [file.url for file in there] == [f"{resolved}/lists/one.tar", f"{resolved}/lists/sub/two.tar", *shared]
        shared_names = [*on_hub(*(f"shards/a-{n}.tar" for n in ("0000", "0000", "0001"))), "https://example.org/x.tar"]
        assert [file.name for file in there] == [*on_hub("lists/one.tar", "lists/sub/two.tar"), *shared_names]
        assert len(server.requests("info")) == 2  # each revision is pinned once

        on_web = find_web_files(server.plain("lists/all.txt"))
        assert [file.url for file in on_web[:2]] == [server.plain("lists/one.tar"), server.plain("lists/sub/two.tar")]
        assert [file.url for file in on_web[2:]] == shared

        (tmp_path / "all.txt").write_text(lines)
        on_disk = read_list(str(tmp_path / "all.txt"))
        assert [file.url for file in on_disk[:2]] == [str(tmp_path / "one.tar"), str(tmp_path / "sub/two.tar")]
        assert [file.url for file in on_disk[2:]] == shared
        assert [file.name for file in on_disk[2:]] == [file.name for file in on_web[2:]] == shared_names


def test_lists_that_cannot_be_used(tmp_path, hub):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="names no shard"):
        read_list(str(tmp_path / "empty.txt"))
    with pytest.raises(DataError, match=r"cannot be read.*No such file"):
        read_list(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"cannot be read.*HTTP 404"):
        find_web_files(hub.plain("none.txt"))
    (tmp_path / "models.txt").write_text("hf://owner/model/a.tar\n")
    with pytest.raises(DataError, match="no file of a data set"):
        read_list(str(tmp_path / "models.txt"))


def test_the_same_path_in_two_sets_has_two_names_and_a_revision_does_not_change_one(monkeypatch):
    found = {}
    for repo in ("owner/name", "owner/other"):
        with serve({"train/0000.tar": b"x"}, repo=repo) as server:
            use_hub(monkeypatch, server)
            for spec in (f"hf://datasets/{repo}/train", f"hf://datasets/{repo}@v1/train"):
                [file] = find_files(spec).files
                found.setdefault(repo, set()).add(file.name)
                assert file.path == "train/0000.tar"
    assert found == {repo: {f"hf://datasets/{repo}/train/0000.tar"} for repo in found}


@pytest.mark.parametrize("line", ["s3://bucket/x.tar", "gs://bucket/x.tar", "file:///x.tar"])
def test_a_list_that_names_another_scheme(tmp_path, line):
    (tmp_path / "all.txt").write_text(f"one.tar\n{line}\n")
    with pytest.raises(DataError, match=rf"a line '{line}'.*hf://, http:// and https://"):
        read_list(str(tmp_path / "all.txt"))


def test_web_addresses_have_braces():
    found = find_web_files("https://example.org/a-{08..11}.tar?sig=s")
    assert [file.url for file in found] == [f"https://example.org/a-{n}.tar?sig=s" for n in ("08", "09", "10", "11")]
    assert found[0].name == "https://example.org/a-08.tar"


def test_what_the_hub_is_asked_for():
    assert is_hub("hf://datasets/a/b")
    assert is_hub("https://huggingface.co/datasets/a/b/tree/main/c")
    assert not is_hub("https://huggingface.co/datasets/a/b/resolve/main/c.tar")
    assert not is_hub("https://example.org/datasets/a/b")
    assert not is_hub("/data/shards")


def test_the_environment_is_what_points_at_the_hub():
    script = f"""
from geospot.net.http import open_url
from geospot.net.hub import find_files, hub_headers
found = find_files("{SET}/shards/*.tar")
for file in found.files:
    with open_url(file.url, headers=hub_headers(file.url), size=file.size) as opened:
        print(file.path, opened.read().decode())
"""
    with serve_apart(FILES, tokens=["hf_good"], faults=[Fault("expired"), Fault("drop", at=1)]) as server:
        told = {"HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_good"}
        command = [sys.executable, "-W", "error", "-c", script]
        done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=300)
        assert done.stdout.splitlines() == ["shards/a-0000.tar a0", "shards/a-0001.tar a1!", "shards/b-0000.tar b0"]
        assert "hf_good" not in done.stderr
        assert len(server.delivered) == 2
        assert len(server.requests("data")) == 5  # three files, one refusal, one break
        assert server.leaks == []


# -- patterns

WORDS = st.text("ab0_-", min_size=1, max_size=3)


PARTS = st.one_of(
    WORDS, st.lists(WORDS, min_size=2, max_size=3), st.tuples(st.integers(0, 9), st.integers(1, 5))
)  # a literal, {a,b}, {000..005}


@given(st.lists(PARTS, max_size=4))
def test_braces_stand_for_every_combination(parts):
    text, expected = "", [""]
    for part in parts:
        if isinstance(part, str):
            choices, text = [part], text + part
        elif isinstance(part, list):
            choices, text = part, text + "{" + ",".join(part) + "}"
        else:
            first, last = part[0], part[0] + part[1]
            choices, text = [f"{i:03d}" for i in range(first, last + 1)], text + f"{{{first:03d}..{last:03d}}}"
        expected = [a + b for a in expected for b in choices]
    assert expand_braces(text) == expected
    assert has_pattern(text) == (expected != [text])


SEGMENTS = st.text("ab*?.", min_size=1, max_size=4).filter(lambda segment: "**" not in segment)
PATHS = st.lists(st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join), max_size=12)


@given(st.lists(SEGMENTS, min_size=1, max_size=3), PATHS)
def test_wildcards_stay_within_their_folder(segments, paths):
    pattern = Pattern("/".join(segments))
    expected = [
        path
        for path in sorted(set(paths))
        if len(parts := path.split("/")) == len(segments) and all(map(fnmatchcase, parts, segments))
    ]
    chosen, _ = pattern.select(set(paths))
    assert chosen == expected
    assert all(path.startswith(f"{pattern.folder}/".lstrip("/")) for path in chosen)
    assert pattern.is_deep or all(path.count("/") <= len(pattern.folder.split("/")) for path in chosen)


def test_braces_that_do_not_pair_are_names():
    assert expand_braces("a{1.tar") == ["a{1.tar"]
    assert not has_pattern("a{1.tar")
    for many in ("{0..99999999999}.tar", "{0..999}/{0..999}.tar"):
        with pytest.raises(ValueError, match="more than 200,000 names"):
            expand_braces(many)


def test_list_lines():
    assert parse_list("\ufeff# c\r\n a.tar \r\n\r\nb-{1..2}.tar") == ["a.tar", "b-1.tar", "b-2.tar"]
