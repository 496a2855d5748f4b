"""The field's answer files, each kind made by hand in small: read without a script, scored right, failures named."""

import csv
import json
import random
import sys
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geospot import __main__ as geospot
from geospot.answer import Answer, parse_answer
from geospot.answer.endings import CUT_OFF, FILTERED, REFUSED, with_ending
from geospot.errors import TableError
from geospot.scoring.tables.columns import parse_columns
from geospot.scoring.tables.evaluations import evaluate_file
from geospot.scoring.tables.replies import read_cell

PLACES = [(45.76, 4.84), (48.85, 2.35), (52.52, 13.4), (41.9, 12.5)]
OFF = 0.1  # degrees north of the truth: 11.1 km


def said(i: int) -> str:
    lat, lon = PLACES[i]
    return f"Signs are French.\ncountry: France\nlat: {lat + OFF:.2f}\nlng: {lon:.2f}"


def strict_json(i: int) -> str:
    """As GeoBench's models write it: what a strict reader drops for a comma."""
    lat, lon = PLACES[i]
    return f'Sure!\n```json\n{{"country": "France", "lat": {lat + OFF:.2f}, "lon": {lon:.2f},}}\n```'


def point(i: int, names: str = "lat lon", off: float = 0.0) -> dict:
    lat, lon = PLACES[i]
    return dict(zip(names.split(), (round(lat + off, 2), lon), strict=True))


def completion(text: str, stop: str = "stop", **message) -> dict:
    return {
        "choices": [{"index": 0, "finish_reason": stop, "message": {"role": "assistant", "content": text, **message}}]
    }


def call(i: int) -> dict:
    arguments = json.dumps(point(i, "latitude longitude", OFF))
    return {"id": "c", "type": "function", "function": {"name": "guess", "arguments": arguments}}


def turn(content: object) -> list[dict]:
    asked = [{"type": "image_url", "image_url": {"url": "data:..."}}, {"type": "text", "text": "Where? lat: 0, lon: 0"}]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": content}]


