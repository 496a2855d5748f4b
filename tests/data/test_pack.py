"""`geospot data pack`: whole, split by place, the same bytes whatever happens on the way, and refusals."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from made import jpeg
from PIL import Image
from servers.hub import serve, use_hub

from geospot import __main__ as geospot
from geospot.data import pack as packing
from geospot.data.pack import PackSettings, pack
from geospot.data.records import Skip
from geospot.data.samples import Sample, SkipCounter
from geospot.data.shard_writer import SeenHashes, UniqueKeys
from geospot.data.sources import open_source
from geospot.data.stream import read_all
from geospot.data.tar import pack_samples, write_shard
from geospot.earth.distance import haversine_km
from geospot.earth.place import Place
from geospot.errors import DataError


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Four shards of 40 places around Germany; one of the pictures of the first cannot be read."""
    folder = tmp_path_factory.mktemp("source")
    for shard in range(4):
        samples = [
            Sample(f"s{shard}/{i}", (jpeg(i + 40 * shard),), Place(48 + i / 20, 8 + shard + i / 50)) for i in range(40)
        ]
        if shard == 0:
            samples[7] = Sample("s0/7", (b"\xff\xd8\xff broken",), samples[7].place)
        write_shard(folder / f"{shard}.tar", samples)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def contents(folder: Path) -> list[Sample]:
    skipped = SkipCounter()
    samples = list(read_all(open_source(str(folder)), skipped=skipped))
    assert not skipped
    return samples


def test_every_good_sample_is_packed_once_with_its_labels(shards, tmp_path):
    told = pack(open_source(str(shards)), tmp_path / "out", PackSettings(shard_samples=50)).told
    assert sorted(files(tmp_path / "out")) == [
        "pack.json", "shards.txt", *(f"train-{i:06d}.tar" for i in range(4)),
    ]  # fmt: skip
    assert (tmp_path / "out" / "shards.txt").read_text().split() == [f"train-{i:06d}.tar" for i in range(4)]
    assert told == json.loads((tmp_path / "out" / "pack.json").read_text())
    assert (told["places"], told["skipped"]) == ({"train": 159}, {"unreadable image": 1})
    packed = {sample.key: sample for sample in contents(tmp_path / "out")}
    given = {sample.key: sample for sample in read_all(open_source(str(shards)), skipped=SkipCounter())}
    assert len(packed) == 159
    assert {key: (s.pictures, s.place.lat, s.place.lon) for key, s in packed.items()} == {
        key: (s.pictures, s.place.lat, s.place.lon) for key, s in given.items()
    }
    assert packed["s0/12"].place.country == "Germany"
    assert list(packed) != list(given)  # shuffled


def test_shards_are_what_tarfile_would_write(shards, tmp_path):
    pack(open_source(str(shards)), tmp_path / "out", PackSettings(shard_samples=53, shuffle=False))
    samples = contents(tmp_path / "out")
    assert [s.key for s in samples][:9] == [f"s0/{i}" for i in (0, 1, 2, 3, 4, 5, 6, 8, 9)]  # the source's own order
    assert (tmp_path / "out" / "train-000001.tar").read_bytes() == pack_samples(samples[53:106])
    with tarfile.open(tmp_path / "out" / "train-000002.tar") as tar:
        assert len(tar.getnames()) == 2 * 53


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_bytes_depend_on_neither_workers_nor_shards_at_hand(shards, tmp_path, shuffle):
    settings = PackSettings(shard_samples=30, shuffle=shuffle, shuffle_buffer=20, eval_fraction=0.3)
    for workers in (0, 2):
        pack(open_source(str(shards)), tmp_path / str(workers), settings, workers=workers)
    assert files(tmp_path / "0") == files(tmp_path / "2")
    if shuffle:
        pack(open_source(str(shards)), tmp_path / "seed", replace(settings, seed=1))
        assert files(tmp_path / "0") != files(tmp_path / "seed")


class Stop(Exception):
    """A kill, as far as the folder is concerned."""


@pytest.fixture(scope="module")
def numbered_alike(tmp_path_factory) -> Path:
    """Shards whose keys come again in every one of them."""
    folder = tmp_path_factory.mktemp("alike")
    for shard in range(4):
        places = [Place(48 + i / 20, 8 + shard + i / 50) for i in range(40)]
        write_shard(folder / f"{shard}.tar", [Sample(f"{i}", (jpeg(i + 40 * shard),), p) for i, p in enumerate(places)])
    return folder


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("often", [False, True])
def test_stopped_anywhere_it_ends_in_the_same_bytes(numbered_alike, tmp_path, monkeypatch, shuffle, often):
    """Stopped behind every batch in turn: with a state just saved, and with the last one far behind."""
    monkeypatch.setattr(packing, "BATCH", 8)
    monkeypatch.setattr(packing, "SAFE_S", -1.0 if often else 1e9)
    settings = PackSettings(shard_samples=33, shuffle=shuffle, shuffle_buffer=25, eval_fraction=0.3, views="1")
    pack(open_source(str(numbered_alike)), tmp_path / "whole", settings)
    stops = 0
    for go_on in range(2, 40):
        steps = 0

        def advance(*_, go_on=go_on):
            nonlocal steps
            steps += 1
            if steps > (3 if often else go_on):
                raise Stop

        try:
            pack(open_source(str(numbered_alike)), tmp_path / "out", settings, advance=advance)
        except Stop:
            stops += 1
        else:
            break
    assert stops >= (5 if often else 3)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("shuffle", [True, False])
