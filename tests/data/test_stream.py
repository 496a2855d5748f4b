"""Shards: written whole, read with every bad sample counted, streamed in an order that a resume continues."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from made import jpeg
from PIL import Image

from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.sources import open_source
from geospot.data.sources.webdataset import Shards, find_shards
from geospot.data.stream import SampleStream, read_all
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.errors import DataError


def sample(i: int, lat: float = 10.0) -> Sample:
    return Sample(f"place-{i:04d}", (jpeg(i),), Place(lat, float(i % 170), "Lyon", None, "France"))


def read_samples(shards, skipped):
    return read_all(Shards("x", shards), skipped=skipped)


def stream_of(folder, **settings):
    return SampleStream(Shards("x", find_shards(str(folder))), **settings)


@pytest.fixture
def folder(tmp_path):
    for shard in range(3):
        write_shard(tmp_path / f"{shard}.tar", [sample(shard * 20 + i) for i in range(20)])
    return tmp_path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def test_round_trip(tmp_path):
    many = Sample("four", tuple(jpeg(i) for i in range(4)), Place(-1.5, 2.5, "Côte", "Région", "Côte d'Ivoire"))
    write_shard(tmp_path / "a.tar", [sample(1), many])
    skipped = SkipCounter()
    assert list(read_samples([str(tmp_path / "a.tar")], skipped)) == [sample(1), many]
    assert not skipped


def test_the_same_samples_give_the_same_bytes(tmp_path):
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, [sample(1), sample(2)])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_bad_samples_are_counted_by_reason_and_the_good_ones_kept(tmp_path):
    good = json.dumps({"lat": "12.5", "lng": -3})
    cases = {
        "a": (good.encode(), jpeg(1)),
        "b": (b'{"lat": 1}', jpeg(1)),
        "c": (b"not json", jpeg(1)),
        "d": (good.encode(), b"not a picture"),
        "e": (good.encode(), jpeg(1)[:600]),  # cut off in the middle
        "f": (b'{"lat": 0, "lon": 0}', jpeg(1)),
        "g": (b'{"lat": 95, "lon": 0}', jpeg(1)),
        "h": (b'{"lat": "nan", "lon": 0}', jpeg(1)),
        "i": (b'{"lat": "north", "lon": 0}', jpeg(1)),
        "j": (good.encode(), None),
        "k": (None, jpeg(1)),
    }
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for key, (fields, picture) in cases.items():
            if picture is not None:
                add(tar, f"{key}.jpg", picture)
            if fields is not None:
                add(tar, f"{key}.json", fields)
    skipped = SkipCounter()
    [kept] = read_samples([str(tmp_path / "x.tar")], skipped)
    assert (kept.key, kept.place.lat, kept.place.lon) == ("a", 12.5, -3.0)
    assert skipped == {
        "no coordinates": 1,
        "json cannot be read": 1,
        "unreadable image": 2,
        "coordinates are (0, 0)": 1,
        "coordinates out of range": 1,
        "coordinates are not finite": 1,
        "coordinates are not numbers": 1,
        "no picture": 1,
        "no json": 1,
    }


def test_a_truncated_tar_gives_what_precedes_the_damage(tmp_path):
    write_shard(tmp_path / "a.tar", [sample(i) for i in range(6)])
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[: len(data) * 2 // 3])
    write_shard(tmp_path / "b.tar", [sample(100)])
    skipped = SkipCounter()
    with pytest.warns(UserWarning, match="truncated"):
        keys = [s.key for s in read_samples([str(tmp_path / "a.tar"), str(tmp_path / "b.tar")], skipped)]
    assert keys[:2] == ["place-0000", "place-0001"]
    assert keys[-1] == "place-0100"
    assert len(keys) < 7
    assert skipped["truncated shard"] == 1


def test_every_epoch_has_every_sample_in_another_order(folder):
    stream = stream_of(folder, seed=3, buffer=16)
    first, second = ([s.key for s in stream.take(60)] for _ in range(2))
    assert sorted(first) == sorted(second) == [f"place-{i:04d}" for i in range(60)]
    assert first != second
    assert first != sorted(first)


def test_the_order_depends_on_the_seed_alone(folder):
    def keys(seed):
        return [s.key for s in stream_of(folder, seed=seed, buffer=16).take(40)]

    assert keys(1) == keys(1)
    assert keys(1) != keys(2)


@pytest.mark.parametrize("done", [0, 1, 25, 59, 60, 61, 133])
def test_a_resumed_stream_goes_on_with_the_next_sample(folder, done):
    whole = stream_of(folder, seed=5, buffer=10)
    whole.take(done)
    state = json.loads(json.dumps(whole.state()))
    again = stream_of(folder, seed=5, buffer=10, start=state)
    assert [s.key for s in again.take(30)] == [s.key for s in whole.take(30)]


@pytest.mark.parametrize("done", [0, 2, 4, 7])
def test_a_resumed_stream_has_skipped_as_many_as_an_unbroken_one(tmp_path, done):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(6):
            add(tar, f"{i}.jpg", b"broken" if i in (1, 4) else jpeg(i))
            add(tar, f"{i}.json", b'{"lat": 1, "lon": 2}')
    whole = stream_of(tmp_path / "x.tar", seed=2, buffer=2)
    whole.take(done)
    again = stream_of(tmp_path / "x.tar", seed=2, buffer=2, start=json.loads(json.dumps(whole.state())))
    for stream in (whole, again):
        stream.take(6)
    assert again.skipped == whole.skipped
    assert whole.skipped["unreadable image"] >= 2


def test_a_strip_that_no_model_takes_is_counted(tmp_path):
    write_shard(tmp_path / "a.tar", [Sample("strip", (jpeg(1, 804, 4),), Place(1.0, 2.0)), sample(2)])
    skipped = SkipCounter()
    assert [s.key for s in read_samples([str(tmp_path / "a.tar")], skipped)] == ["place-0002"]
    assert skipped == {"picture too narrow": 1}


def test_a_source_without_a_usable_sample_ends_in_an_error(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.jpg", jpeg(1))
    with pytest.raises(DataError, match=r"no usable sample.*no json 1"):
        stream_of(tmp_path / "x.tar", seed=0).take(1)


def test_where_shards_are_found(folder, tmp_path):
    def found(spec):
        return [Path(part).relative_to(folder).as_posix() for part in open_source(str(spec)).parts]

    assert found(folder) == found(folder / "{0..2}.tar") == ["0.tar", "1.tar", "2.tar"]
    assert found(folder / "1.tar") == ["1.tar"]
    assert found(folder / "[01].tar") == ["0.tar", "1.tar"]
    (folder / "list.txt").write_text("# two of three\n2.tar\n\n0.tar\n")
    assert found(folder / "list.txt") == ["2.tar", "0.tar"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere/*.tar", "nothing matches"),
        ("empty.txt", "names no shard"),
        ("{0..3}.tar", "4 of 4 shards are missing"),
    ],
)
def test_an_empty_shard_list_is_an_error_that_names_it(tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=rf"data={re.escape(repr(source))}: .*{says}"):
        open_source(source)


def test_a_list_that_names_a_missing_shard_is_an_error(folder):
    (folder / "list.txt").write_text("0.tar\n9.tar\n")
    with pytest.raises(DataError, match=r"1 of 2 shards are missing.*9\.tar"):
        open_source(str(folder / "list.txt"))


def test_workers_change_nothing_but_the_speed(folder):
    with stream_of(folder, seed=4, buffer=16) as here, stream_of(folder, seed=4, buffer=16, workers=2) as there:
        assert here.take(70) == there.take(70)
        state = json.loads(json.dumps(there.state()))
        expected = here.take(40)
    with stream_of(folder, seed=4, buffer=16, start=state) as again:
        assert again.take(40) == expected


def test_the_picture_that_kills_a_worker_is_counted_and_nothing_else_is_lost(folder):
    source = Shards("x", find_shards(str(folder)))
    with SampleStream(source, seed=1, buffer=8, workers=2, options=ReadOptions(refuse=kill_at_7)) as stream:
        keys = [s.key for s in stream.take(59)]
        assert sorted(keys) == [f"place-{i:04d}" for i in range(60) if i != 7]
        stream.take(1)
        assert stream.skipped["picture crashed the decoder"] >= 1


def kill_at_7(place):
    if place.lon == 7:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_parent_leaves_no_worker(folder, tmp_path):
    script = tmp_path / "reader.py"
    script.write_text(
        "import sys, time, multiprocessing\n"
        "from geospot.data.sources.webdataset import Shards, find_shards\n"
        "from geospot.data.stream import SampleStream\n"
        "if __name__ == '__main__':\n"
        "    stream = SampleStream(Shards('x', find_shards(sys.argv[1])), seed=0, workers=2)\n"
        "    stream.take(20)\n"
        "    print(*stream._decoder._pool._processes, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) == 2
    until = time.monotonic() + 100
    while any(is_running(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_an_epoch_without_overlap(folder, world):
    keys = []
    for rank in range(world):
        with stream_of(folder, seed=2, buffer=8, rank=rank, world=world) as stream:
            share = 20 if world == 3 else 12 if world == 5 else (40 if rank == 0 else 20)
            keys += [s.key for s in stream.take(share)]
    assert sorted(keys) == [f"place-{i:04d}" for i in range(60)]


def test_a_rank_resumes_in_its_own_share(folder):
    with stream_of(folder, seed=2, buffer=8, rank=1, world=5) as whole:
        whole.take(17)
        state = json.loads(json.dumps(whole.state()))
        with stream_of(folder, seed=2, buffer=8, rank=1, world=5, start=state) as again:
            assert [s.key for s in again.take(20)] == [s.key for s in whole.take(20)]


def headings(folder, n=12):
    write_shard(
        folder / "v.tar", [Sample(f"p{i}", tuple(jpeg(10 * i + v) for v in range(4)), Place(1.0, i)) for i in range(n)]
    )
    return folder / "v.tar"


def test_views_together_chosen_or_each(tmp_path):
    shard = headings(tmp_path)
    with stream_of(shard, seed=0, views="4") as stream:
        assert {len(s.pictures) for s in stream.take(12)} == {4}
    with stream_of(shard, seed=0, views="1") as stream:
        first, second = ({s.key: s.pictures for s in stream.take(12)} for _ in range(2))
    assert {len(p) for p in first.values()} == {1}
    assert len({p[0] for p in first.values()}) == 12
    assert sum(first[key] != second[key] for key in first) >= 5  # another epoch looks another way
    with stream_of(shard, seed=0, views="2") as stream:
        pair = {s.key: s.pictures for s in stream.take(12)}["p3"]
    assert [jpeg(30 + v) for v in range(4) if jpeg(30 + v) in pair] == list(pair)  # headings stay in order
    with stream_of(shard, seed=0, views="each") as stream:
        singles = stream.take(48)
    assert sorted(s.key for s in singles) == sorted(f"p{i}/{v:03d}" for i in range(12) for v in range(4))
    assert {s.pictures[0] for s in singles} == {jpeg(10 * i + v) for i in range(12) for v in range(4)}


@pytest.mark.parametrize("views", ["1", "each"])
@pytest.mark.parametrize("done", [3, 17, 50])
def test_views_resume(tmp_path, views, done):
    shard = headings(tmp_path)
    with stream_of(shard, seed=1, buffer=10, views=views) as whole:
        whole.take(done)
        state = json.loads(json.dumps(whole.state()))
        with stream_of(shard, seed=1, buffer=10, views=views, start=state) as again:
            assert again.take(30) == whole.take(30)


@pytest.mark.parametrize("views", ["0", "-1", "all", "1.5", ""])
def test_views_that_are_no_number_say_what_is_allowed(folder, views):
    with pytest.raises(ValueError, match="views="):
        stream_of(folder, seed=0, views=views)


def test_a_resume_on_other_shards_is_refused(folder):
    with stream_of(folder, seed=0) as stream:
        stream.take(5)
        state = stream.state()
    write_shard(folder / "new.tar", [sample(100)])
    with pytest.raises(DataError, match="not those that the checkpoint was taken with"):
        stream_of(folder, seed=0, start=state)


def test_a_resume_counts_what_was_in_the_buffer_and_is_gone(folder):
    with stream_of(folder, seed=0, buffer=50) as stream:
        stream.take(5)
        state = stream.state()
    for shard in folder.glob("*.tar"):
        shard.write_bytes(b"")
    stream = stream_of(folder, seed=0, buffer=50, start=state)
    with pytest.warns(UserWarning, match="truncated"), pytest.raises(DataError, match="no usable sample"):
        stream.take(1)
    assert stream.skipped["lost since the checkpoint"] == len(state["held"]) + len(state["drawn"])


def test_a_disk_that_is_gone_stops_the_stream_and_does_not_skip_all_shards(tmp_path):
    missing = [str(tmp_path / f"{i}.tar") for i in range(100)]
    stream = SampleStream(Shards("x", missing), seed=0)
    with (
        pytest.warns(UserWarning, match="missing"),
        pytest.raises(DataError, match=r"8 shards in a row .*goes on from the last checkpoint"),
    ):
        stream.take(1)
    assert stream.skipped["missing shard"] == 8


def test_large_pictures_are_brought_to_the_budget_and_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.new("RGB", (400, 200), "red").save(out, "JPEG", exif=exif)
    write_shard(tmp_path / "a.tar", [Sample("a", (out.getvalue(),), Place(1.0, 2.0))])
    with stream_of(tmp_path / "a.tar", seed=0, options=ReadOptions(max_pixels=5000)) as stream:
        [got] = stream.take(1)
    assert Image.open(io.BytesIO(got.pictures[0])).size == (50, 100)


def test_an_epoch_ends_where_one_was_asked_for(folder):
    with stream_of(folder, seed=0, buffer=16, epochs=2, workers=1) as stream:
        assert len(stream.take(100)) == 100
        state = json.loads(json.dumps(stream.state()))
        rest = list(stream)
        assert len(rest) == 20
        assert stream.take(1) == []
    with stream_of(folder, seed=0, buffer=16, epochs=2, start=state) as again:
        assert list(again) == rest


def test_a_closed_stream_says_so_and_wakes_who_waits(folder):
    stream = stream_of(folder, seed=0, workers=1)
    stream.take(3)
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="the stream is closed"):
        next(stream)


@pytest.mark.parametrize(("changed", "says"), [({"seed": 1}, "seed=1.*seed=0"), ({"views": "1"}, "views='1'.*'4'")])
def test_a_state_goes_with_the_settings_it_was_taken_with(folder, changed, says):
    with stream_of(folder, seed=0) as stream:
        stream.take(5)
        state = stream.state()
    with pytest.raises(DataError, match=says):
        stream_of(folder, **{"seed": 0} | changed, start=state)


def test_buffer_and_open_shards_may_change_in_the_middle_of_an_epoch(folder):
    with stream_of(folder, seed=0, buffer=10, open_parts=2) as stream:
        keys = [s.key for s in stream.take(25)]
        state = json.loads(json.dumps(stream.state()))
    with stream_of(folder, seed=0, buffer=40, open_parts=3, start=state) as again:
        keys += [s.key for s in again.take(35)]
    assert sorted(keys) == [f"place-{i:04d}" for i in range(60)]


@pytest.mark.parametrize(
    "strange", [b'{"lat": ' + b"1" * 400 + b', "lon": 2}', b"[" * 50_000, b'{"lat": {}, "lon": []}']
)
@pytest.mark.parametrize("workers", [0, 1])
def test_strange_metadata_is_counted_and_ends_nothing(tmp_path, strange, workers):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for key, fields in (("a", strange), ("b", b'{"lat": 1, "lon": 2}')):
            add(tar, f"{key}.json", fields)
            add(tar, f"{key}.jpg", jpeg(1))
    with stream_of(tmp_path / "x.tar", seed=0, workers=workers, epochs=1) as stream:
        assert [s.key for s in stream] == ["b"]
        assert stream.skipped.total() == 1
        [[told]] = stream.skipped.examples.values()
        assert told.startswith("a: ")


@pytest.mark.filterwarnings("ignore:truncated shard")
def test_a_cut_off_shard_is_counted_once_however_often_the_run_resumes(tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}.tar", [sample(i + 10 * (name == "b")) for i in range(4)])
        data = (tmp_path / f"{name}.tar").read_bytes()
        end = data.rstrip(b"\0")  # of the last member: the end mark is gone
        (tmp_path / f"{name}.tar").write_bytes(data[: -(-len(end) // 512) * 512])
    state = None
    for _ in range(8):
        with stream_of(tmp_path, seed=0, buffer=1, start=state, epochs=1) as stream:
            stream.take(1)
            state = json.loads(json.dumps(stream.state()))
    with stream_of(tmp_path, seed=0, buffer=1, start=state, epochs=1) as stream:
        assert list(stream) == []
        assert stream.skipped == {"truncated shard": 2}