THOUGHT = [{"type": "thinking", "thinking": "lat: 1.0\nlon: 1.0"}]
ROWS = {
    "nested coordinates": lambda i: {"id": i, "ground_truth": point(i, "lat lng"), "prediction": point(i, off=OFF)},
    "deep": lambda i: {"sample": {"file": f"{i}.jpg", "gps": point(i)}, "result": {"parsed": point(i, off=OFF)}},
    "output": lambda i: {"id": i, "output": said(i), "lat_true": PLACES[i][0], "lon_true": PLACES[i][1]},
    "solution_str": lambda i: {"id": i, "solution_str": said(i), "ground_truth": json.dumps(point(i))},
    "prediction": lambda i: {"image": f"{i}.jpg", "prediction": said(i), "target": list(PLACES[i])},
    "completion": lambda i: {"image_path": f"{i}.jpg", "completion": said(i), "solution": "{}, {}".format(*PLACES[i])},
    "answer": lambda i: {"image_path": f"{i}.jpg", "answer": said(i), "gt": point(i)},
    "response beside its answer": lambda i: {"id": i, "response": said(i), "answer": json.dumps(point(i))},
    "a data set with a response": lambda i: {"image": f"{i}.jpg", **point(i), "response": said(i)},
    "messages": lambda i: {"id": i, "meta": point(i), "messages": turn([{"type": "text", "text": said(i)}])},
    "messages in Python's writing": lambda i: {"id": i, "gt": point(i), "messages": str(turn(said(i)))},
    "conversations": lambda i: {
        "id": i, "gt": point(i), "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": said(i)}],
    },
    "chat completion": lambda i: {"custom_id": i, "gt": point(i), "response": completion(said(i))},
    "chat batch": lambda i: {
        "id": f"batch_req_{i}", "custom_id": i, "gt": point(i), "error": None,
        "response": {"status_code": 200, "request_id": "r", "body": completion(said(i))},
    },
    "chat tool call": lambda i: {"id": i, "gt": point(i), "response": completion("", tool_calls=[call(i)])},
    "responses api": lambda i: {
        "id": i, "gt": point(i), "response": {"status": "completed", "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "lat: 1.0, lon: 1.0"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said(i)}]},
        ]},
    },
    "responses api, tool call": lambda i: {"id": i, "gt": point(i), "response": {"output": [
        {"type": "function_call", "name": "guess", "arguments": call(i)["function"]["arguments"]}]}},
    "anthropic": lambda i: {"custom_id": i, "gt": point(i), "result": {"type": "succeeded", "message": {
        "role": "assistant", "stop_reason": "end_turn", "content": [*THOUGHT, {"type": "text", "text": said(i)}]}}},
    "anthropic tool": lambda i: {"id": i, "gt": point(i), "stop_reason": "tool_use", "role": "assistant", "content": [
        *THOUGHT, {"type": "tool_use", "name": "guess", "input": point(i, "latitude longitude", OFF)}]},
    "gemini": lambda i: {"key": i, "gt": point(i), "response": {"candidates": [{"finishReason": "STOP", "content": {
        "role": "model", "parts": [{"text": "lat: 1.0, lon: 1.0", "thought": True}, {"text": said(i)}]}}]}},
    "gemini tool": lambda i: {"key": i, "gt": point(i), "candidates": [{"finishReason": "STOP", "content": {
        "parts": [{"functionCall": {"name": "guess", "args": point(i, off=OFF)}}]}}]},
    "candidates": lambda i: {"id": i, "gt": point(i), "prediction": [
        {**point(i, off=5.0), "probability": 0.2}, {**point(i, off=OFF), "probability": 0.7}]},
    "candidates as text": lambda i: {"id": i, "gt": point(i), "response": json.dumps(
        [{**point(i, off=OFF), "confidence": "70%"}, {**point(i, off=5.0), "confidence": "20%"}])},
    "verl": lambda i: {"input": "user\nlat: 0.0, lon: 0.0", "output": said(i), "gts": json.dumps(point(i)),
                       "score": 1.0, "step": 3},
    "trl": lambda i: {"step": 1, "prompt": turn("")[:1], "completion": turn(said(i))[1:], "solution": point(i),
                      "reward": 0.5, "advantage": -1.0},
    "lmms-eval": lambda i: {
        "doc_id": i, "doc": {"image_id": f"{i}.jpg", **point(i)}, "target": json.dumps(point(i)), "arguments": ["?"],
        "resps": [[said(i)]], "filtered_resps": ["[invalid]"], "doc_hash": "f00", "input": "lat: 0.0, lon: 0.0",
    },
    "geobench": lambda i: {"image_id": i, "ground_truth": point(i, "lat lng"), "response": strict_json(i)},
    "imageo": lambda i: {"image_file": f"{i}.jpg", "gt": point(i), "error": None, "raw_response": json.dumps(
        {"reasoning": {"text_and_signage": "none"}, "reverse_geocoding": {
            "address": {"city": "Lyon", "country": "France"}, "coordinates": point(i, "latitude longitude", OFF)}})},
}  # fmt: skip


def lines(path, rows: list[dict]):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_each_kind_of_file_is_scored_without_a_script(kind, ending, tmp_path, capsys):
    rows = [ROWS[kind](i) for i in range(len(PLACES))]
    path = lines(tmp_path / "p.jsonl", rows)
    if ending == "json":
        path = tmp_path / "p.json"
        path.write_text(json.dumps({"model": "m", "results": rows}))
    found = evaluate_file(path)
    assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)
    assert found.summary["failure_rate"] == 0
    told = capsys.readouterr().err
    assert told.startswith(f"{path.name}: key: ")
    assert ("none, so rows are numbered" in told) == (kind in ("verl", "trl"))


OWNERS = [
    ("ground_truth_coordinates", "predicted_coordinates"), ("gt_coords", "pred_coords"), ("truth_point", "model_point"),
    ("actual_gps", "guess_gps"), ("true_location", "predicted_location"),
]  # fmt: skip


@pytest.mark.parametrize(("true", "said_as"), OWNERS)
@pytest.mark.parametrize("shape", ["objects", "pairs", "columns"])
def test_a_noun_between_whose_and_what_changes_nothing(true, said_as, shape, tmp_path):
    """Else the truth passed for the guess where it came first, beside a file with the truths: a median of 0 km."""
    rows = []
    for i in range(len(PLACES)):
        places = {true: point(i), said_as: point(i, off=OFF)}
        if shape == "columns":
            places = {f"{name}_{axis}": v for name, place in places.items() for axis, v in place.items()}
        elif shape == "pairs":
            places = {name: list(place.values()) for name, place in places.items()}
        rows.append({"id": i, **places})
    path = lines(tmp_path / "p.jsonl", rows)
    truths = lines(tmp_path / "truths.jsonl", [{"id": i, **point(i)} for i in range(len(PLACES))])
    for truth_file in (None, truths):
        found = evaluate_file(path, truth_file=truth_file)
        assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)


