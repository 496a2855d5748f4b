"""Geotagged photos: the place in their EXIF, whatever cameras write there; photos without one are counted."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made import odd_files
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from geospot.data.records import Record, Skip
from geospot.data.sources import open_source
from geospot.errors import BadSample, DataError
from geospot.pictures import is_heif, position_in_xmp, position_of, read_position, reading, register_heif


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
        ({1: "South", 2: (33, 55, 12), 3: "WEST\0", 4: (18, 25, 12)}, (-33.92, -18.42)),
        ({1: "s", 2: (33.0, 55.0, 12.0), 3: "w", 4: (18.0, 25.0, 12.0)}, (-33.92, -18.42)),
        ({1: "S", 2: (R(-33, 1), R(-55, 1), R(-12, 1)), 3: "E", 4: (18, 25, 12)}, (-33.92, 18.42)),
        ({1: "S", 2: (-33, 55, 12), 3: "W", 4: (-18, 25, 12)}, (-33.92, -18.42)),
        ({1: "S", 2: (0, -55, 12), 3: "W", 4: (0, 0, -36)}, (-0.92, -0.01)),
        ({1: "S", 2: (-33.92,), 3: "E", 4: ((184200, 10000),)}, (-33.92, 18.42)),
        ({1: "N", 2: (R(89, 1), R(59, 1), R(60, 1)), 3: "E", 4: (180, 0, 0)}, (90, 180)),
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
        ({1: "\x01"}, "no hemisphere in the EXIF"),
        ({1: b"\x01\x00"}, "no hemisphere in the EXIF"),
        ({1: 1}, "no hemisphere in the EXIF"),
        ({1: "Sever"}, "no hemisphere in the EXIF"),  # north, in Russian
        ({3: "Ost"}, "no hemisphere in the EXIF"),
        ({1: None, 2: (-33, 51, 24)}, "no hemisphere in the EXIF"),
        ({1: "N", 2: (-33, 51, 24)}, "coordinates contradict each other"),
        ({1: "N", 2: (33, -51, 24)}, "coordinates contradict each other"),
        ({1: "S", 2: (-33, 51, -24)}, "coordinates contradict each other"),
        ({1: "S", 2: (33, 5124, 0)}, "coordinates contradict each other"),
        ({1: "S", 2: (33.857, 51, 24)}, "coordinates contradict each other"),
        ({1: "S", 2: (4294967263, 51, 24)}, "coordinates out of range"),
        ({3: "W", 4: (200, 0, 0)}, "coordinates out of range"),
        ({2: (48, 51, 24, 0)}, "coordinates are not finite"),
        ({2: b"\x30\x33\x18"}, None),
    ],
)
def test_what_is_missing_or_damaged_is_said(change, reason):
    tags = gps(48.85, 2.29) | change
    if reason is None:
        assert position_of(tags)[0] == pytest.approx(48.85, abs=0.01)
        return
    with pytest.raises(BadSample) as refused:
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
    assert sum(isinstance(item, Record) for item in items) >= 5
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
    assert register_heif()
    data = photo(gps(-33.9249, 18.4241), "HEIF")
    (tmp_path / "a.HEIC").write_bytes(data)
    [record] = everything(open_source(str(tmp_path)))
    assert (record.fields["lat"], record.fields["lon"]) == pytest.approx((-33.9249, 18.4241))
    assert is_heif(record.pictures[0].read())
    assert not is_heif(photo(None))


def test_heic_without_the_extra_is_counted_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "register_heif", lambda: False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "b.jpg").write_bytes(photo(gps(1.5, 2.5)))
    skip, record = everything(open_source(str(tmp_path)))
    assert skip.reason == "HEIC needs the extra heic"
    assert "--extra heic" in skip.detail
    assert record.key == "b.jpg"


def test_one_photo_and_an_empty_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(photo(gps(1.5, 2.5)))
    [record] = everything(open_source(str(tmp_path / "a.jpg")))
    assert record.key == "a.jpg"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"data='photos:.*holds no JPEG"):
        open_source(f"photos:{tmp_path / 'empty'}")


# -- XMP


def xmp(text: str) -> str:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {text}</x:xmpmeta>'


ATTRIBUTES = 'exif:GPSLatitude="33,51.4S" exif:GPSLongitude="151,12.6E" exif:GPSAltitude="5/1"/>'
ELEMENTS = ">\n<exif:GPSLatitude>33,51,24S</exif:GPSLatitude><exif:GPSLongitude>151,12,36E</exif:GPSLongitude>"
SYDNEY = (-33.856667, 151.21)


@pytest.mark.parametrize("text", [ATTRIBUTES, ELEMENTS])
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF", "AVIF", "PNG"])
def test_a_position_in_xmp_alone(tmp_path, form, text):
    out = io.BytesIO()
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp(text))
        options = {"pnginfo": info}
    elif form == "TIFF":
        options = {"tiffinfo": {700: xmp(text).encode()}}
    else:
        options = {"xmp": xmp(text).encode()}
    Image.new("RGB", (32, 24)).save(out, form, **options)
    assert read_position(out.getvalue()) == pytest.approx(SYDNEY, abs=1e-5)
    (tmp_path / f"a.{form.lower()}").write_bytes(out.getvalue())
    [record] = everything(open_source(f"photos:{tmp_path}"))
    assert (record.fields["lat"], record.fields["lon"]) == pytest.approx(SYDNEY, abs=1e-5)


@pytest.mark.parametrize(
    ("lat", "place"),
    [
        ("33,51.4S", -33.856667),
        ("33,51,24s", -33.856667),
        ("33.856667S", -33.856667),
        ("33,51.4", "no hemisphere in the EXIF"),
        ("-33.85", "no hemisphere in the EXIF"),
        ("33,51.4E", "no hemisphere in the EXIF"),
        ("33,51,504S", "coordinates contradict each other"),  # a decimal comma
        ("95,0.0S", "coordinates out of range"),
        ("33..5S", "coordinates are not finite"),
    ],
)
def test_values_of_xmp(lat, place):
    packet = xmp(f'exif:GPSLatitude="{lat}" exif:GPSLatitudeRef="North" exif:GPSLongitude="151,12.6E"/>')
    if isinstance(place, str):
        with pytest.raises(BadSample, match=place):
            position_in_xmp(packet)
    else:
        assert position_in_xmp(packet) == pytest.approx((place, 151.21), abs=1e-5)


@pytest.mark.parametrize("piece", ["a", "exif:GPSLatitude ", "GPSLatitude>", "GPSLatitude = ", "<", 'GPSLatitude="1'])
def test_a_hostile_packet_takes_no_time(piece):
    """Over a megabyte of it: in quadratic time this would not end."""
    with contextlib.suppress(BadSample):
        assert position_in_xmp(piece * (1_500_000 // len(piece))) is None


def test_exif_goes_before_xmp_and_xmp_helps_where_exif_does_not_say_which_half():
    out = io.BytesIO()
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(gps(48.85, 2.29))
    Image.new("RGB", (32, 24)).save(out, "JPEG", xmp=xmp(ATTRIBUTES).encode(), exif=exif)
    assert read_position(out.getvalue()) == pytest.approx((48.85, 2.29))
    del exif.get_ifd(0x8825)[1]
    out = io.BytesIO()
    Image.new("RGB", (32, 24)).save(out, "JPEG", xmp=xmp(ATTRIBUTES).encode(), exif=exif)
    assert read_position(out.getvalue()) == pytest.approx(SYDNEY, abs=1e-5)
    both = ATTRIBUTES.removesuffix("/>") + ELEMENTS
    with pytest.raises(BadSample, match="several places"):
        position_in_xmp(xmp(both))
    assert position_in_xmp(xmp('exif:GPSLatitude="33,51.4S"/>')) is None


numbers = st.one_of(st.floats(), st.integers(-200, 200), st.tuples(st.integers(), st.integers()), st.none())
values = st.one_of(st.text(max_size=3), st.binary(max_size=3), st.none(), numbers, st.lists(numbers, max_size=4))


@given(st.dictionaries(st.integers(1, 4), values))
@example({1: "S", 2: (1, 2, 3), 3: "W", 4: (1, 2, 3)})
def test_no_tags_break_the_reader_or_leave_the_earth(tags):
    try:
        lat, lon = position_of(tags)
    except BadSample:
        return
    assert abs(lat) <= 90
    assert abs(lon) <= 180


# -- Google Takeout


def takeout(lat: float, lon: float, key: str = "geoData") -> str:
    place = {"latitude": lat, "longitude": lon, "altitude": 0.0, "latitudeSpan": 0.0, "longitudeSpan": 0.0}
    none = dict.fromkeys(place, 0.0)
    return json.dumps({"title": "IMG.jpg", "geoData": none, "geoDataExif": none} | {key: place})


@pytest.mark.parametrize(
    ("picture", "beside"),
    [
        ("IMG.jpg", "IMG.jpg.json"),
        ("IMG.jpg", "IMG.jpg.supplemental-metadata.json"),
        ("IMG.jpg", "IMG.jpg.supplemental-metad.json"),
        ("IMG.jpg", "IMG.jpg.s.json"),
        ("IMG.jpg", "IMG.jpg..json"),
        ("IMG(1).jpg", "IMG.jpg(1).json"),
        ("IMG(12).JPG", "IMG.JPG.supplemental-metadata(12).json"),
        ("IMG(1).jpg", "IMG.jpg.supplemental-me(1).json"),
        ("IMG(1).jpg", "IMG(1).jpg.json"),
        ("IMG-edited.jpg", "IMG.jpg.supplemental-metadata.json"),
        ("IMG-edited(2).jpg", "IMG.jpg(2).json"),
        ("Screenshot_20190102-030405_Chrome_something_a.jpg", "Screenshot_20190102-030405_Chrome_something_a..json"),
        ("Screenshot_20190102-030405_Chrome_something_long.jpg", "Screenshot_20190102-030405_Chrome_something_lo.json"),
    ],
)
def test_the_json_beside_a_photo_of_google_takeout(tmp_path, picture, beside):
    (tmp_path / picture).write_bytes(photo(None))
    (tmp_path / beside).write_text(takeout(-33.85, 151.21))
    [record] = everything(open_source(str(tmp_path)))
    assert record.fields == {"lat": -33.85, "lon": 151.21}


@pytest.mark.parametrize(
    ("picture", "beside"),
    [
        ("IMG.jpg", "IMG.jpg(1).json"),
        ("IMG(1).jpg", "IMG.jpg.json"),
        ("IMG(1).jpg", "IMG.jpg(2).json"),
        ("IMG.jpg", "IMG.jp.json"),
        ("IMG.jpg", "IMG2.jpg.json"),
        ("IMG.jpg", "IMG.png.json"),
        ("IMG.jpg", "IMG.jpg.other.json"),
    ],
)
def test_the_json_of_another_photo_is_left_alone(tmp_path, picture, beside):
    (tmp_path / picture).write_bytes(photo(None))
    (tmp_path / beside).write_text(takeout(-33.85, 151.21))
    [skip] = everything(open_source(f"photos:{tmp_path}"))
    assert skip.reason == "no coordinates"


def test_a_folder_of_takeout(tmp_path):
    """The album's own metadata.json is no table; the camera's word counts before Google's; what is missing is said."""
    (tmp_path / "metadata.json").write_text(
        json.dumps({"title": "Summer", "description": "", "date": {"timestamp": "1"}})
    )
    for name, tags, told in [
        ("a.jpg", gps(48.85, 2.29), takeout(10.5, 20.5)),
        ("b.jpg", None, takeout(10.5, 20.5, "geoDataExif")),
        ("c.jpg", None, takeout(0.0, 0.0)),
        ("d.jpg", gps(48.85, 2.29) | {1: None}, takeout(48.85, 2.29)),
        ("e.jpg", None, "no json"),
        ("f.jpg", None, takeout(120.0, 20.5)),
        ("g.jpg", None, "[1]"),
    ]:
        (tmp_path / name).write_bytes(photo(tags and {k: v for k, v in tags.items() if v is not None}))
        (tmp_path / f"{name}.supplemental-metadata.json").write_text(told)
    items = everything(open_source(str(tmp_path)))
    assert [item.reason if isinstance(item, Skip) else tuple(item.fields.values()) for item in items] == [
        pytest.approx((48.85, 2.29)),
        (10.5, 20.5),
        "no coordinates",
        (48.85, 2.29),
        "json cannot be read",
        "coordinates out of range",
        "no coordinates",
    ]


# -- what is no regular file


def test_odd_files_are_counted_by_name_and_never_waited_for(tmp_path):
    (tmp_path / "good.jpg").write_bytes(photo(gps(1.5, 2.5)))
    odd = odd_files(tmp_path)
    items = everything(open_source(str(tmp_path)))
    assert [item.key for item in items if isinstance(item, Record)] == ["good.jpg"]
    skips = {item.detail.partition(":")[0].rpartition("/")[2]: item for item in items if isinstance(item, Skip)}
    assert {name: skip.reason for name, skip in skips.items()} == dict.fromkeys(odd, "not a regular file")
    for name in odd:
        if name not in ("folder.jpg", "loop.jpg"):  # the one is a data set of its own, the other no path
            [skip] = everything(open_source(str(tmp_path / name)))
            assert skip.reason == "not a regular file"
    for data, says in ((b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"), (b"<html>", "HTML page")):
        (tmp_path / "one.jpg").write_bytes(data)
        [skip] = everything(open_source(str(tmp_path / "one.jpg")))
        assert skip.reason == says
