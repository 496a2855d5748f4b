"""Predictions files as they come: every kind of damage is an error or a warning that names the row."""

import contextlib
import gzip
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.errors import TableError
from geospot.scoring.tables import read_guesses, read_table_truths
from geospot.scoring.tables.columns import parse_columns
from geospot.scoring.tables.evaluations import evaluate_file
from geospot.scoring.tables.predictions import NOT_NUMBERS, OUT_OF_RANGE

GOOD = "id,lat,lon,true_lat,true_lon\na,48.8,2.3,48.85,2.35\nb,40,-74,40.7,-74.0\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name: str = "p.csv", encoding: str = "utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def read(path, **kwargs):
    guesses, truths, notes = read_guesses(path, **kwargs)
    return guesses, truths, "\n".join(notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(write, encoding):
    text = "id,lat,lon,country\ná,1,2,Côte d’Ivoire\nb,3,4,NA\nc,5,6,\n"
    guesses, truths, notes = read(write(text, encoding=encoding))
    assert guesses.keys == ["á", "b", "c"]
    assert guesses.labels["country"] == ["Côte d’Ivoire", "NA", None]  # Namibia is not missing
    assert truths is None
    assert ("UTF-16-LE" in notes) == (encoding == "utf-16-le")


def test_latin_1_is_read_and_pointed_out(write):
    guesses, _, notes = read(write("id,lat,lon,city\na,1,2,Bonn\nb,3,4,Köln\n", encoding="latin-1"))
    assert guesses.labels["city"] == ["Bonn", "Köln"]
    assert "row 3 is not UTF-8" in notes


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolons", "jsonl", "json", "json by key", "csv.gz"])
def test_formats_say_the_same(write, kind):
    rows = [{"id": "a", "lat": 48.5, "lon": 2.25}, {"id": "b", "lat": None, "lon": None}]
    path = {
        "csv": lambda: write("id,lat,lon\na,48.5,2.25\nb,,\n"),
        "tsv": lambda: write("id\tlat\tlon\na\t48.5\t2.25\nb\t\t\n", "p.tsv"),
        "semicolons": lambda: write("id;lat;lon\na;48,5;2,25\nb;;\n"),
        "jsonl": lambda: write("\n".join(map(json.dumps, rows)), "p.jsonl"),
        "json": lambda: write(json.dumps(rows), "p.json"),
        "json by key": lambda: write(json.dumps({r["id"]: {"lat": r["lat"], "lon": r["lon"]} for r in rows}), "p.json"),
        "csv.gz": lambda: write(gzip.compress(b"id,lat,lon\na,48.5,2.25\nb,,\n"), "p.csv.gz"),
    }[kind]()
    guesses, _, _ = read(path)
    assert guesses.keys == ["a", "b"]
    assert (guesses.lat[0], guesses.lon[0]) == (48.5, 2.25)
    assert guesses.failures == (None, "no coordinates")


def test_parquet_and_what_to_install_without_pyarrow(write, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(TableError, match=r"pip install '\.\[parquet\]'"):
        read(write(b"PAR1", "p.parquet"))
    monkeypatch.undo()
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"id": [1, 2], "lat": [5.0, None], "lon": [6.0, None]}), tmp_path / "p.parquet")
    guesses, _, _ = read(tmp_path / "p.parquet")
    assert guesses.keys == ["1", "2"]
    assert guesses.failures == (None, "no coordinates")
    with pytest.raises(TableError, match="not a Parquet file"):
        read(write(b"nonsense", "q.parquet"))