def test_objects_whose_names_do_not_say_whose_coordinates_they_hold_are_not_guessed_at(tmp_path):
    rows = [{"id": i, "first": point(i), "second": point(i, off=OFF)} for i in range(len(PLACES))]
    path = lines(tmp_path / "p.jsonl", rows)
    truths = lines(tmp_path / "truths.jsonl", [{"id": i, **point(i)} for i in range(len(PLACES))])
    with pytest.raises(
        TableError, match=r"first\.lat and second\.lat may both be the lat; say which: prediction_columns"
    ):
        evaluate_file(path, truth_file=truths)
    found = evaluate_file(path, truth_file=truths, columns="lat=second.lat,lon=second.lon")
    assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)
    same = lines(tmp_path / "same.jsonl", [{**row, "first": row["second"]} for row in rows])
    assert evaluate_file(same, truth_file=truths).summary["median_km"] == pytest.approx(11.12, abs=0.02)


def shaped(rows: list[dict]) -> dict[str, str]:
    """The same rows as other programs write them; each is a whole file."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    by_number = {name: {str(i): value for i, value in enumerate(values)} for name, values in columns.items()}
    return {
        "lines.json": "\n".join(map(json.dumps, rows)),
        "list.jsonl": json.dumps(rows, indent=1),
        "nested.json": json.dumps({"results": {"rows": rows, "model": "m"}}),
        "pandas.json": json.dumps(by_number),
        "columns.json": json.dumps(columns),
        "split.json": json.dumps({"columns": list(columns), "index": list(range(len(rows))),
                                  "data": [list(row.values()) for row in rows]}),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["lines.json", "list.jsonl", "nested.json", "pandas.json", "columns.json", "split.json"]
)
@pytest.mark.parametrize("kind", ["geobench", "imageo"])
def test_rows_are_found_in_every_shape_of_a_file(name, kind, tmp_path):
    (tmp_path / name).write_text(shaped([ROWS[kind](i) for i in range(len(PLACES))])[name])
    found = evaluate_file(tmp_path / name)
    assert len(found.truths) == len(PLACES)
    assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)


def test_rows_that_lack_what_others_have_are_counted_and_named(tmp_path, capsys):
    rows = [{"image": f"{i}.jpg", "gt": point(i), "response": said(i)} for i in range(len(PLACES))]
    del rows[1]["image"]
    found = evaluate_file(lines(tmp_path / "a.jsonl", rows))
    assert found.truths.keys == ["0.jpg", "row 2", *(f"{i}.jpg" for i in range(2, len(PLACES)))]
    assert "1 rows have no image and are called by their number, the first is row 2" in capsys.readouterr().err
    truth = [{"image": f"{i}.jpg", **point(i)} for i in range(len(PLACES))]
    answers = [{"image": row.get("image"), "response": row["response"]} for row in rows]
    found = evaluate_file(lines(tmp_path / "b.jsonl", answers), truth_file=lines(tmp_path / "truth.jsonl", truth))
    assert found.predictions.failure_counts() == {"no answer in the file": 1}
    assert "1 rows have no image and were left out, the first is row 2" in capsys.readouterr().err


def test_numbers_that_no_computer_holds_and_encodings_that_few_write(tmp_path):
    rows = [{"id": i, "pred": point(i), "gt": point(i)} for i in range(len(PLACES))]
    rows[0]["pred"]["lat"] = 10**400
    found = evaluate_file(lines(tmp_path / "a.jsonl", rows))
    assert found.predictions.failure_counts() == {"coordinates are not numbers": 1}
    text = "id,true_lat,true_lon,lat,lon\n" + "".join(f"{i},{a},{b},{a},{b}\n" for i, (a, b) in enumerate(PLACES))
    for encoding in ("utf-32", "utf-16", "utf-8-sig"):
        (tmp_path / "b.csv").write_text(text, encoding=encoding)
        assert evaluate_file(tmp_path / "b.csv").summary["median_km"] == 0
    (tmp_path / "c.csv").write_text("id,true_lat,true_lon,lat,lon\n1,0,0,1,2\n2,95,400,1,2\n")
    with pytest.raises(TableError, match="no row has true coordinates that can be used"):
        evaluate_file(tmp_path / "c.csv")


def test_objects_over_several_lines_are_read_as_jq_prints_them(tmp_path, capsys):
    rows = [{"id": i, "gt": point(i), "response": said(i)} for i in range(len(PLACES))]
    for name, rest in (("a.jsonl", ""), ("a.json", ""), ("cut.jsonl", '{\n "id": 9,\n "resp')):
        (tmp_path / name).write_text("\n".join(json.dumps(row, indent=2) for row in rows) + "\n" + rest)
        found = evaluate_file(tmp_path / name)
        assert len(found.truths) == len(PLACES)
        assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)
    assert "what begins at row 33 is no whole JSON object and was left out" in capsys.readouterr().err
    broken = [json.dumps(row) for row in rows]
    broken[0] += " and more"  # one object a line, as before: only the broken line is lost
    (tmp_path / "b.jsonl").write_text("\n".join(broken))
    assert len(evaluate_file(tmp_path / "b.jsonl").truths) == len(PLACES) - 1
    assert "1 lines are no JSON objects and were left out, the first is row 1" in capsys.readouterr().err


def test_the_line_above_the_header_in_which_excel_names_its_delimiter(tmp_path, capsys):
    text = "sep=;\r\nid;true_lat;true_lon;lat;lon\r\n" + "".join(
        f"{i};{a};{b};{a + OFF:.2f};{b}\r\n".replace(".", ",") for i, (a, b) in enumerate(PLACES)
    )
    (tmp_path / "a.csv").write_text(text + "9;;;1,0;2,0\r\n", newline="")
    assert evaluate_file(tmp_path / "a.csv").summary["median_km"] == pytest.approx(11.12, abs=0.02)
    assert "1 rows without a usable truth were left out, the first is row 7" in capsys.readouterr().err


def test_what_is_no_table_is_refused_with_the_remedy(tmp_path):
    for name, data, remedy in (
        ("a.csv", b"\x1f\x8b\x08", "holds gzip: give it the ending .gz"),
        ("b.csv", b"PK\x03\x04", "holds a zip archive .*save the sheet as CSV"),
        ("c.jsonl", b"PAR1", "give it the ending .parquet"),
        ("d.csv.zst", b"", "not in '.zst'; unpack it first"),
        ("e.xlsx", b"", "not in '.xlsx'; save the sheet as CSV"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TableError, match=remedy):
            evaluate_file(tmp_path / name)
    with pytest.raises(TableError, match="no plain file"):
        evaluate_file("/dev/null")


def test_lists_in_columns_of_coordinates_count_as_failed_and_are_named(tmp_path, capsys):
    rows = [{"id": i, "gt": point(i), "pred_lat": [1.0, 2.0], "pred_lon": [3.0, 4.0]} for i in range(len(PLACES))]
    found = evaluate_file(lines(tmp_path / "p.jsonl", rows))
    assert found.predictions.failure_counts() == {"coordinates are not numbers": len(PLACES)}
    assert "the first is row 1: [1.0, 2.0] (coordinates are not numbers)" in capsys.readouterr().err


def test_text_that_parquet_holds_as_bytes_is_text(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"image": f"{i}.jpg".encode(), "gt": point(i), "response": said(i).encode()} for i in range(len(PLACES))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = evaluate_file(tmp_path / "p.parquet")
    assert found.truths.keys[0] == "0.jpg"
    assert found.predictions.failure_counts() == {}


def test_addresses_match_the_files_that_they_name(tmp_path):
    rows = [{"url": f"https://a.org/p/{i}%20%C3%A9.jpg?size=big", "response": said(i)} for i in range(len(PLACES))]
    truth = lines(tmp_path / "t.jsonl", [{"image": f"photos/{i} \u00e9.jpg", **point(i)} for i in range(len(PLACES))])
    found = evaluate_file(lines(tmp_path / "p.jsonl", rows), truth_file=truth)
    assert found.predictions.failure_counts() == {}


def test_truths_and_guesses_in_radians_are_warned_of(tmp_path, capsys):
    places = [(-60 + 5.5 * i, -170 + 15.5 * i) for i in range(22)]
    rows = [{"id": i, "true_lat": a, "true_lon": b, "lat": a / 57.29578, "lon": b / 57.29578}
            for i, (a, b) in enumerate(places)]  # fmt: skip
    evaluate_file(lines(tmp_path / "p.jsonl", rows))
    assert "the guesses of p look like radians" in capsys.readouterr().err


def test_what_lmms_eval_writes_where_a_request_failed_is_no_answer_to_read(tmp_path):
    rows = [ROWS["lmms-eval"](i) for i in range(len(PLACES))]
    rows[1]["resps"] = [["[LMMS_EVAL_REQUEST_FAILED after 5 retries] Error code: 500, lat: 1.0, lon: 2.0"]]
    rows[2]["resps"] = [[None]]
    found = evaluate_file(lines(tmp_path / "p.jsonl", rows))
    assert found.predictions.failure_counts() == {"request failed": 1, "empty": 1}


def write_log(path, samples: list[dict], compression: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as log:
        log.writestr("header.json", json.dumps({"version": 2, "eval": {"task": "geo"}}))
        for sample in samples:
            log.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return path


def sample(i: int, epoch: int = 1, text: str = "", stop: str = "stop") -> dict:
    lat, lon = PLACES[i]
    return {
        "id": f"{i}.jpg", "epoch": epoch, "input": "?", "target": f"{lat}, {lon}", "metadata": {"source": "made"},
        "messages": turn(text), "output": {"model": "m", "completion": text or said(i), "choices": [
            {"message": {"role": "assistant", "content": text or said(i)}, "stop_reason": stop}]},
    }  # fmt: skip


def test_a_log_of_inspect_is_read_with_its_epochs_and_endings(tmp_path, capsys):
    samples = [
        sample(0),
        sample(0, 2, "no"),
        sample(1),
        sample(2, 1, "I", "max_tokens"),
        sample(3, 1, " ", "content_filter"),
    ]
    found = evaluate_file(write_log(tmp_path / "log.eval", samples))
    assert found.truths.keys == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert found.predictions.failure_counts() == {CUT_OFF: 1, FILTERED: 1}
    assert found.summary["acc_25km"] == 0.5
    assert "1 answers of further epochs were left out" in capsys.readouterr().err
    for bad in (b"PK\x03\x04 torn", b""):
        (tmp_path / "bad.eval").write_bytes(bad)
        with pytest.raises(TableError, match="not a whole log of Inspect"):
            evaluate_file(tmp_path / "bad.eval")
    with pytest.raises(TableError, match="without samples"):
        evaluate_file(write_log(tmp_path / "begun.eval", []))


def episode(i: int, text: str | None = None, stop: str = "stop") -> dict:
    """As verifiers 0.4 writes it: the task with its pictures, and the messages as nodes of a graph."""
    data = {"idx": i, "id": f"{i}.jpg", "prompt": turn("")[:1], **point(i), "country": "France"}
    nodes = [{"message": message, "sampled": bool(at)} for at, message in enumerate(turn(text or said(i)))]
    trace = {"id": "c0ffee", "nodes": nodes if stop else nodes[:1], "errors": [] if stop else [{"message": "gone"}],
             "calls": [{"node": 1, "model": "m", "finish_reason": stop, "error": None}] if stop else []}  # fmt: skip
    return {"id": f"f00{i}", "env": {"id": "e"}, "task": {"type": "T", "data": data, "key": f"{i}.jpg"},
            "run": {"id": "r"}, "traces": [trace], "errors": []}  # fmt: skip


def test_the_episodes_of_verifiers_are_read_with_their_endings_and_rollouts(tmp_path, capsys):
    rows = [episode(0), episode(0, "no"), episode(1, "I", "length"), episode(2, stop=""), episode(3)]
    found = evaluate_file(lines(tmp_path / "traces.jsonl", rows))
    assert found.truths.keys == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert found.predictions.failure_counts() == {CUT_OFF: 1, "gone": 1}
    assert found.summary["acc_25km"] == 0.5
    assert "1 answers of further epochs were left out" in capsys.readouterr().err


def test_an_episode_with_other_shapes_in_it_loses_no_row(tmp_path):
    """Errors as an object, calls as text, an `idx` of 0 in place of a name, none at all."""
    rows = [episode(i) for i in range(4)]
    rows[0]["traces"][0] |= {"errors": {"message": "gone"}, "calls": "none"}
    rows[1]["traces"][0]["nodes"].append("torn")
    for row, data in ((rows[2], {"idx": 0}), (rows[3], {})):
        del row["task"]["key"]
        row["task"]["data"] = {name: part for name, part in row["task"]["data"].items() if name not in ("id", "idx")}
        row["task"]["data"] |= data
    found = evaluate_file(lines(tmp_path / "traces.jsonl", rows))
    assert found.truths.keys == ["0.jpg", "1.jpg", "0", "row 4"]
    assert found.predictions.failure_counts() == {}


def packed_by_zstd(path, samples: list[dict]):
    """As Inspect writes it: entries compressed with Zstandard (method 93), which zipfile cannot write before 3.14."""
    zstandard = pytest.importorskip("zstandard")
    texts = [json.dumps(sample).encode() for sample in samples]
    with zipfile.ZipFile(path, "w") as log:
        for sample, text in zip(samples, texts, strict=True):
            log.writestr(f"samples/{sample['id']}_epoch_1.json", zstandard.ZstdCompressor().compress(text))
    data, at = bytearray(path.read_bytes()), 0
    for text in texts:
        at = data.index(b"PK\x01\x02", at + 1)
        data[at + 10 : at + 12] = (93).to_bytes(2, "little")
        data[at + 24 : at + 28] = len(text).to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("reader", ["zstandard", "pyarrow", "neither"])
def test_logs_of_inspect_are_unpacked_by_what_is_installed(reader, tmp_path, monkeypatch):
    path = packed_by_zstd(tmp_path / "log.eval", [sample(i) for i in range(4)])
    if reader != "zstandard":
        monkeypatch.setitem(sys.modules, "zstandard", None)
    if reader == "neither":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(TableError, match="pip install zstandard"):
            evaluate_file(path)
    else:
        assert evaluate_file(path).summary["acc_25km"] == 1


HEAD = (
    "image_name", "model_response", "label_city", "label_country", "predicted_city", "predicted_country", "label_lat",
    "label_long", "predicted_lat", "predicted_long", "distance",
)  # fmt: skip


def location_inference(path, order: list[int], off: float, key: str = "image_name"):
    rows = [
        [f"imgs/{i}.jpg", said(i % 4), "Lyon", "France", "Lyon", "France", 40 + i, i, 40 + i + off, i, 1] for i in order
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[key, *HEAD[1:]], *rows])


def test_shuffled_files_of_location_inference_pair_by_their_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = list(range(12))
    random.Random(1).shuffle(order)
    location_inference(tmp_path / "gpt.csv", list(range(12)), 0.1)
    location_inference(tmp_path / "o1.csv", order, 0.2)
    geospot.main(["compare", "gpt.csv", "o1.csv", "resamples=100"])
    out, err = capsys.readouterr()
    assert "12 pictures in common" in out
    assert "gpt.csv: key: image_name; guess: predicted_lat, predicted_long" in err
    assert "truth: label_lat, label_long, label_country, label_city" in err
    assert "11 [" in out or "11 " in out
    assert "22 [" in out or "22 " in out
    location_inference(tmp_path / "odd.csv", order, 0.2, key="Bild")  # a name that nobody knows: numbered, and refused
    with pytest.raises(SystemExit):
        geospot.main(["compare", "gpt.csv", "odd.csv", "resamples=100"])
    assert "odd.csv: key: none, so rows are numbered" in capsys.readouterr().err


def test_what_is_named_by_hand_goes_before_what_is_found(tmp_path):
    rows = [{"who": {"n": i}, "parsed": {"lat": 0.0, "lon": 0.0}, "raw": {"choices": [{"message": said(i)}]}, "at": [
        {"p": point(i)}]} for i in range(4)]  # fmt: skip
    columns = "key=who.n,text=raw.choices.0.message,true_lat=at.0.p.lat,true_lon=at.0.p.lon"
    found = evaluate_file(lines(tmp_path / "p.jsonl", rows), columns=columns)
    assert found.truths.keys == ["0", "1", "2", "3"]
    assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)
    columns = "key=who.n,text=raw.choices.0.message,truth=at.0.p"
    assert evaluate_file(tmp_path / "p.jsonl", columns=columns).summary["acc_25km"] == 1
    with pytest.raises(TableError, match=r"text=raw\.choices\.7: no such column"):
        evaluate_file(tmp_path / "p.jsonl", columns="text=raw.choices.7")
    with pytest.raises(TableError, match="truth=who: its cells hold no coordinates"):
        evaluate_file(tmp_path / "p.jsonl", columns="truth=who")
    assert parse_columns("truth=a.b,stop=c") == {"truth": "a.b", "stop": "c"}


@pytest.mark.parametrize("agree", [True, False])
def test_coordinates_beside_a_text_are_the_guess_where_the_text_says_them_and_else_the_truth(tmp_path, agree):
    """Scored as a guess, a data set's own coordinates would be perfect."""
    rows = [{"image": f"{i}.jpg", **point(i, off=OFF if agree else 0), "response": said(i)} for i in range(4)]
    truth = lines(tmp_path / "t.jsonl", [{"image": f"{i}.jpg", **point(i)} for i in range(4)])
    found = evaluate_file(lines(tmp_path / "p.jsonl", rows), truth_file=truth)
    assert found.summary["median_km"] == pytest.approx(11.12, abs=0.02)


