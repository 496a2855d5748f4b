"""Reading over http(s): the bytes are the same whatever the network does, or the error says what happened."""

import io
import logging
import os
import random
import signal
import socket
import tarfile
import threading
import time
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.hub import CUTS, KINDS, Fault, plan_faults, serve

from geospot.net.http import FileChanged, RemoteError, RetryPolicy, open_url
from geospot.net.retry import Attempts, asked_wait_s

SOON = RetryPolicy(first_s=0.002, longest_s=0.01, stall_s=60.0, connect_s=60.0)
IMPATIENT = replace(SOON, stall_s=0.3)  # with servers that fall silent
DATA = random.Random(0).randbytes(300_000)


def read_all(url: str, chunk: int = 20_001, **options) -> tuple[bytes, Counter]:
    """A file in pieces, and what was counted."""
    counts = Counter()
    with open_url(url, policy=options.pop("policy", SOON), counts=counts, **options) as file:
        return b"".join(iter(lambda: file.read(chunk), b"")), counts


@pytest.mark.parametrize("chunk", [512, 100_000, -1])
@pytest.mark.parametrize("address", ["url", "plain"])
def test_reads_the_file_in_one_response(address, chunk):
    with serve({"a b.tar": DATA}) as server:
        assert read_all(getattr(server, address)("a b.tar"), chunk) == (DATA, Counter())
        assert len(server.requests("data")) == 1


@pytest.mark.parametrize(
    ("faults", "counted"),
    [
        ([Fault("drop", at=100_000)], "dropped"),
        ([Fault("reset", at=100_000)], "dropped"),
        ([Fault("stall", at=100_000)], "stalled"),
        ([Fault("429", retry_after="0")], "429"),
        ([Fault("503")], "503"),
        ([Fault("500")], "500"),
        ([Fault("503", side="resolve")], "503"),
        ([Fault("drop", side="resolve")], "dropped"),
        ([Fault("stall", side="resolve")], "stalled"),
        ([Fault("expired")], "expired redirect"),
        ([Fault("too short")], "cut short"),
        ([Fault("ignore range+too short")], "cut short"),
        ([Fault("ignore range+too long")], "dropped"),
        ([Fault("drop", at=100_000), Fault("ignore range", at=1)], "dropped"),
        ([Fault("ignore range+no length"), Fault("drop", at=100_000)], "dropped"),
        ([Fault("slow", at=100_000)], None),
        ([Fault("too long")], None),
        ([Fault("no length")], None),
        ([Fault("ignore range")], None),
        ([Fault("ignore range+no length")], None),
    ],
    ids=lambda value: "-then-".join(fault.kind for fault in value) if isinstance(value, list) else "",
)
def test_each_fault_is_survived_and_counted(faults, counted):
    with serve({"a.tar": DATA}, faults=faults) as server:
        # The hub tells the size in a header of its own; a plain server has but Content-Length for it.
        address = server.plain if faults[0].kind == "ignore range+too long" else server.url
        stalls = counted == "stalled"
        data, counts = read_all(address("a.tar"), policy=IMPATIENT if stalls else SOON)
        assert data == DATA
        if stalls:  # a slow answer of a busy machine is one more
            assert set(counts) == {"retry: stalled"}
        else:
            assert counts == (Counter({f"retry: {counted}": 1}) if counted else Counter())
        assert server.delivered == faults


def some_faults(most: int) -> st.SearchStrategy[list[Fault]]:
    """Lists of faults that are to be survived: no stalls, which take long, and no redirect that stays expired."""
    kinds = (set(KINDS) | {"reset", "no length", "ignore range+too long"}) - {"stall"}
    fault = st.builds(Fault, st.sampled_from(sorted(kinds)), at=st.integers(0, len(DATA) - 1))
    return st.lists(fault, max_size=most).filter(lambda faults: [f.kind for f in faults].count("expired") <= 2)


@settings(max_examples=30)
@given(
    some_faults(8),
    st.sampled_from(["url", "plain"]),
    st.sampled_from([1000, 77_777, -1]),
)
def test_any_mix_of_faults_reads_the_same_bytes(faults, address, chunk):
    with serve({"a.tar": DATA}, faults=faults) as server:
        size = len(DATA) if any("too" in fault.kind for fault in faults) else None  # as a listing tells it
        assert read_all(getattr(server, address)("a.tar"), chunk, size=size)[0] == DATA