def test_raw_answers_are_read_as_a_model_s(write):
    rows = [{"id": 1, "response": "City: Lyon\nLatitude: 45.76\nLongitude: 4.84"}, {"id": 2, "response": "no idea"}]
    guesses, _, notes = read(write("\n".join(map(json.dumps, rows)), "p.jsonl"))
    assert guesses.lat[0] == 45.76
    assert guesses.labels["city"] == ["Lyon", None]
    assert guesses.failures[1] == "no coordinates"
    assert "row 2 (no coordinates): 'no idea'" in notes


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("id,latitude\na,1\n", "p.csv", "no column for the guess; it has id, latitude"),
        ("lat,lon\n1,2\n", "p.csv", "no column for the key"),
        ("", "p.csv", "empty"),
        ("id,lat,lon\n", "p.csv", "no row"),
        ("id,lat,lat,lon\na,1,1,1\n", "p.csv", "'lat' twice"),
        ("id,lat,lon\n,1,2\n", "p.csv", "row 2 has no id"),
        ("id,lat,lon\na,1,2\nb,1,1\na,5,6\n", "p.csv", "row 2 and row 4 are different guesses for 'a'"),
        ("[1, 2]", "p.json", "list of objects"),
        ("{", "p.json", "not JSON"),
        ("x", "p.xlsx", "ends in .csv"),
        ("not gzip", "p.csv.gz", "not a whole gzip"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_says_why(write, text, name, says):
    with pytest.raises(TableError, match=says.replace("[", r"\[")):
        read(write(text, name))


def test_what_is_odd_is_told_with_its_row(write):
    text = (
        'id,lat,lon\na,48.8,2.3\nb,north,2\nc,95,10\nd,10,200\na,48.8,2.3\ne,1,2,3\nf,"48.85° N","2,35 W"\ng,nan,NaN\n'
    )
    guesses, _, notes = read(write(text))
    assert guesses.keys == ["a", "b", "c", "d", "f", "g"]
    assert guesses.failures == (None, NOT_NUMBERS, OUT_OF_RANGE, None, None, "no coordinates")
    assert guesses.lon[3] == -160
    assert (guesses.lat[4], guesses.lon[4]) == (48.85, -2.35)
    for said in ("row 3: 'north'", "row 4 with latitude 95", "1 longitudes beyond 180", "row 6, which repeats row 2",
                 "row 7 with 4"):  # fmt: skip
        assert said in notes, said


def test_broken_lines_of_json_are_told(write):
    guesses, _, notes = read(write('{"id":"a","lat":1,"lon":2}\n{"id":"b","la\n', "p.jsonl"))
    assert guesses.keys == ["a"]
    assert "row 2" in notes


def test_whose_columns_are_whose(write):
    guesses, truths, _ = read(write("id,lat,lon,country,pred_lat,pred_lon,pred_country\na,1,2,NA,3,4,France\n"))
    assert (truths.lat[0], guesses.lat[0]) == (1, 3)
    assert truths.labels["country"] == ["NA"]
    assert guesses.labels["country"] == ["France"]
    guesses, truths, _ = read(write("img_id,Latitude,LNG,gt_lat,gt_lon,sub-region\na,1,2,3,4,Kent\n"))
    assert (truths.lat[0], guesses.lat[0], guesses.lon[0]) == (3, 1, 2)
    guesses, _, _ = read(write("who,y,x\na,1,2\n"), columns=parse_columns("key=who,lat=y,lon=x"))
    assert (guesses.lat[0], guesses.lon[0]) == (1, 2)
    with pytest.raises(TableError, match="prediction_columns=lat=z: no such column; it has who, y, x"):
        read(write("who,y,x\na,1,2\n"), columns={"lat": "z"})
    with pytest.raises(ValueError, match="must be ROLE=COLUMN"):
        parse_columns("latitude=y")


def test_only_the_first_candidate_of_a_picture_is_its_guess(write):
    guesses, _, notes = read(write("photo,rank,lat,lon,radius_km,probability\na,1,1,2,50,0.9\na,2,3,4,,\n"))
    assert guesses.keys == ["a"]
    assert (guesses.radius_km[0], guesses.probability) == (50, 0.9)
    assert "1 candidates of a rank below the first" in notes


def test_truths_that_look_swapped_or_contradict_themselves(write):
    rows = "\n".join(f"{i},{lon},{lat}" for i, (lat, lon) in enumerate([(35.7, 139.7), (-33.9, 151.2), (37.8, -122.4)]))
    with pytest.raises(TableError, match=r"look swapped: row 2 has latitude 139\.7, longitude 35\.7.*true_lat=lon"):
        read_table_truths(write("id,lat,lon\n" + rows))
    with pytest.raises(TableError, match="row 2 and row 3 give different places for 'a'"):
        read_table_truths(write("id,lat,lon\na,1,2\na,3,4\n"))
    truths, notes = read_table_truths(write("id,lat,lon\na,1,2\nb,0,0\nc,,5\n"))
    assert truths.keys == ["a"]
    assert "2 rows without a usable truth were left out, the first is row 3 with '0', '0'" in notes[0]


def test_swapped_guesses_are_pointed_out_on_the_terminal(write, capsys):
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(20, 60, 50), rng.uniform(-80, -60, 50)
    rows = "".join(f"{i},{b},{a},{a},{b}\n" for i, (a, b) in enumerate(zip(lat, lon, strict=True)))
    evaluate_file(write("id,lat,lon,true_lat,true_lon\n" + rows))
    assert "latitude and longitude of the guesses look swapped" in capsys.readouterr().err


def test_a_file_without_truths_says_what_to_give(write):
    with pytest.raises(TableError, match="give truth=FILE"):
        evaluate_file(write("id,lat,lon\na,1,2\n"))


@given(st.binary(max_size=200), st.sampled_from(["p.csv", "p.jsonl", "p.json", "p.tsv"]))
def test_no_file_is_a_surprise(tmp_path_factory, data, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    with contextlib.suppress(TableError):
        read_guesses(path)