@pytest.mark.parametrize(
    ("text", "stop", "reason"),
    [
        ("I'm sorry, but I can't help with identifying where this photo was taken.", None, REFUSED),
        ("I cannot determine the exact location of this image.", "stop", REFUSED),
        ("抱歉，我无法确定这张照片的位置。", None, REFUSED),
        ("", "refusal", REFUSED),
        ("", "content_filter", FILTERED),
        ("", "SAFETY", FILTERED),
        ("The light suggests", "FinishReason.PROHIBITED_CONTENT", FILTERED),
        ("The light suggests", "length", CUT_OFF),
        ("The light suggests", "MAX_TOKENS", CUT_OFF),
        ('{"country": "France", "lat"', None, CUT_OFF),
        ("<think>The signs are", None, CUT_OFF),
        ("City: Lyon\nLatitude: 45.7\nLongitude: 4", "length", CUT_OFF),  # on its way to 4.8
        ("City: Lyon\nLatitude: 45.7\nLongitude: 4.8\nCity", "length", None),
        ("I can't be sure, but: 45.76, 4.84", "stop", "no coordinates"),  # a guess that cannot be read, no refusal
        ("I can't tell exactly. Latitude: 45.76 Longitude: 4.84", "stop", None),
        ("Somewhere in France.", "stop", "no coordinates"),
        ("lat: 145.0\nlon: 4.8", "stop", "latitude out of range"),
        ("", None, "empty"),
    ],
)
def test_refusals_filters_cuts_and_what_cannot_be_read_are_told_apart(text, stop, reason):
    assert with_ending(parse_answer(text), text, stop).error == reason


