"""Shards: written whole, read with every bad sample counted, streamed in an order that a resume continues."""

import io
import json
import tarfile

import pytest
from conftest import jpeg

from geospot.data.samples import BadSample, Sample, SkipCounter, read_coordinates, read_place
from geospot.data.shards import DataError, ShardStream, find_shards, read_samples, write_shard
from geospot.earth.place import Place


def sample(i: int, lat: float = 10.0) -> Sample:
    return Sample(f"place-{i:04d}", (jpeg(i),), Place(lat, float(i % 170), "Lyon", None, "France"))


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
    with pytest.warns(UserWarning, match="damaged"):
        keys = [s.key for s in read_samples([str(tmp_path / "a.tar"), str(tmp_path / "b.tar")], skipped)]
    assert keys[:2] == ["place-0000", "place-0001"]
    assert keys[-1] == "place-0100"
    assert len(keys) < 7
    assert skipped["damaged shard"] == 1


def test_zero_is_a_coordinate():
    assert read_coordinates({"lat": 0, "lon": 33.5}) == (0.0, 33.5)
    assert read_coordinates({"latitude": "51.5", "longitude": 0}) == (51.5, 0.0)


def test_unknown_labels_are_none_and_namibia_is_not():
    place = read_place({"lat": 1, "lon": 2, "city": "nan", "region": " ", "country": "NA"})
    assert (place.city, place.region, place.country) == (None, None, "NA")


@pytest.mark.parametrize("fields", [{"lat": None, "lon": 1}, {"lat": "x", "lon": 1}, {}])
def test_bad_coordinates_say_why(fields):
    with pytest.raises(BadSample):
        read_coordinates(fields)


def test_every_epoch_has_every_sample_in_another_order(folder):
    stream = ShardStream(find_shards(str(folder)), seed=3, buffer=16)
    first, second = ([s.key for s in stream.take(60)] for _ in range(2))
    assert sorted(first) == sorted(second) == [f"place-{i:04d}" for i in range(60)]
    assert first != second
    assert first != sorted(first)


def test_the_order_depends_on_the_seed_alone(folder):
    def keys(seed):
        return [s.key for s in ShardStream(find_shards(str(folder)), seed=seed, buffer=16).take(40)]

    assert keys(1) == keys(1)
    assert keys(1) != keys(2)


@pytest.mark.parametrize("done", [0, 1, 25, 59, 60, 61, 133])
def test_a_resumed_stream_goes_on_with_the_next_sample(folder, done):
    whole = ShardStream(find_shards(str(folder)), seed=5, buffer=10)
    whole.take(done)
    state = json.loads(json.dumps(whole.state()))
    again = ShardStream(find_shards(str(folder)), seed=5, buffer=10, start=state)
    assert [s.key for s in again.take(30)] == [s.key for s in whole.take(30)]


@pytest.mark.parametrize("done", [0, 2, 4, 7])
def test_a_resumed_stream_has_skipped_as_many_as_an_unbroken_one(tmp_path, done):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(6):
            add(tar, f"{i}.jpg", b"broken" if i in (1, 4) else jpeg(i))
            add(tar, f"{i}.json", b'{"lat": 1, "lon": 2}')
    whole = ShardStream([str(tmp_path / "x.tar")], seed=2, buffer=2)
    whole.take(done)
    again = ShardStream([str(tmp_path / "x.tar")], seed=2, buffer=2, start=json.loads(json.dumps(whole.state())))
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
    with pytest.raises(DataError, match=r"no usable sample in 1 shards.*no json 1"):
        ShardStream([str(tmp_path / "x.tar")], seed=0).take(1)


def test_where_shards_are_found(folder, tmp_path):
    assert len(find_shards(str(folder))) == 3
    assert find_shards(str(folder / "1.tar")) == [str(folder / "1.tar")]
    assert find_shards(str(folder / "[01].tar")) == [str(folder / "0.tar"), str(folder / "1.tar")]
    (folder / "list.txt").write_text("# two of three\n2.tar\n\n0.tar\n")
    assert find_shards(str(folder / "list.txt")) == [str(folder / "2.tar"), str(folder / "0.tar")]


@pytest.mark.parametrize(
    ("source", "says"),
    [("nowhere/*.tar", "nothing matches"), (".", "no .tar file"), ("empty.txt", "names no shard")],
)
def test_an_empty_shard_list_is_an_error_that_names_it(tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=f"data='{source.replace('*', '.')}'.*{says}" if "*" in source else says):
        find_shards(source)


def test_a_list_that_names_a_missing_shard_is_an_error(folder):
    (folder / "list.txt").write_text("0.tar\n9.tar\n")
    with pytest.raises(DataError, match=r"1 of 2 shards are missing.*9\.tar"):
        find_shards(str(folder / "list.txt"))
