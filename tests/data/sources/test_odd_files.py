"""What lies in a file's place: a FIFO hangs nothing, a loop of links breaks nothing, a pointer or a page is named."""

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from made import jpeg, odd_files

from geospot.data.fields import Columns
from geospot.data.samples import SkipCounter
from geospot.data.sources import open_source
from geospot.data.stream import read_places
from geospot.errors import DataError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"


def read(spec: str | Path) -> tuple[list, SkipCounter]:
    skipped = SkipCounter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(read_places(open_source(str(spec)), Columns(), skipped)), skipped


def soon(work: Callable[[], object]) -> object:
    """What it returns or raises; a hang fails the test rather than the whole run of tests."""
    out: list = []

    def run() -> None:
        try:
            out.append(work())
        except Exception as error:
            out.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(120)
    assert out, "it hangs"
    return out[0]


@pytest.mark.parametrize(
    "spec",
    ["csv:x.csv", "csv:x.csv.gz", "parquet:x.parquet", "json:x.json", "json:x.jsonl", "webdataset:x.tar",
     "webdataset:x.txt", "photos:x.jpg", "x.csv", "x.tgz", "x.parquet"],
)  # fmt: skip
def test_a_fifo_named_by_hand_is_refused_or_counted(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(spec.rpartition(":")[2])
    got = soon(lambda: read(spec))
    assert isinstance(got, DataError) or got == ([], {"not a regular file": 1})


def osv5m(folder: Path) -> tuple[Path, Path]:
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "train.csv").write_text("id,latitude,longitude\n1,2,3\n")
    return folder / "train", folder / "images" / "train" / "00.zip"


def mp16(folder: Path) -> tuple[Path, Path]:
    (folder / "MP16_Pro_places365.csv").write_text("IMG_ID,LAT,LON\na/b/1.jpg,2,3\n")
    return folder, folder / "mp-16.tar.aa"


@pytest.mark.parametrize("made", [osv5m, mp16])
def test_a_fifo_among_a_sets_archives_hangs_nothing(tmp_path, made):
    spec, archive = made(tmp_path)
    os.mkfifo(archive)
    assert isinstance(soon(lambda: read(spec)), DataError)


@pytest.mark.parametrize("made", [osv5m, mp16])
@pytest.mark.parametrize(("data", "says"), [(POINTER, "is a Git LFS pointer"), (PAGE, "is an HTML page")])
def test_what_lies_in_an_archives_place_is_named(tmp_path, made, data, says):
    spec, archive = made(tmp_path)
    archive.write_bytes(data)
    with pytest.raises(DataError, match=says):
        read(spec)


@pytest.mark.parametrize("name", ["x.parquet", "x.txt", "x.csv", "x.json", "x.jsonl"])
@pytest.mark.parametrize(("data", "says"), [(POINTER, "is a Git LFS pointer"), (PAGE, "is an HTML page")])
def test_what_lies_in_a_tables_place_is_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=says):
        read(tmp_path / name)


def test_rows_that_name_odd_files_are_counted(tmp_path):
    odd = odd_files(tmp_path)
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    (tmp_path / "t.csv").write_text("image,lat,lon\n" + "".join(f"{name},1.5,2.5\n" for name in ["0.jpg", *odd]))
    places, skipped = soon(lambda: read(tmp_path / "t.csv"))
    assert [place.lat for _, place in places] == [1.5]
    assert skipped.total() == len(odd)


def test_a_refusal_names_what_is_there_though_it_loops(tmp_path):
    (tmp_path / "x").symlink_to("x")
    with pytest.raises(DataError, match="holds 1 no suffix"):
        read(tmp_path)
