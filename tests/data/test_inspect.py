"""`geospot data inspect`: what it counts, what it finds wrong, what it says of two sets, and the page."""

import io
import json
import re
import tarfile

import numpy as np
import pytest
from made import jpeg
from PIL import Image
from servers.hub import Fault, serve, use_hub

from geospot import __main__ as geospot
from geospot.data.duplicates import near, overlap, repeats
from geospot.data.inspect import inspect
from geospot.data.samples import Sample
from geospot.data.sources import open_source
from geospot.data.tar import pack_samples, write_shard
from geospot.earth.distance import destination
from geospot.earth.place import Place
from geospot.report.inspection import as_text, sections, world_text


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def png(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "green").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def mixed(tmp_path):
    """Two shards: three good places around Lyon and Berlin, a place of four headings, and five bad samples."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    lyon = {"lat": 45.76, "lon": 4.84}
    with tarfile.open(folder / "0.tar", "w") as tar:
        for key, fields, picture in [
            ("a", lyon | {"country": "FR"}, jpeg(1)),
            ("b", lyon | {"country": "Germany"}, png((300, 200))),
            ("c", lyon, b"no picture"),
            ("d", lyon, jpeg(2)[:700]),
            ("e", {"lat": 95, "lon": 4}, jpeg(3)),
            ("f", {"lat": 1}, jpeg(3)),
        ]:
            add(tar, f"{key}.json", json.dumps(fields).encode())
            add(tar, f"{key}.jpg", picture)
        add(tar, "g.jpg", jpeg(4))
    write_shard(
        folder / "1.tar",
        [
            Sample("a", (jpeg(1),), Place(52.52, 13.40)),
            Sample("four", tuple(jpeg(10 + i) for i in range(4)), Place(-33.9, 18.4)),
        ],
    )
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_in_a_source_is_counted(mixed, workers):
    found = inspect(open_source(str(mixed)), workers=workers)
    assert (found.places, found.pictures, found.parts_read, found.stopped) == (4, 7, 2, "")
    assert found.skipped == {
        "unreadable image": 2, "coordinates out of range": 1, "no coordinates": 1, "no json": 1,
    }  # fmt: skip
    assert any(told.startswith("d: ") for told in found.skipped.examples["unreadable image"])
    assert found.formats == {"JPEG": 6, "PNG": 1}
    assert found.countries == {"FR": 1, "DE": 2, "ZA": 1}
    assert sorted(found.pictures_a_place.tolist()) == [1, 1, 1, 4]
    sizes = found.sizes()
    assert (sizes["width, px"].max(), sizes["height, px"].max()) == (300, 200)
    assert sizes["bytes"].sum() == len(jpeg(1)) * 2 + len(png((300, 200))) + sum(len(jpeg(10 + i)) for i in range(4))


def test_labels_are_told_by_where_they_come_from_and_those_that_disagree_are_named(mixed):
    found = inspect(open_source(str(mixed)))
    assert found.labels.given["country"] == 2
    assert found.labels.filled["country"] == 2
    assert found.labels.disagree["country"] == 1
    [told] = found.disagreements
    assert told.startswith("b: country 'Germany'")


def test_duplicates_are_found_and_named(mixed):
    text = as_text(sections(inspect(open_source(str(mixed)))))
    assert re.search(r"same key again +1\n", text)
    assert re.search(r"same picture again +1\n", text)
    assert re.search(r"same coordinates again +1\n", text)
    assert "key 'a' twice" in text
    assert "same picture: a and a" in text
    assert "same coordinates: a and b" in text


def test_headers_alone_miss_what_only_decoding_finds(mixed):
    found = inspect(open_source(str(mixed)), decode=False)
    assert found.skipped["unreadable image"] == 1  # no picture at all; the one that was cut off has its header
    assert found.places == 5


def test_a_shard_that_cannot_be_read_is_named(mixed, recwarn):
    data = (mixed / "0.tar").read_bytes()
    (mixed / "0.tar").write_bytes(data[: len(data) // 3])
    found = inspect(open_source(str(mixed)))
    assert found.skipped["truncated shard"] == 1
    assert "0.tar" in found.skipped.examples["truncated shard"][0]
    assert not [w for w in recwarn if "skipped" in str(w.message)]  # the report says it


def test_limit_stops_early_and_takes_shards_by_seed(tmp_path):
    for shard in range(6):
        write_shard(tmp_path / f"{shard}.tar", [Sample(f"{shard}-{i}", (jpeg(i),), Place(1, i)) for i in range(5)])
    source = open_source(str(tmp_path))
    one, again, other = (inspect(source, limit=7, seed=seed) for seed in (0, 0, 1))
    assert one.places == 7
    assert one.stopped == "limit=7"
    assert [one.name(i) for i in range(7)] == [again.name(i) for i in range(7)] != [other.name(i) for i in range(7)]


def test_the_contact_sheet_is_drawn_by_seed_from_all_places(tmp_path):
    write_shard(tmp_path / "x.tar", [Sample(f"{i}", (jpeg(i % 9),), Place(1, i % 170)) for i in range(200)])
    source = open_source(str(tmp_path))
    drawn = {seed: inspect(source, sheet=20, seed=seed, workers=seed).sheet() for seed in (0, 1)}
    assert len(set(drawn[0])) == 20
    assert drawn[0] == inspect(source, sheet=20, workers=1).sheet() != drawn[1]
    assert min(drawn[0]) < 60
    assert max(drawn[0]) > 140


def write_at(path, points, first_picture=0, prefix="p"):
    write_shard(
        path,
        [Sample(f"{prefix}{i}", (jpeg(first_picture + i),), Place(*map(float, at))) for i, at in enumerate(points)],
    )
    return inspect(open_source(str(path)))


@pytest.mark.parametrize(("km", "leaks"), [(0.9, False), (1.1, True)])
@pytest.mark.parametrize("at", [(45.0, 5.0), (0.0, 180.0), (89.99, 10.0)])
def test_places_of_another_set_within_so_many_km_are_found(tmp_path, at, km, leaks):
    """Also over the date line and by the pole."""
    found = write_at(tmp_path / "a.tar", [(-45, 100), at])
    others = write_at(tmp_path / "b.tar", [destination(*at, 90.0, 1.0), (10, 10)], 50, "q")
    shares = overlap(found, others, km)
    assert shares.leaks == leaks
    assert shares.near.pairs == ([(1, 0)] if leaks else [])


def test_near_counts_what_a_plain_loop_counts(tmp_path):
    rng = np.random.default_rng(0)
    points = np.round(rng.uniform([-60, -180], [70, 180], (400, 2)), 4)
    found, others = object.__new__(Dots), object.__new__(Dots)
    found.lat, found.lon, others.lat, others.lon = points[:250, 0], points[:250, 1], points[250:, 0], points[250:, 1]
    from geospot.earth.distance import haversine_km

    distances = haversine_km(found.lat[:, None], found.lon[:, None], others.lat, others.lon)
    assert near(found, others, 300.0, chunk=90).n == (distances.min(axis=1) <= 300.0).sum() > 5


class Dots:
    lat: np.ndarray
    lon: np.ndarray

    @property
    def places(self) -> int:
        return len(self.lat)


def test_repeats_counts_all_but_the_first():
    values = np.array([5, 7, 5, 5, 9, 7], np.uint64)
    assert repeats(values).n == 3
    assert repeats(values).pairs == [(0, 2), (2, 3), (1, 5)]


def test_the_same_picture_elsewhere_is_a_leak_and_the_same_key_alone_is_none(tmp_path):
    found = write_at(tmp_path / "a.tar", [(1, 1), (2, 2)], 0)
    numbered_alike = write_at(tmp_path / "b.tar", [(50, 50), (60, 60)], 10)
    same_picture = write_at(tmp_path / "c.tar", [(50, 50)], 1, "q")
    assert overlap(found, numbered_alike, 1.0).keys.n == 2
    assert not overlap(found, numbered_alike, 1.0).leaks
    assert overlap(found, same_picture, 1.0).pictures.pairs == [(1, 0)]
    assert overlap(found, same_picture, 1.0).leaks


def test_the_command_leaves_with_1_where_sets_leak_and_says_what(tmp_path, capsys):
    write_at(tmp_path / "a.tar", [(1, 1), (2, 2)])
    write_at(tmp_path / "b.tar", [(2, 2.001), (3, 3)], 10, "q")
    words = ["data", "inspect", f"{tmp_path}/a.tar", f"against={tmp_path}/b.tar", "data_workers=0"]
    with pytest.raises(SystemExit) as left:
        geospot.main(words)
    assert left.value.code == 1
    assert "p1 and q0: 0.111 km apart" in capsys.readouterr().out
    geospot.main([*words, "near_km=0.1"])
    assert "kept apart" in capsys.readouterr().out


def test_the_page_holds_everything_and_fetches_nothing(mixed, tmp_path, capsys):
    page = tmp_path / "page.html"
    geospot.main(["data", "inspect", str(mixed), f"out={page}", "data_workers=0"])
    assert f"page: {page}" in capsys.readouterr().out
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 7 + 4  # the place that the page opens with has four views
    assert "Countries: 3" in html
    assert "South Africa" in html
    assert not re.search(r"(src|href)=.(?!data:|#)", html)
    assert html.count("<script") == 1  # of the maps; the page allows no other


def test_a_key_cannot_bring_markup_into_the_page(tmp_path, capsys):
    write_shard(tmp_path / "x.tar", [Sample("<b>x", (jpeg(1),), Place(1, 1, "<i>City", None, None))])
    geospot.main(["data", "inspect", str(tmp_path), f"out={tmp_path}/page.html", "data_workers=0"])
    html = (tmp_path / "page.html").read_text()
    assert "<b>x" not in html
    assert "<i>City" not in html


def test_the_terminal_map_has_land_and_places():
    lines = world_text(np.array([48.9, 48.8]), np.array([2.3, 2.4]), unicode=False).splitlines()
    marked = [(i, line.index(c)) for i, line in enumerate(lines) for c in "-+*#" if c in line]
    assert len(marked) == 1
    [(row, column)] = marked
    assert (row, column) == (4, 36)
    assert lines[row].count(".") > 20


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "data: required; for example: geospot data inspect"),
        (["a", "b"], "a b: give one source"),
        (["x", "out=page.txt"], "must end in .html"),
        (["x", "limit=-1"], "limit=-1"),
        (["x", "columns=lat"], "NAME=KEY"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, says, capsys):
    with pytest.raises(SystemExit) as left:
        geospot.main(["data", "inspect", *words])
    assert left.value.code == 2
    assert says in capsys.readouterr().err


def test_a_hub_is_looked_through_and_its_network_told_of(tmp_path, monkeypatch, capsys):
    """The contact sheet is fetched by range, and what had to be asked for again is counted."""
    files = {
        f"train/{s}.tar": pack_samples([Sample(f"{s}-{i}", (jpeg(8 * s + i),), Place(1 + s, i)) for i in range(8)])
        for s in range(3)
    }
    faults = [Fault("503", "train/1.tar", retry_after="0"), Fault("drop", "train/2.tar", at=9000)]
    with serve(files, faults=faults) as server:
        use_hub(monkeypatch, server)
        spec = f"hf://datasets/{server.repo}/train/*.tar"
        geospot.main(["data", "inspect", spec, f"out={tmp_path}/page.html", "data_workers=0"])
        out = capsys.readouterr().out
    assert re.search(r"places +24\n", out)
    assert server.commit in out
    network = out.split("\nNetwork\n")[1].split("\n\n")[0].splitlines()
    assert len(network) == 2
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == 24 + 1


def test_a_source_without_a_place_leaves_with_a_status(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    with pytest.raises(SystemExit) as left:
        geospot.main(["data", "inspect", str(tmp_path), "data_workers=0"])
    assert left.value.code == 2
    told = capsys.readouterr()
    assert "no usable place in" in told.err
    assert "no GPS in their EXIF" in told.err
    assert re.search(r"places +0\n", told.out)