@settings(max_examples=25)
@given(some_faults(3), st.lists(st.tuples(st.integers(0, len(DATA) + 5), st.integers(0, 90_000))))
def test_seeks_read_what_a_local_file_would(faults, jumps):
    local = io.BytesIO(DATA)
    with serve({"a.tar": DATA}, faults=faults) as server, open_url(server.url("a.tar"), policy=SOON) as file:
        for pos, n in jumps:
            assert file.seek(pos) == local.seek(pos) == file.tell()
            assert file.read(n) == local.read(n)
            assert file.tell() == local.tell()
        assert file.seek(-7, os.SEEK_END) == local.seek(-7, os.SEEK_END)
        assert file.read() == local.read()


def test_goes_on_at_the_byte_where_it_broke_and_from_the_first_address():
    with serve({"a.tar": DATA}, faults=[Fault("drop", at=100_000)]) as server:
        read_all(server.url("a.tar"))
        assert [request.side for request in server.log] == ["resolve", "data"] * 2
        first, second = server.requests("data")
        assert (first.range, second.range) == ("bytes=0-", "bytes=100000-")
        assert second.headers["if-range"].startswith('"')
        assert first.query != second.query  # a fresh signature


def test_many_breaks_are_no_failure_as_long_as_bytes_arrive():
    faults = [Fault("drop", at=at) for at in range(10_000, 300_000, 10_000)]
    with serve({"a.tar": DATA}, faults=faults) as server:
        data, counts = read_all(server.url("a.tar"), policy=RetryPolicy(retries=1, first_s=0.001))
    assert data == DATA
    assert counts == {"retry: dropped": 29}


def test_gives_up_after_retries_in_a_row_without_a_byte():
    policy = RetryPolicy(retries=3, first_s=0.001)
    with serve({"a.tar": DATA}, faults=[Fault("503", times=100, at=1), Fault("drop", at=50_000)]) as server:
        url, counts = server.plain("a.tar") + "?Signature=secret", Counter()
        with open_url(url, policy=policy, counts=counts) as file:
            assert file.read(50_000) == DATA[:50_000]
            with pytest.raises(RemoteError, match=r"/plain/a\.tar: HTTP 503 \(4 failures in a row") as caught:
                file.read(10)
            assert "secret" not in str(caught.value)
            assert caught.value.status == 503
            assert isinstance(caught.value, OSError)
            assert file.tell() == 50_000  # and a later read goes on
        # The drop and three 503 were tried again; the fourth 503 was one failure too many.
        assert counts == {"retry: dropped": 1, "retry: 503": 2}


class NoWait:
    """In place of the event that ends a wait: notes how long it was to be."""

    def __init__(self):
        self.waits = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


def test_the_default_patience_is_about_two_minutes():
    stop = NoWait()
    attempts = Attempts("x", stop=stop)
    for _ in range(8):
        attempts.failed("503")
    with pytest.raises(RemoteError, match="9 failures in a row"):
        attempts.failed("503")
    assert len(stop.waits) == 8
    assert 80 < sum(stop.waits) < 160
    assert all(a < b for a, b in zip(stop.waits, stop.waits[1:], strict=False))


def test_retry_after_is_waited_for_up_to_a_limit():
    for asked_s, waited_s in ((5.0, 5.0), (50.0, 20.0), (0.0, 1.5), (None, 1.5)):
        stop = NoWait()
        attempts = Attempts("x", RetryPolicy(first_s=2.0, retry_after_s=20.0), stop=stop)
        attempts.failed("429", asked_s=asked_s)
        assert waited_s <= stop.waits[0] <= max(waited_s, 2.5)
    policy = RetryPolicy(first_s=0.001, retry_after_s=0.25)
    with serve({"a.tar": DATA}, faults=[Fault("429", retry_after="300")]) as server:
        start = time.monotonic()
        assert read_all(server.url("a.tar"), policy=policy) == (DATA, Counter({"retry: 429": 1}))
        assert 0.25 <= time.monotonic() - start < 200


def test_retry_after_is_read_in_all_its_forms():
    date = datetime.now(UTC) + timedelta(seconds=3000)
    assert asked_wait_s({"retry-after": "7"}) == 7
    assert asked_wait_s({"retry-after": date.strftime("%a, %d %b %Y %H:%M:%S GMT")}) == pytest.approx(3000, abs=100)
    assert asked_wait_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert asked_wait_s({"retry-after": "soon"}) is None
    assert asked_wait_s({"ratelimit": '"resolvers";r=0;t=55'}) == 55
    assert asked_wait_s({"ratelimit": '"resolvers";r=12;t=55'}) is None
    assert asked_wait_s({}) is None