def test_why_requests_failed_is_in_the_table_of_failures(tmp_path):
    rows = [
        {"id": 0, "gt": point(0), "response": completion(said(0))},
        {"id": 1, "gt": point(1), "response": completion("No.", "content_filter")},
        {"id": 2, "gt": point(2), "response": {"status_code": 429, "body": {"error": {"code": "rate_limit"}}}},
        {"id": 3, "gt": point(3), "response": completion(None, refusal="I can't help with that.")},
    ]
    found = evaluate_file(lines(tmp_path / "p.jsonl", rows))
    assert found.predictions.failure_counts() == {FILTERED: 1, "request failed (429)": 1, REFUSED: 1}
    rows = [{"id": i, "gt": point(i), "result": {"type": kind, "error": {"type": "overloaded_error"}}} for i, kind in
            enumerate(["errored", "expired"])] + [{"id": 2, "gt": point(2), "result": completion(said(2))}]  # fmt: skip
    found = evaluate_file(lines(tmp_path / "q.jsonl", rows))
    assert found.predictions.failure_counts() == {"request failed (overloaded_error)": 2}
    feedback = [{"id": 0, "gt": point(0), "response": {"promptFeedback": {"blockReason": "SAFETY"}}},
                {"id": 1, "gt": point(1), "response": {"candidates": [{"finishReason": "RECITATION"}]}},
                {"id": 2, "gt": point(2), "response": {"output": [], "incomplete_details": {
                    "reason": "max_output_tokens"}}},
                {"id": 3, "gt": point(3), "response": completion(said(3))}]  # fmt: skip
    found = evaluate_file(lines(tmp_path / "g.jsonl", feedback))
    assert found.predictions.failure_counts() == {FILTERED: 2, CUT_OFF: 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["assistant", "stop", said(0)]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["role", "content", "choices", "message", "parts", "candidates", "output", "type", "text",
                         "error", "function", "tool_calls", "lat", "lon", "finish_reason", "response", "status_code"]),
        inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_no_cell_is_a_surprise(value):
    reply = read_cell(value)
    assert isinstance(reply.text, str)
    assert isinstance(with_ending(parse_answer(reply.text), reply.text, reply.stop), Answer)
