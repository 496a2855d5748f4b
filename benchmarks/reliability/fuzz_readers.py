"""The readers of tars, CSVs, JSON and Parquet under a coverage-guided fuzzer.

    pip install atheris            # Python 3.11, Linux
    python benchmarks/reliability/fuzz_readers.py tar -max_total_time=150 corpus/tar
    python benchmarks/reliability/fuzz_readers.py csv|json|parquet|places ...

Whatever the bytes are, a reader gives records and skips or raises DataError or TableError; anything else is a find, as
is an input that takes longer than 10 s or 2 GB (libFuzzer's -timeout and -rss_limit_mb, set here). A find is written
to crash-*, timeout-* or oom-*; what was found so far lies in tests/data/readers and is read again by the tests.
"""

import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["geospot", "tarfile", "csv", "json"]):
    from geospot.answer.shapes import place_rows
    from geospot.data.fields import BadSample, Columns, read_place
    from geospot.data.records import Record
    from geospot.data.samples import SkipCounter
    from geospot.data.sources.csvtable import open_csv
    from geospot.data.sources.metadata import JsonTable
    from geospot.data.stream import read_places
    from geospot.data.tar import read_group, read_groups
    from geospot.errors import DataError, TableError
    from geospot.scoring.tables import read_guesses, read_table_truths

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-readers-"))
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"]


def tar(data: bytes) -> None:
    """In memory as over a network, and on disk; a record is read again from its own bytes.

    Headers are given the checksum that they should have: of mutated ones few would be read otherwise.
    """
    data = b"".join(_signed(data[i : i + 512]) for i in range(0, len(data), 512))
    (FOLDER / "x.tar").write_bytes(data)
    for item in read_groups(io.BytesIO(data), "x.tar"):
        if isinstance(item, Record):
            again = read_group(data[item.start : item.end], "x.tar", item.start)
            assert (again.fields, again.names) == (item.fields, item.names)
    with open(FOLDER / "x.tar", "rb") as file:
        for item in read_groups(file, "x.tar", 0, str(FOLDER / "x.tar")):
            if isinstance(item, Record):
                _place(item.fields)


def _signed(block: bytes) -> bytes:
    if len(block) < 512 or block[257:262] != b"ustar":
        return block
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def csv(data: bytes) -> None:
    """As data, then as predictions and as truths."""
    path = FOLDER / "x.csv"
    path.write_bytes(data)
    try:
        table = open_csv(path)
        for first in range(0, table.rows, 64):
            list(table.read(first, min(first + 64, table.rows)))
    except DataError:
        pass
    _as_predictions(path)


def parquet(data: bytes) -> None:
    """As data: rows with pictures, or beside them; then as predictions."""
    from geospot.data.sources import parquet as source

    path = FOLDER / "x.parquet"
    path.write_bytes(data)
    try:
        found = source.open_source(str(path), Columns(), None)
        list(read_places(found, Columns(), SkipCounter()))
    except DataError:
        pass
    _as_predictions(path)


def json_(data: bytes) -> None:
    """As metadata.json and as lines of it; then as predictions."""
    for name in ("x.json", "x.jsonl"):
        path = FOLDER / name
        path.write_bytes(data)
        try:
            table = JsonTable(path)
            for row in table.read(0, table.rows):
                _place(row)
        except DataError:
            pass
        _as_predictions(path)


def places(data: bytes) -> None:
    """JSON values of the fuzzer's own making: shapes of places."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    for row in place_rows(content) or ():
        _place(row)


def _place(fields: object) -> None:
    from geospot.data.fields import read_fields

    try:
        if isinstance(fields, dict | bytes):
            read_place(read_fields(fields))
    except BadSample:
        pass


def _as_predictions(path: Path) -> None:
    for read in (read_guesses, read_table_truths):
        with suppress(TableError):
            read(path)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "tar": tar,
    "csv": csv,
    "json": json_,
    "parquet": parquet,
    "places": places,
}


def main() -> None:
    """The first word names the target, the others are libFuzzer's."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"give one of {', '.join(TARGETS)}, then libFuzzer's options")
    warnings.simplefilter("ignore")
    target = TARGETS[sys.argv.pop(1)]
    given = {word.partition("=")[0] for word in sys.argv}
    atheris.Setup([*sys.argv, *(limit for limit in LIMITS if limit.partition("=")[0] not in given)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
