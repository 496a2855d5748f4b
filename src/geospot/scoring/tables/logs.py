"""Logs of other evaluators as rows, without their packages: Inspect's (`.eval`: a zip of a JSON file per sample) and
the episodes of verifiers (`traces.jsonl`).
"""

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geospot.errors import TableError

_ZSTD = 93  # the number of Zstandard among the compressions of zip


def read_inspect_log(path: Path) -> list[tuple[int, dict]]:
    """(number, row) of each sample: `id`, `epoch`, `target`, `metadata`, `output`, `error`; TableError for no log."""
    try:
        rows = list(_samples(path))
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, NotImplementedError) as error:
        raise TableError(f"{path}: not a whole log of Inspect ({error})") from None
    if not rows:
        raise TableError(f"{path}: a log of Inspect without samples; it was written before any was finished")
    rows.sort(key=lambda row: row.get("epoch") or 1)
    return list(enumerate(map(_row, rows), start=1))


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(path) as log:
        for entry in log.infolist():
            if entry.filename.startswith("samples/") and entry.filename.endswith(".json"):
                packed = entry.compress_type == _ZSTD
                yield json.loads(_unpacked(path, entry) if packed else log.read(entry))


def _unpacked(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """An entry compressed with Zstandard, as Inspect writes them; Python's own zipfile knows it from 3.14 on."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
        file.seek(name + extra, 1)
        data = file.read(entry.compress_size)
    try:
        import zstandard
    except ImportError:
        return _unpacked_by_pyarrow(path, data, entry.file_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
            return stream.read()
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _unpacked_by_pyarrow(path: Path, data: bytes, size: int) -> bytes:
    try:
        import pyarrow
    except ImportError:
        raise TableError(
            f"{path}: a log of Inspect is compressed with Zstandard, which Python reads from 3.14 on; "
            "`pip install zstandard`, or write it as JSON: inspect log convert --to json"
        ) from None
    return pyarrow.decompress(data, decompressed_size=size, codec="zstd", asbytes=True)


def _row(sample: dict[str, Any]) -> dict[str, Any]:
    """What an evaluation needs of a sample; `output` is empty where the model's call failed."""
    row = {key: sample.get(key) for key in ("id", "epoch", "target", "metadata", "output", "error")}
    if isinstance(row["error"], dict):
        row["error"] = str(row["error"].get("message", "error"))
    return row


def episode_row(value: Any, seen: Counter[str]) -> Any:
    """An episode of verifiers as a row: `id` of its task, `epoch`, `metadata`, `messages`, `finish_reason`, `error`; of
    the first agent, where there are several. What is no episode comes back as it is. `seen` counts by task.
    """
    task, traces = (value.get("task"), value.get("traces")) if isinstance(value, dict) else (None, None)
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict) or not isinstance(traces, list):
        return value
    if not all(isinstance(one, dict) for one in traces):
        return value
    data = task["data"]
    trace = traces[0] if traces else {}
    named = (task.get("key"), data.get("id"), data.get("idx"))
    key = next((str(name) for name in named if name not in (None, "")), None)
    seen[str(key)] += 1
    nodes, calls, errors = (_objects(trace.get(name)) for name in ("nodes", "calls", "errors"))
    answered = [call for call in calls if not call.get("error")]
    errors = errors or _objects(value.get("errors"))
    return {
        "id": key,
        "epoch": seen[str(key)],
        "metadata": {name: part for name, part in data.items() if name != "prompt"},  # its pictures are in there
        "messages": [node["message"] for node in nodes if "message" in node],
        "finish_reason": answered[-1].get("finish_reason") if answered else None,
        "error": str(errors[-1].get("message") or "error") if errors else None,
    }


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