@pytest.mark.parametrize("status", ["404", "410", "401", "403"])
def test_a_refusal_is_an_error_at_once(status):
    with serve({"a.tar": DATA}, faults=[Fault(status, side="resolve", times=9)]) as server:
        with pytest.raises(RemoteError, match=f"HTTP {status}") as caught:
            read_all(server.url("a.tar"))
        assert len(server.log) == 1
        assert ("HF_TOKEN" in str(caught.value)) == (status in ("401", "403"))


def test_a_redirect_that_stays_expired_is_an_error_soon():
    with serve({"a.tar": DATA}, faults=[Fault("expired", times=99)]) as server:
        with pytest.raises(RemoteError, match="HTTP 403"):
            read_all(server.url("a.tar"))
        assert len(server.requests("resolve")) == 3


def test_an_address_that_cannot_work_is_an_error_at_once():
    for url in ("ftp://example.org/a.tar", "http:///a.tar"):
        with pytest.raises(RemoteError):
            read_all(url, policy=RetryPolicy(first_s=60))


def test_without_a_connection_it_tries_and_says_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        counts = Counter()
        with (
            open_url(f"http://127.0.0.1:{taken.getsockname()[1]}/a", policy=SOON, counts=counts) as file,
            pytest.raises(RemoteError, match="no connection"),
        ):
            file.read(1)
        assert counts == {"retry: no connection": 8}


@pytest.mark.parametrize("address", ["url", "plain"])
def test_a_file_that_changes_is_not_read_on(address):
    fault = Fault("change", at=100_000)
    with serve({"a.tar": DATA}, faults=[fault]) as server, pytest.raises(FileChanged, match="changed while it was"):
        read_all(getattr(server, address)("a.tar"))


def test_a_file_of_another_size_than_listed_is_not_read():
    with serve({"a.tar": DATA}) as server, pytest.raises(FileChanged, match="300,000 bytes and had 300,001"):
        read_all(server.url("a.tar"), size=len(DATA) + 1)


def test_the_end_is_known_where_the_server_tells_no_size():
    fault = Fault("ignore range+no length", times=9)
    with serve({"a.tar": DATA}, faults=[fault]) as server, open_url(server.plain("a.tar"), policy=SOON) as file:
        assert file.size is None
        with pytest.raises(OSError, match="does not tell the size"):
            file.seek(0, os.SEEK_END)
        file.seek(len(DATA) + 5)
        assert file.read(1) == b""
        assert file.size == len(DATA)
        file.seek(0)
        assert file.read() == DATA


def test_an_empty_file_is_empty():
    with serve({"a.tar": b""}) as server:
        assert read_all(server.url("a.tar")) == (b"", Counter())
        with open_url(server.url("a.tar")) as file:
            assert file.size == 0


def test_the_token_stays_with_its_host(caplog):
    caplog.set_level(logging.DEBUG)
    headers = {"authorization": "Bearer hf_secret"}
    with serve({"a.tar": DATA}, tokens=["hf_secret"], faults=[Fault("drop", at=9), Fault("404", at=9)]) as server:
        with open_url(server.url("a.tar"), headers=headers, policy=SOON) as file, pytest.raises(RemoteError) as caught:
            file.read()
        assert all("authorization" in request.headers for request in server.requests("resolve"))
        assert len(server.requests("data")) == 2
        assert server.leaks == []
        assert not any("hf_secret" in request.query for request in server.log)
    assert "hf_secret" not in str(caught.value)
    assert "hf_secret" not in caplog.text


@pytest.mark.parametrize(
    "fault", [Fault("stall", at=1000, stall_s=1000.0), Fault("503", times=99)], ids=["stall", "backoff"]
)
def test_close_ends_a_read_that_waits(fault):
    raised = []

    def read():
        try:
            file.read()
        except ValueError as error:
            raised.append(str(error))

    with serve({"a.tar": DATA}, faults=[fault]) as server:
        file = open_url(server.url("a.tar"), policy=RetryPolicy(first_s=1000, longest_s=1000, stall_s=1000))
        reader = threading.Thread(target=read)
        reader.start()
        while not server.delivered:
            time.sleep(0.01)
        time.sleep(0.05)  # now it most likely waits; it is to end as well where it does not yet
        file.close()
        reader.join(100)  # much less than it would have waited for
        assert not reader.is_alive()
        assert raised
        assert "closed" in raised[0]
        with pytest.raises(ValueError, match="closed"):
            file.read(1)


