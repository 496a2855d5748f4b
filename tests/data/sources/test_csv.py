"""A CSV with pictures beside it: rows found by number whatever is in them, pictures wherever people put them."""

import csv
import gzip
import io
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg

from geospot.data.fields import Columns
from geospot.data.records import Record, Skip
from geospot.data.sources import csvtable, open_source
from geospot.data.sources.csvtable import open_csv
from geospot.errors import DataError

REAL = Path(__file__).parents[4] / "shared" / "data" / "open_streetview"


def write_set(folder: Path, n: int, header="id,lat,lon,country,image", images="images", newline="\n") -> Path:
    (folder / images).mkdir(parents=True, exist_ok=True)
    rows = [f"p{i},{i % 80 + 0.5},{i % 170 + 0.25},NA,p{i}.jpg" for i in range(n)]
    for i in range(n):
        (folder / images / f"p{i}.jpg").write_bytes(jpeg(i % 3, 16, 16))
    (folder / "set.csv").write_bytes(newline.join([header, *rows, ""]).encode())
    return folder / "set.csv"


def everything(source) -> list[Record | Skip]:
    return [item for part in range(len(source.parts)) for item in source.read(part)]


def test_all_rows_once_in_order(tmp_path):
    source = open_source(str(write_set(tmp_path, 150)))
    records = everything(source)
    assert [r.key for r in records] == [f"p{i}" for i in range(150)]
    assert records[149].fields == {"id": "p149", "lat": "69.5", "lon": "149.25", "country": "NA", "image": "p149.jpg"}
    assert records[149].names == ("p149.jpg",)
    assert pickle.loads(pickle.dumps(records[149].pictures[0])).read() == jpeg(149 % 3, 16, 16)
    assert len(source.parts) == len(set(source.parts)) == 3


def test_a_cursor_goes_on_and_fetches(tmp_path):
    source = open_source(str(write_set(tmp_path, 150)))
    for part in range(3):
        whole = list(source.read(part))
        for k, record in enumerate(whole):
            assert list(source.read(part, record.end)) == whole[k + 1 :]
            assert source.fetch(part, record.start, record.end) == record


