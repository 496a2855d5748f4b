"""Geotagged photos: the place in their EXIF, whatever cameras write there; photos without one are counted."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from geospot.data import heif
from geospot.data.records import Record, Skip
from geospot.data.sources import exif, open_source
from geospot.data.sources.exif import NoPosition, position_of, read_position
from geospot.errors import DataError


def dms(degrees: float) -> tuple:
    whole, rest = divmod(abs(degrees), 1)
    minutes, seconds = divmod(rest * 60, 1)
    micro_seconds = round(seconds * 60_000_000)
    return IFDRational(int(whole), 1), IFDRational(int(minutes), 1), IFDRational(micro_seconds, 1_000_000)


def gps(lat: float, lon: float) -> dict:
    return {1: "S" if lat < 0 else "N", 2: dms(lat), 3: "W" if lon < 0 else "E", 4: dms(lon)}


def photo(tags: dict | None, form: str = "JPEG", **options) -> bytes:
    image = Image.fromarray(np.full((24, 32, 3), 90, np.uint8))
    info = Image.Exif()
    info[0x010F] = "camera"
    if tags is not None:
        info.get_ifd(0x8825).update(tags)
    out = io.BytesIO()
    image.save(out, form, exif=info, **options)
    return out.getvalue()


def everything(source) -> list[Record | Skip]:
    return [item for part in range(len(source.parts)) for item in source.read(part)]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("lat", "lon"), [(48.8584, 2.2945), (-33.9249, 18.4241), (37.7749, -122.4194), (0.0, -78.5)])
def test_positions_in_each_format(tmp_path, form, lat, lon):
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(photo(gps(lat, lon), form))
    assert read_position(path) == pytest.approx((lat, lon), abs=1e-7)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_degrees_minutes_seconds(lat, lon):
    assert position_of(gps(lat, lon)) == pytest.approx((lat, lon), abs=1e-8)


R = IFDRational


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        ({1: "N", 2: (R(48, 1), R(5150, 100), R(0, 0)), 3: "E", 4: (2, R(1767, 100), R(0, 0))}, (48.858333, 2.2945)),
        ({1: "S", 2: (R(3392, 100),), 3: "E", 4: (R(1842, 100),)}, (-33.92, 18.42)),
        ({1: b"s\0", 2: (33, 55, 12), 3: "w\0", 4: (18, 25, 12)}, (-33.92, -18.42)),
        ({1: "North", 2: ((33, 1), (55, 1), (12, 1)), 3: " E", 4: 18.42}, (33.92, 18.42)),
    ],
)
def test_what_cameras_write(tags, place):
    assert position_of(tags) == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({2: None}, "no coordinates"),
        ({4: None}, "no coordinates"),
        ({2: (R(0, 0), R(0, 0), R(0, 0))}, "no coordinates"),
        ({2: ()}, "no coordinates"),
        ({2: (R(48, 1), R(0, 0), R(0, 0))}, "coordinates are not finite"),
        ({2: (R(48, 1), R(5, 0), R(0, 1))}, "coordinates are not finite"),
        ({2: "48.85"}, None),
        ({2: "north"}, "no coordinates"),
        ({1: None}, "no hemisphere in the EXIF"),
        ({3: ""}, "no hemisphere in the EXIF"),
        ({1: "E"}, "no hemisphere in the EXIF"),
    ],
)
def test_what_is_missing_or_damaged_is_said(change, reason):
    tags = gps(48.85, 2.29) | change
    if reason is None:
        assert position_of(tags)[0] == 48.85
        return
    with pytest.raises(NoPosition) as refused:
        position_of(tags)
    assert refused.value.reason == reason


def test_a_folder_of_photos(tmp_path):
    (tmp_path / "2019" / "Peru").mkdir(parents=True)
    (tmp_path / "2019" / "Peru" / "a.JPG").write_bytes(photo(gps(-13.1631, -72.5450)))
    (tmp_path / "b.jpeg").write_bytes(photo(gps(35.6586, 139.7454)))
    (tmp_path / "bare.jpg").write_bytes(photo(None))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "zero.png").write_bytes(photo(gps(0, 0), "PNG"))
    (tmp_path / "._b.jpeg").write_bytes(b"of macOS")
    (tmp_path / "notes.txt").write_text("no photo")
    source = open_source(str(tmp_path))
    items = everything(source)
    assert [(i.key, i.names) if isinstance(i, Record) else i.reason for i in items] == [
        ("b.jpeg", ("b.jpeg",)),
        "no coordinates",
        "unreadable image",
        ("zero.png", ("zero.png",)),  # (0, 0) is refused where coordinates are read
        ("2019/Peru/a.JPG", ("a.JPG",)),
    ]
    assert items[4].fields == {"lat": pytest.approx(-13.1631), "lon": pytest.approx(-72.5450)}
    assert items[4].pictures[0].read() == (tmp_path / "2019/Peru/a.JPG").read_bytes()
    assert "bare.jpg" in items[1].detail
    assert source.fetch(0, 4, 5) == items[4]
    assert list(source.read(0, 3)) == items[3:]


def test_damaged_exif_of_every_kind_is_counted_not_raised(tmp_path):
    whole = photo(gps(35.6586, 139.7454))
    at = whole.index(b"Exif")
    rng = np.random.default_rng(0)
    for i in range(200):
        damaged = bytearray(whole)
        for j in rng.integers(at, at + 200, 4):
            damaged[j] = rng.integers(256)
        (tmp_path / f"{i:03d}.jpg").write_bytes(bytes(damaged))
    items = everything(open_source(f"photos:{tmp_path}"))
    assert len(items) == 200
    assert sum(isinstance(item, Record) for item in items) > 20
    assert sum(isinstance(item, Skip) for item in items) > 20


def test_a_photo_that_goes_away_is_counted(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(photo(gps(1.5, 2.5)))
    source = open_source(str(tmp_path))
    (tmp_path / "a.jpg").unlink()
    gone, there = everything(source)
    assert (gone.reason, there.key) == ("picture file missing", "b.jpg")
    with pytest.raises(DataError, match="picture file missing"):
        source.fetch(0, 0, 1)


def test_the_identity_is_the_names(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(photo(gps(1.5, 2.5)))
    x, y = (open_source(str(tmp_path / folder)) for folder in "xy")
    assert x.identity() == y.identity()
    (tmp_path / "x" / "b.jpg").write_bytes(photo(gps(1.5, 2.5)))
    assert open_source(str(tmp_path / "x")).identity() != y.identity()


def test_heic(tmp_path):
    pytest.importorskip("pillow_heif")
    assert heif.register_heif()
    data = photo(gps(-33.9249, 18.4241), "HEIF")
    (tmp_path / "a.HEIC").write_bytes(data)
    [record] = everything(open_source(str(tmp_path)))
    assert (record.fields["lat"], record.fields["lon"]) == pytest.approx((-33.9249, 18.4241))
    assert heif.is_heif(record.pictures[0].read())
    assert not heif.is_heif(photo(None))


def test_heic_without_the_extra_is_counted_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(exif, "register_heif", lambda: False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "b.jpg").write_bytes(photo(gps(1.5, 2.5)))
    skip, record = everything(open_source(str(tmp_path)))
    assert skip.reason == "HEIC needs the extra heic"
    assert "geospot[heic]" in skip.detail
    assert record.key == "b.jpg"


def test_one_photo_and_an_empty_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(photo(gps(1.5, 2.5)))
    [record] = everything(open_source(str(tmp_path / "a.jpg")))
    assert record.key == "a.jpg"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"data='photos:.*holds no JPEG"):
        open_source(f"photos:{tmp_path / 'empty'}")
