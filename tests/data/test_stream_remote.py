"""The whole stream against a hub on loopback: every intact sample once, whatever the network does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from made import jpeg
from servers.hub import Fault, plan_faults, serve, use_hub

from geospot.data.samples import Sample
from geospot.data.sources import open_source
from geospot.data.sources.webdataset import Shards
from geospot.data.stream import SampleStream
from geospot.data.tar import pack_samples
from geospot.earth.place import Place
from geospot.errors import DataError
from geospot.net.retry import RetryPolicy

# Many retries: where a busy machine is slow to answer, that counts as a stall, too.
QUICK = RetryPolicy(retries=50, first_s=0.01, longest_s=0.05, retry_after_s=0.1, connect_s=60.0, stall_s=0.3)
IMPATIENT = RetryPolicy(retries=2, first_s=0.01, longest_s=0.02, connect_s=60.0, stall_s=60.0)
SHARDS, EACH = 8, 12


def keys_of(shard: int) -> list[str]:
    return [f"{shard}-{i:03d}" for i in range(EACH)]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    padding = random.Random(0).randbytes(20_000)  # a JPEG may have a tail: pictures of a real size cost nothing here
    return {
        f"train/{s:02d}.tar": pack_samples(
            [Sample(key, (jpeg(s) + padding,), Place(1.0 + s, 2.0 + i)) for i, key in enumerate(keys_of(s))]
        )
        for s in range(SHARDS)
    }


ALL = sorted(key for s in range(SHARDS) for key in keys_of(s))


def stream_of(spec: str, policy: RetryPolicy = QUICK, **settings) -> SampleStream:
    source = open_source(spec)
    assert isinstance(source, Shards)
    source._policy = {"policy": policy}
    return SampleStream(source, **{"seed": 0, "buffer": 20} | settings)


def test_an_epoch_from_the_hub_through_faults(files, monkeypatch):
    faults = plan_faults({name: len(data) for name, data in files.items()}, 24, seed=3)
    with serve(files, faults=faults) as server:
        use_hub(monkeypatch, server)
        with stream_of(f"hf://datasets/{server.repo}/train/*.tar") as stream:
            keys = [sample.key for sample in stream.take(len(ALL))]
            assert stream.source.revision == server.commit
        assert sorted(keys) == ALL
        assert not stream.skipped
        assert len(server.delivered) == 24
        assert sum(stream.source.retries.values()) >= 12  # the others (slow, too long, ...) need none
        assert not server.leaks


def test_faults_do_not_change_the_order(files, monkeypatch):
    def keys(faults):
        with serve(files, faults=faults) as server:
            use_hub(monkeypatch, server)
            with stream_of(f"hf://datasets/{server.repo}/train/*.tar") as stream:
                return [sample.key for sample in stream.take(len(ALL))]

    assert keys([]) == keys([Fault("drop", "train/0*", at=9_000, times=4), Fault("503", "train/03.tar")])


def test_a_shard_that_stays_bad_is_skipped_and_counted_with_its_name(files, monkeypatch):
    cut = files | {"train/02.tar": files["train/02.tar"][: 5 * 21_504 + 700]}
    with serve(cut, faults=[Fault("404", "train/05.tar", times=1000)]) as server:
        use_hub(monkeypatch, server)
        with stream_of(f"hf://datasets/{server.repo}/train") as stream, pytest.warns(UserWarning, match="shard"):
            got = Counter(sample.key for sample in stream.take(150))
        whole = {key for s in range(SHARDS) if s not in (2, 5) for key in keys_of(s)}
        assert whole <= set(got)
        assert not set(got) & set(keys_of(5))
        assert set(got) & set(keys_of(2)) == set(keys_of(2)[: len(set(got) & set(keys_of(2)))])
        assert stream.skipped["unreadable shard"] >= 1
        assert stream.skipped["truncated shard"] >= 1
        assert "05.tar" in stream.skipped.examples["unreadable shard"][0]
        assert "404" in stream.skipped.examples["unreadable shard"][0]


def test_a_file_that_changes_between_reads_is_left_and_counted(files, monkeypatch):
    with serve(files, faults=[Fault("change", "train/01.tar", at=60_000)]) as server:
        use_hub(monkeypatch, server)
        with (
            stream_of(f"hf://datasets/{server.repo}/train") as stream,
            pytest.warns(UserWarning, match="changed shard"),
        ):
            keys = [sample.key for sample in stream.take(SHARDS * EACH - 10)]
        assert len(keys) == len(set(keys))
        assert stream.skipped == {"changed shard": 1}


@pytest.mark.parametrize("done", [1, 30, 55])
def test_a_resume_in_the_middle_of_an_epoch_is_exact_and_reads_little(files, monkeypatch, done):
    with serve(files) as server:
        use_hub(monkeypatch, server)
        spec = f"hf://datasets/{server.repo}/train/*.tar"
        with stream_of(spec) as whole:
            whole.take(done)
            state = json.loads(json.dumps(whole.state()))
            expected = [s.key for s in whole.take(40)]
        before = len(server.log)
        with stream_of(spec, start=state) as again:
            assert [s.key for s in again.take(40)] == expected
        asked = [r for r in server.log[before:] if r.side == "data"]
        assert asked
        # A shard is read from its start only where it was not begun; what the buffer held is fetched by its bytes.
        begun = {part for part, cursor in filter(None, state["lanes"]["open"]) if cursor}
        held = {part for part, *_ in state["held"] + state["drawn"]}
        for request in asked:
            wanted = (request.range or "bytes=0-").removeprefix("bytes=")
            if wanted.endswith("-"):
                assert not (wanted == "0-" and sorted(files).index(request.path) in begun)
            else:
                assert sorted(files).index(request.path) in held


def test_a_server_that_is_down_ends_in_an_error_that_says_how_to_go_on(files):
    with serve(files) as server, stream_of(server.plain("train/") + "{00..07}.tar", IMPATIENT, buffer=4) as stream:
        stream.take(3)
        server.faults.append(Fault("503", "*", times=10**6))
        # What was read ahead is still given; then all fails.
        with (
            pytest.raises(DataError, match="goes on from the last checkpoint"),
            pytest.warns(UserWarning, match="unreadable shard"),
        ):
            stream.take(500)
        assert stream.skipped["unreadable shard"] >= 8


def test_a_data_set_of_parquet_files_is_found_out(monkeypatch, tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [{"image": {"bytes": jpeg(i), "path": None}, "latitude": f"{i}.5", "longitude": "2.25"} for i in range(6)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    with serve({"data/train-00000.parquet": tmp_path / "x.parquet"}) as server:
        use_hub(monkeypatch, server)
        source = open_source(f"hf://datasets/{server.repo}")
        with SampleStream(source, seed=0, epochs=1) as stream:
            assert sorted(sample.place.lat for sample in stream) == [i + 0.5 for i in range(6)]
        assert source.revision == server.commit


def test_ctrl_c_ends_a_process_that_waits_for_a_silent_server(files, tmp_path):
    script = tmp_path / "reader.py"
    script.write_text(
        "import sys\n"
        "from geospot.data.sources import open_source\n"
        "from geospot.data.stream import SampleStream\n"
        "if __name__ == '__main__':\n"
        "    with SampleStream(open_source(sys.argv[1]), seed=0, buffer=20) as stream:\n"
        "        stream.take(20)\n"
        "        print('begun', flush=True)\n"
        "        sys.stdin.readline()\n"
        "        stream.take(500)\n"
    )
    with serve(files) as server:
        spec = server.plain("train/") + "{00..07}.tar"
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([sys.executable, script, spec], text=True, env=environment, **pipes) as reader:
            assert reader.stdout.readline() == "begun\n"
            silence = Fault("stall", "*", times=10**6, stall_s=1000.0)
            server.faults.append(silence)
            reader.stdin.write("go on\n")
            reader.stdin.flush()
            while not server.delivered:
                assert reader.poll() is None
                time.sleep(0.01)
            reader.send_signal(signal.SIGINT)
            try:
                assert reader.wait(timeout=300) != 0  # while the server stays silent for longer
            finally:
                reader.kill()