def test_threads_read_at_once(tmp_path):
    source = open_source(str(write_set(tmp_path, 300)))
    whole = everything(source)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda part: list(source.read(part)), [*range(5)] * 8))
        rows = list(pool.map(lambda i: source.fetch(i // 64, i % 64, i % 64 + 1), range(300)))
    assert [record for part in parts[:5] for record in part] == rows == whole
    assert all(parts[i] == parts[i % 5] for i in range(40))


def test_the_identity_is_the_contents(tmp_path):
    table = write_set(tmp_path / "a", 5)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = open_source(str(table)).identity()
    assert open_source(str(tmp_path / "b" / "set.csv")).identity() == first
    text = table.read_text()
    table.write_text(text.replace("p3,3.5", "p3,4.5"))  # the same size
    assert open_source(str(table)).identity() != first


VALUES = st.text(st.sampled_from("ab,\";\n\t\r é東𝄞'\\ "), max_size=8)


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2), max_size=150), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_rows_are_found_as_the_csv_module_writes_them(tmp_path_factory, rows, newline, quote_all):
    if not quote_all:  # the writer leaves \r bare, which ends a row for every reader
        rows = [[value.replace("\r", "") for value in row] for row in rows]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=newline, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerows([["lat", "lon", "a", "b"], *(["1.5", "2.5", *row] for row in rows)])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(out.getvalue().encode())
    table = open_csv(path)
    assert table.rows == len(rows)
    for first in range(0, len(rows), 64):
        got = list(table.read(first, min(first + 64, len(rows))))
        assert [[row["a"], row["b"]] for row in got] == rows[first : first + 64]
    if rows:
        [last] = table.read(len(rows) - 1, len(rows))
        assert [last["a"], last["b"]] == rows[-1]


@settings(max_examples=200)
@given(st.text(st.sampled_from('ab,"\n é'), max_size=60))
def test_any_text_is_read_as_the_csv_module_reads_it_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(b"lat,lon\n" + text.encode())
    try:
        table = open_csv(path)
    except DataError as error:
        assert "never closed" in str(error)  # noqa: PT017
        assert text.count('"') % 2
        return
    got = [row for at in range(0, table.rows, 64) for row in table.read(at, min(at + 64, table.rows))]
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:  # a quote that the end of the file closes, or something behind a value's quotes
        return
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    kept = [row for row in got if row is not None and (isinstance(row, Skip) or any(row.values()))]
    assert len(kept) == len(expected)
    for row, values in zip(kept, expected, strict=True):
        if isinstance(row, Skip):
            assert any(values[2:])
        else:
            assert list(row.values()) == values[:2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters(tmp_path, encoding, delimiter):
    rows = [["id", "lat", "lon", "city"], ["a", "1.5", "2.5", "Düsseldorf"], ["b", "3.5", "4.5", "東京, 都"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "t.csv").write_bytes((mark + out.getvalue()).encode(encoding))
    for key in "ab":
        (tmp_path / f"{key}.jpg").write_bytes(jpeg(1))
    assert [r.fields["city"] for r in everything(open_source(str(tmp_path / "t.csv")))] == ["Düsseldorf", "東京, 都"]


def test_latin_1_is_read_with_a_warning(tmp_path):
    lines = ["id,lat,lon,city", *(f"p{i},1.5,2.5,Lyon" for i in range(200)), "a,1.5,2.5,Düsseldorf"]
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode("latin-1"))
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    with pytest.warns(UserWarning, match="not UTF-8"):
        source = open_source(str(tmp_path / "t.csv"))
    assert next(r for r in everything(source) if isinstance(r, Record)).fields["city"] == "Düsseldorf"


def test_rows_of_another_width_in_latin_1_are_counted_too(tmp_path):
    (tmp_path / "t.csv").write_bytes("id,lat,lon\na,1.5,2.5\nD\xfcsseldorf,1,2,3\nK\xf6ln,1\n".encode("latin-1"))
    with pytest.warns(UserWarning, match="not UTF-8"):
        table = open_csv(tmp_path / "t.csv")
    first, second, third = table.read(0, table.rows)
    assert (first["id"], second.reason, third) == ("a", "row longer than the header", {"id": "Köln", "lat": "1"})


def test_half_a_character_of_utf_16_is_an_error(tmp_path):
    (tmp_path / "t.csv").write_bytes("id,lat,lon\na,1.5,2.5\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"t\.csv is not whole UTF-16"):
        open_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_and_gz(tmp_path, newline):
    table = write_set(tmp_path, 70, newline=newline)
    (tmp_path / "set.csv.gz").write_bytes(gzip.compress(table.read_bytes()))
    plain, packed = (everything(open_source(str(p))) for p in (table, tmp_path / "set.csv.gz"))
    assert plain == packed
    assert [r.fields["country"] for r in plain] == ["NA"] * 70


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_gz_is_an_error(tmp_path, damage):
    packed = bytearray(gzip.compress(write_set(tmp_path, 70).read_bytes()))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[len(packed) // 2 :: 7] = bytes(len(packed[len(packed) // 2 :: 7]))
    (tmp_path / "set.csv.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"set\.csv\.gz cannot be read"):
        open_source(str(tmp_path / "set.csv.gz"))


def test_rows_that_cannot_be_used_are_skips_with_their_number(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    lines = ["image,lat,lon", "a.jpg,1,2", "gone.jpg,1,2", "", "a.jpg,1,2,Lyon", ",3,4", "a.jpg,5", "a.jpg,6,7,,"]
    lines += ['"x\ry"z\rw,1']
    (tmp_path / "t.csv").write_text("\n".join(lines), newline="")
    items = everything(open_source(str(tmp_path / "t.csv")))
    assert [i.reason if isinstance(i, Skip) else dict(i.fields) for i in items] == [
        {"image": "a.jpg", "lat": "1", "lon": "2"},
        "picture file missing",
        "row longer than the header",
        "no picture",
        {"image": "a.jpg", "lat": "5"},  # refused where its coordinates are read
        {"image": "a.jpg", "lat": "6", "lon": "7"},
        "no picture",
        "no picture",  # a bare \r ends a row
    ]
    assert "row 2: " in items[1].detail
    assert str(tmp_path / "gone.jpg") in items[1].detail
    assert [i.end for i in items] == [1, 2, 4, 5, 6, 7, 8, 9]


def test_a_quote_that_swallows_the_file_is_an_error(tmp_path):
    rows = [f"{i}.jpg,1,2,{'x' * 80}" for i in range(20_000)]
    rows[7] = '7.jpg,1,2,"oops'
    (tmp_path / "t.csv").write_text("\n".join(["image,lat,lon,note", *rows]))
    with pytest.raises(DataError, match=r"row 8 opens a quote that is never closed"):
        open_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("blocks", [1 << 24, 4096])
@pytest.mark.parametrize(("line", "row"), [('7.jpg,1,2,"oops', 8), ('"7.jpg,1,2,oops', 8), ('7.jpg,1,"2,oops', 8)])
def test_a_quote_that_swallows_a_small_file_is_an_error_too(tmp_path, monkeypatch, blocks, line, row):
    monkeypatch.setattr(csvtable, "_BLOCK_BYTES", blocks)
    rows = [f"{i}.jpg,1,2,{'x' * 80}" for i in range(100)]
    rows[7] = line
    (tmp_path / "t.csv").write_text("\n".join(["image,lat,lon,note", *rows]))
    with pytest.raises(DataError, match=rf"row {row} opens a quote that is never closed"):
        open_source(str(tmp_path / "t.csv"))


def test_every_row_may_end_in_a_delimiter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "t.csv").write_text("image,lat,lon\n" + "a.jpg,1,2,\n" * 5 + "a.jpg,3,4\n" + "a.jpg,1,2,x\n")
    items = everything(open_source(str(tmp_path / "t.csv")))
    assert [i.reason if isinstance(i, Skip) else i.fields["lat"] for i in items] == [
        *["1"] * 5, "3", "row longer than the header"
    ]  # fmt: skip


def test_blank_lines_come_before_the_header_and_between(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "t.csv").write_text("\n\nimage,lat,lon\n\na.jpg,1,2\n\nb,1\na.jpg,3,4\n")
    items = everything(open_source(str(tmp_path / "t.csv")))
    assert [i.reason if isinstance(i, Skip) else i.fields["lat"] for i in items] == ["1", "no picture", "3"]
    assert "row 4: " in items[1].detail


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            r"t\.csv is a Git LFS pointer: run git lfs pull",
        ),
        (b"<!doctype html><html></html>", r"t\.csv is an HTML page"),
        (b"PK\x03\x04xl/workbook.xml", r"t\.csv is a zip archive"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(tmp_path, data, says):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=says):
        open_source(str(tmp_path / "t.csv"))


def test_memory_is_bounded_for_a_large_table(tmp_path, monkeypatch):
    """Three times as many rows take no more: what is read is written block by block, and mapped."""
    pyarrow = pytest.importorskip("pyarrow")
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(csvtable, "_KEEP_BYTES", 0)
    monkeypatch.setattr(csvtable, "_BLOCK_BYTES", 1 << 16)
    peaks = []
    for n in (20_000, 60_000):
        path = tmp_path / f"{n}.csv"
        path.write_text("id,lat,lon\n" + "".join(f"{i},{i % 80},{i % 170},\n" for i in range(n)))
        table = open_csv(path)
        assert table.rows == n
        [last] = table.read(n - 1, n)
        assert last["id"] == str(n - 1)
        peaks.append(pyarrow.total_allocated_bytes())
    assert peaks[1] < peaks[0] + (1 << 20)


@pytest.mark.parametrize(
    ("header", "columns", "says"),
    [
        ("id,north,east", "", r"t\.csv has no column for lat and lon .*'north', 'east'.*columns=lat=COLUMN,lon=COLUMN"),
        ("id,lat,east", "", r"no column for lon .*longitude.*columns=lon=COLUMN"),
        ("id,lat,lon", "lat=breite", r"columns=lat=breite: t\.csv has no column 'breite'; it has id, lat, lon"),
        ("lat,lon,title", "", r"no column names the pictures; there are lat, lon, title.*columns=image=COLUMN"),
    ],
)
def test_missing_columns_say_the_mend(tmp_path, header, columns, says):
    (tmp_path / "t.csv").write_text(f"{header}\na,1,2\n")
    with pytest.raises(DataError, match=says):
        open_source(str(tmp_path / "t.csv"), Columns.parse(columns))


def test_columns_named_by_hand(tmp_path):
    (tmp_path / "t.csv").write_text("foto;breite;laenge\na.jpg;48,5;2,25\n")
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    [record] = everything(open_source(str(tmp_path / "t.csv"), Columns(lat="breite", lon="laenge", image="foto")))
    assert record.fields["breite"] == "48,5"


@pytest.mark.parametrize("text", ["", "\n\n", "id,lat,lon\n", "id,lat,lon"])
def test_an_empty_table_is_an_error(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"data='.*t\.csv'.*(empty|no rows)"):
        open_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("a.jpg", "set/pictures/a.jpg"),
        ("sub/a.jpg", "images/sub/a.jpg"),
        ("a", "a.jpg"),
        ("a", "images/a.PNG"),
        ("4f/a0/12.jpg", "mp16/4f_a0_12.jpg"),
        ("4f/a0/12", "mp16/4f_a0_12.jpeg"),
        ("/mnt/theirs/a.jpg", "images/a.jpg"),
        ("photos\\a.jpg", "photos/a.jpg"),
        ("a.jpg", "../images/a.jpg"),
    ],
)
def test_where_pictures_are_found(tmp_path, value, file):
    folder = tmp_path / "t"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(jpeg(4))
    (folder / "t.csv").write_text(f"IMG_ID,LAT,LON\n{value},1.5,2.5\n")
    [record] = everything(open_source(str(folder / "t.csv")))
    assert record.pictures[0].read() == jpeg(4)


def test_pictures_that_are_nowhere_are_an_error_that_says_where_they_were_sought(tmp_path):
    (tmp_path / "t.csv").write_text("image,lat,lon\na.jpg,1,2\n")
    with pytest.raises(DataError, match=r"none of 1 rows' pictures is found \(the first: image='a.jpg'\); looked in"):
        open_source(str(tmp_path / "t.csv"))


def test_pictures_on_the_web_are_an_error_that_says_so(tmp_path):
    (tmp_path / "t.csv").write_text("image,lat,lon\nhttps://host/a.jpg,1,2\n")
    with pytest.raises(DataError, match="addresses on the web; fetch them first"):
        open_source(str(tmp_path / "t.csv"))


def test_a_set_of_which_little_was_fetched_is_read(tmp_path):
    table = write_set(tmp_path, 500)
    for i in range(500):
        if i % 50 != 7:
            (tmp_path / "images" / f"p{i}.jpg").unlink()
    items = everything(open_source(str(table)))
    assert [i.key for i in items if isinstance(i, Record)] == [f"p{i}" for i in range(7, 500, 50)]
    assert sum(isinstance(i, Skip) for i in items) == 490


def test_a_folder_as_im2gps3k_comes(tmp_path):
    (tmp_path / "im2gps3ktest").mkdir()
    names = [f"{i}_3c6_{i}@N00.jpg" for i in range(5)]
    for i, name in enumerate(names):
        (tmp_path / "im2gps3ktest" / name).write_bytes(jpeg(i))
    rows = "".join(f"{name},{i},1\n" for i, name in enumerate(names))
    (tmp_path / "im2gps3k_places365.csv").write_text(f"IMG_ID,LAT,LON\n{rows}")
    (tmp_path / "classes.csv").write_text("name,id\nabbey,3\n")
    records = everything(open_source(str(tmp_path)))
    assert [r.key for r in records] == names
    assert [r.pictures[0].read() for r in records] == [jpeg(i) for i in range(5)]


def test_two_tables_of_the_same_pictures_must_be_told_apart(tmp_path):
    write_set(tmp_path, 3)
    shutil.copy(tmp_path / "set.csv", tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"2 tables .* name its pictures: other\.csv, set\.csv\. Give the path of one"):
        open_source(str(tmp_path))
    assert len(everything(open_source(str(tmp_path / "other.csv")))) == 3


def test_a_large_table_is_read_once_and_kept_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "cache"))
    table = write_set(tmp_path, 200)
    table.write_text(table.read_text().replace("p7,7.5", "p7,extra,7.5").replace("p9,9.5,9.25,NA,p9.jpg", "p9,9.5"))
    plain = open_source(str(table))
    monkeypatch.setattr(csvtable, "_KEEP_BYTES", 0)
    monkeypatch.setattr(csvtable, "_BLOCK_BYTES", 1000)
    first = open_source(str(table))
    assert everything(first) == everything(plain)
    assert first.identity() == plain.identity()
    with monkeypatch.context() as patch:
        patch.setattr(csvtable, "_read_rows", None)  # a second reading would fail
        again = open_source(str(table))
    assert again.identity() == first.identity()
    assert everything(again) == everything(first)
    table.write_text("id,lat,lon,image\np1,3,4,p1.jpg\n")
    assert len(everything(open_source(str(table)))) == 1
    monkeypatch.setenv("GEOSPOT_CACHE", str(table / "no folder"))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert len(everything(open_source(str(table)))) == 1


def test_parts_of_different_tables_have_different_names(tmp_path):
    a, b = write_set(tmp_path / "a", 3), write_set(tmp_path / "b", 3)
    assert not set(open_source(str(a)).parts) & set(open_source(str(b)).parts)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not beside the project")
def test_real_photos():
    from geospot.data.fields import read_place
    from geospot.pictures import prepare_picture

    source = open_source(str(REAL))
    records = everything(source)
    assert len(records) == 33
    assert all(isinstance(record, Record) for record in records)
    places = [read_place(record.fields) for record in records]
    assert places[0].country == "IN"
    for record in records:
        picture, form = prepare_picture(record.pictures[0].read())
        assert form == "jpeg"
        assert len(picture) > 1000
    assert json.dumps(source.parts)