@pytest.mark.parametrize("child_reads", [True, False])
def test_a_forked_child_leaves_the_connections_of_its_parent_alone(child_reads):
    counts = Counter()
    with serve({"a.tar": DATA}) as server, open_url(server.url("a.tar"), policy=SOON, counts=counts) as file:
        assert file.read(10) == DATA[:10]
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            ok = not child_reads or (file.read(290_000) == DATA[10:290_010] and file.read() == DATA[290_010:])
            file.close()
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert file.read() == DATA[10:]
        assert counts == {}
        assert len({request.connection for request in server.requests("data")}) == 1 + child_reads


def test_a_file_read_to_its_end_leaves_its_connections_to_the_next():
    with serve({f"{i}.tar": DATA for i in range(5)}) as server:
        for i in range(5):
            assert read_all(server.url(f"{i}.tar"), chunk=10_000)[0] == DATA
        assert len({request.connection for request in server.log}) == 2  # one for each host


def test_fetch_is_one_bounded_request():
    with serve({"a.tar": DATA}) as server, open_url(server.url("a.tar"), policy=SOON) as file:
        file.read(100)
        assert file.fetch(200_000, 201_000) == DATA[200_000:201_000]
        assert file.fetch(299_990, 400_000) == DATA[299_990:]
        assert file.tell() == 100
        assert file.read(100) == DATA[100:200]
        assert [r.range for r in server.requests("data")] == ["bytes=0-", "bytes=200000-200999", "bytes=299990-399999"]


def test_small_jumps_ask_for_nothing_new_and_large_ones_for_little():
    with serve({"a.zip": 20_000_000}) as server, open_url(server.url("a.zip"), policy=SOON) as file:
        file.read(1000)
        file.seek(500)
        file.read(10)
        file.seek(400_000)
        file.read(10)
        assert len(server.requests("data")) == 1
        file.seek(15_000_000)
        file.read(10)
        file.seek(15_100_000)
        file.read(10)
        assert [r.range for r in server.requests("data")[1:]] == [f"bytes=15000000-{15_000_000 + (256 << 10) - 1}"]


def test_tarfile_zipfile_and_parquet_read_it(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    members = {f"{i:03d}.jpg": random.Random(i).randbytes(10_000) for i in range(30)}
    with tarfile.open(tmp_path / "a.tar", "w") as tar, zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            zipped.writestr(name, data)
    table = pa.table({"lat": list(range(50_000)), "name": [str(i) for i in range(50_000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10_000)
    faults = [Fault("drop", at=150_000), Fault("503", times=2), Fault("expired")]
    with serve(tmp_path, faults=faults) as server:
        with open_url(server.url("a.tar"), policy=SOON) as file, tarfile.open(fileobj=file) as tar:
            assert {member.name: tar.extractfile(member).read() for member in tar} == members
        with open_url(server.url("a.zip"), policy=SOON) as file, zipfile.ZipFile(file) as zipped:
            assert {name: zipped.read(name) for name in zipped.namelist()} == members
        with open_url(server.url("a.parquet"), policy=SOON) as file:
            assert pq.ParquetFile(file).read_row_group(3).equals(table.slice(30_000, 10_000))


def test_a_hundred_planned_faults_are_all_delivered_in_one_epoch():
    files = {f"{i:02d}.tar": random.Random(i).randbytes(20_000) for i in range(40)}
    faults = plan_faults({name: len(data) for name, data in files.items()}, 100, seed=1)
    assert faults == plan_faults({name: len(data) for name, data in files.items()}, 100, seed=1)
    assert {fault.kind for fault in faults} == set(KINDS)
    with serve(files, faults=faults) as server:
        policy = RetryPolicy(retries=50, first_s=0.001, longest_s=0.01, stall_s=0.1)  # busy machines stall, too
        for name, data in files.items():
            assert read_all(server.url(name), policy=policy)[0] == data
        assert sorted(map(id, server.delivered)) == sorted(map(id, faults))
        assert len(faults) == 100
        assert any(fault.kind in CUTS for fault in server.delivered)