def test_stopped_between_the_data_and_its_state_it_ends_in_the_same_bytes(
    numbered_alike, tmp_path, monkeypatch, shuffle
):
    """Each shard is finished, but the state that says so is written by a later attempt; workers run ahead."""
    monkeypatch.setattr(packing, "BATCH", 8)
    monkeypatch.setattr(packing, "SAFE_S", -1.0)
    settings = PackSettings(shard_samples=33, shuffle=shuffle, shuffle_buffer=25)
    pack(open_source(str(numbered_alike)), tmp_path / "whole", settings)
    write, calls = packing.write_json_atomic, 0

    def write_or_stop(path, value):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise Stop
        write(path, value)

    monkeypatch.setattr(packing, "write_json_atomic", write_or_stop)
    for _ in range(20):
        calls = 0
        try:
            pack(open_source(str(numbered_alike)), tmp_path / "out", settings, workers=1)
        except Stop:
            continue
        break
    assert files(tmp_path / "out") == files(tmp_path / "whole")


SLOW = """
import os, signal, sys, threading, time
from geospot.data import pack as packing
from geospot.data.sources import open_source
packing.BATCH, packing.SAFE_S = 8, 0.0
killer = threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGKILL])  # it goes on meanwhile, but never to its end
def advance(parts, places, skipped):
    if places >= int(sys.argv[3]) and not killer.is_alive():
        killer.start()
    if places >= int(sys.argv[3]) + 40:
        time.sleep(600)
packing.pack(open_source(sys.argv[1]), sys.argv[2], packing.PackSettings(shard_samples=33), workers=1, advance=advance)
"""


def test_a_kill_9_loses_and_repeats_nothing(shards, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-c", SLOW, str(shards), str(out)]
    for places in (40, 100):
        assert subprocess.run([*words, str(places)]).returncode == -signal.SIGKILL
    assert not (out / "pack.json").exists(), "it was not stopped in the middle"
    assert json.loads((out / ".pack" / "state.json").read_text())["writers"]["train"]["total"] >= 90
    settings = PackSettings(shard_samples=33)
    resumed = pack(open_source(str(shards)), out, settings)
    assert resumed.told["places"] == {"train": 159}
    pack(open_source(str(shards)), tmp_path / "whole", settings)
    assert files(out) == files(tmp_path / "whole")


def test_a_resume_does_not_read_what_came_before(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "BATCH", 8)
    settings = PackSettings(shard_samples=30, shuffle=False)
    seen = 0

    def advance(parts, places, skipped):
        nonlocal seen
        seen = places
        if places >= 100:
            raise Stop

    with pytest.raises(Stop):
        pack(open_source(str(shards)), tmp_path / "out", settings, advance=advance)
    source = open_source(str(shards))
    read, cursors = source.read, []
    source.read = lambda part, start=0: cursors.append((part, start)) or read(part, start)
    pack(source, tmp_path / "out", settings)
    assert seen >= 100
    [first, *rest] = cursors
    assert first[0] == 2
    assert first[1] > 0
    assert rest == [(3, 0)]


def test_train_and_eval_are_kept_apart_by_place(shards, tmp_path):
    settings = PackSettings(shard_samples=40, eval_fraction=0.4, cell_km=60, holdout_km=7)
    told = pack(open_source(str(shards)), tmp_path / "out", settings).told
    train, held_out = contents(tmp_path / "out" / "train"), contents(tmp_path / "out" / "eval")
    assert len(train) == told["places"]["train"] > 30
    assert len(held_out) == told["places"]["eval"] > 10
    rim = told["skipped"]["on the rim of a held-out cell"]
    assert len(train) + len(held_out) + rim + told["skipped"]["unreadable image"] in (159, 160)
    closest = min(haversine_km(a.place.lat, a.place.lon, b.place.lat, b.place.lon) for a in train for b in held_out)
    assert closest > 7
    assert (tmp_path / "out" / "eval" / "shards.txt").read_text().split()[0] == "eval-000000.tar"


def test_keys_are_unique_over_the_set_and_hold_no_dot(tmp_path):
    (tmp_path / "in").mkdir()
    for shard in range(2):
        samples = [Sample(key, (jpeg(i + 10 * shard),), Place(1, 1 + i)) for i, key in enumerate(["a", "b", "a-2"])]
        write_shard(tmp_path / "in" / f"{shard}.tar", samples)
    told = pack(open_source(str(tmp_path / "in")), tmp_path / "out", PackSettings(shuffle=False)).told
    assert [s.key for s in contents(tmp_path / "out")] == ["a", "b", "a-2", "a-3", "b-2", "a-2-2"]
    assert told["keys renamed"] == 3


def test_keys_given_before_a_resume_are_not_given_again(tmp_path, monkeypatch):
    monkeypatch.setattr("geospot.data.shard_writer.RECENT", 3)
    given = SeenHashes(tmp_path / "keys")
    keys = UniqueKeys(given)
    first = [keys.take(key) for key in ["x.y", "x_y", "", "dir/", "x.y", "z"]]
    assert first == ["x_y", "x_y-2", "sample", "dir/sample", "x_y-3", "z"]
    given.sync()
    again = UniqueKeys(SeenHashes(tmp_path / "keys", 5))  # the last was not in the state
    assert [again.take(key) for key in ["z", "x_y", "", "dir/"]] == ["z", "x_y-4", "sample-2", "dir/sample-2"]


def test_pictures_are_scaled_and_four_headings_stay_together(tmp_path):
    four = [Sample(f"p{i}", tuple(jpeg(4 * i + v, 300, 200) for v in range(4)), Place(1, i)) for i in range(5)]
    write_shard(tmp_path / "in.tar", four)
    source = open_source(str(tmp_path / "in.tar"))
    told = pack(source, tmp_path / "four", PackSettings(max_pixels=15_000)).told
    assert (told["places"], told["pictures"]) == ({"train": 5}, {"train": 20})
    for sample in contents(tmp_path / "four"):
        assert len(sample.pictures) == 4
        assert {Image.open(io.BytesIO(p)).size for p in sample.pictures} == {(150, 100)}
    told = pack(source, tmp_path / "each", PackSettings(views="each")).told
    assert told["places"] == {"train": 20}
    assert len({s.key for s in contents(tmp_path / "each")}) == 20


def test_labels_can_be_left_as_they_are(shards, tmp_path):
    pack(open_source(str(shards)), tmp_path / "out", PackSettings(fill_labels=False))
    assert {s.place.country for s in contents(tmp_path / "out")} == {None}


def test_other_settings_other_data_and_other_files_are_refused(shards, tmp_path):
    out = tmp_path / "out"
    source = open_source(str(shards))
    pack(source, out, PackSettings())
    before = files(out)
    assert pack(source, out, PackSettings()).was_there
    with pytest.raises(DataError, match=r"max_pixels=None, not 100; seed=0, not 3"):
        pack(source, out, PackSettings(max_pixels=100, seed=3))
    with pytest.raises(DataError, match=r"was packed from .* another folder"):
        pack(open_source(str(shards / "0.tar")), out, PackSettings())
    assert files(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="did not write"):
        pack(source, tmp_path / "mine", PackSettings())
    assert files(tmp_path / "mine") == {"notes.txt": b"keep"}


def test_settings_of_a_pack_under_way_are_kept_to(shards, tmp_path):
    def advance(*_):
        raise Stop

    with pytest.raises(Stop):
        pack(open_source(str(shards)), tmp_path / "out", PackSettings(), advance=advance)
    with pytest.raises(DataError, match="views='4', not '1'"):
        pack(open_source(str(shards)), tmp_path / "out", PackSettings(views="1"))


def test_a_source_without_a_good_sample_is_an_error(tmp_path):
    write_shard(tmp_path / "x.tar", [Sample("a", (b"no picture",), Place(1, 1))])
    with pytest.raises(DataError, match=r"no usable sample.*unreadable image 1"):
        pack(open_source(str(tmp_path / "x.tar")), tmp_path / "out", PackSettings())


def test_a_damaged_shard_is_skipped_and_counted(shards, tmp_path):
    source = open_source(str(shards))
    read = source.read
    source.read = lambda part, start=0: iter([Skip("missing shard", "gone")]) if part == 1 else read(part, start)
    with pytest.warns(UserWarning, match="gone"):
        told = pack(source, tmp_path / "out", PackSettings()).told
    assert told["places"] == {"train": 119}
    assert told["skipped"]["missing shard"] == 1


def test_the_command_packs_a_folder_of_shards_and_tells(shards, tmp_path, capsys):
    words = ["data", "pack", str(shards), f"out={tmp_path}/out", "shard_samples=100", "data_workers=0"]
    geospot.main(words)
    out = capsys.readouterr().out
    assert f"{tmp_path}/out: 159 places, 159 pictures, shards: 2" in out
    assert "unreadable image 1" in out
    assert "country: 159 filled" in out
    assert f"geospot sft data={tmp_path}/out" in out
    geospot.main(words)
    assert "nothing to do" in capsys.readouterr().out
    assert Counter(p.suffix for p in (tmp_path / "out").iterdir()) == {".tar": 2, ".txt": 1, ".json": 1}


def test_a_hub_is_packed_at_the_revision_that_the_pack_was_begun_with(tmp_path, monkeypatch, capsys):
    files = {f"{s}.tar": pack_samples([Sample(f"{s}-{i}", (jpeg(i),), Place(s, i)) for i in range(30)]) for s in (1, 2)}
    monkeypatch.setattr(packing, "BATCH", 8)
    monkeypatch.setattr(packing, "SAFE_S", -1.0)

    def advance(parts, places, skipped):
        if places >= 24:
            raise Stop

    with serve(files) as server:
        use_hub(monkeypatch, server)
        spec, out = f"hf://datasets/{server.repo}/*.tar", tmp_path / "out"
        with pytest.raises(Stop):
            pack(open_source(spec), out, PackSettings(shuffle_buffer=10), advance=advance)
        assert packing.saved_revision(out) == server.commit
        geospot.main(["data", "pack", spec, f"out={out}", "shuffle_buffer=10", "data_workers=0"])
        assert "60 places" in capsys.readouterr().out
        told = json.loads((out / "pack.json").read_text())
    assert told["source"]["revision"] == server.commit
    assert sorted(sample.key for sample in contents(out)) == sorted(f"{s}-{i}" for s in "12" for i in range(30))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x"], "out: required; for example: geospot data pack"),
        (["out=y"], "data: required"),
        (["x", "out=y", "shard_samples=0"], "shard_samples=0"),
        (["x", "out=y", "eval_fraction=1.5"], "eval_fraction=1.5"),
        (["x", "out=y", "eval_fraction=0.1", "holdout_km=60"], "holdout_km=60"),
        (["nowhere", "out=y"], "data='nowhere'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        geospot.main(["data", "pack", *words])
    assert left.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_picture_is_on_one_side_and_its_duplicates_are_counted(tmp_path):
    """The same photo at two places, far apart: it must not be trained on and held out."""
    places = [Place(48 + i / 20, 8 + i / 50) for i in range(80)]
    write_shard(tmp_path / "0.tar", [Sample(f"{i}", (jpeg(i % 20),), place) for i, place in enumerate(places)])
    settings = PackSettings(eval_fraction=0.4, cell_km=30, holdout_km=1, shuffle=False)
    told = pack(open_source(str(tmp_path / "0.tar")), tmp_path / "out", settings).told
    train, held_out = ([s.pictures[0] for s in contents(tmp_path / "out" / side)] for side in ("train", "eval"))
    assert train
    assert held_out
    assert not set(train) & set(held_out)
    assert told["skipped"][packing.DUPLICATE] > 0
    assert told["pictures again"] == len(train) + len(held_out) - len(set(train)) - len(set(held_out)) > 0
    assert len(train) + len(held_out) + sum(told["skipped"].values()) == 80


def test_headings_that_come_again_are_no_duplicate_unless_all_do(tmp_path):
    grey = jpeg(99)  # a heading for which there was no picture
    samples = [Sample(f"{i}", (jpeg(i), grey), Place(48 + i, 8)) for i in range(4)]
    samples.append(Sample("again", (jpeg(0), grey), Place(50.5, 8)))
    write_shard(tmp_path / "0.tar", samples)
    told = pack(open_source(str(tmp_path / "0.tar")), tmp_path / "out", PackSettings(shuffle=False)).told
    assert (told["places"], told["pictures again"], told["skipped"]) == ({"train": 5}, 1, {})


def test_a_share_that_is_not_what_was_asked_for_is_explained(tmp_path, capsys):
    samples = [Sample(f"{i}", (jpeg(i),), Place(48 + i / 1000, 8.5 + i % 2)) for i in range(30)]
    write_shard(tmp_path / "0.tar", samples)
    for seed in range(100):
        cell = PackSettings(seed=seed, eval_fraction=0.05).split
        if cell.side(48.01, 8.5) == "eval":
            break
    words = ["data", "pack", str(tmp_path / "0.tar"), "data_workers=0"]
    geospot.main([*words, f"out={tmp_path}/out", "eval_fraction=0.05", f"seed={seed}"])
    out = capsys.readouterr().out
    assert "50 % of the places are held out where eval_fraction=0.05 asks for 5 %" in out
    assert "share of the map's cells, 100 km wide" in out
    geospot.main([*words, f"out={tmp_path}/other"])
    assert "eval_fraction" not in capsys.readouterr().out
