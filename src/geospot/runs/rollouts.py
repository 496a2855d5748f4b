"""Every answer of every step in one SQLite file that can be queried while the run writes it."""

import json
import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from geospot.errors import RunError
from geospot.files import write_error


class RolloutRow(TypedDict, total=False):
    """One answer; the first five keys are required, the rest are NULL where left out or not finite."""

    split: str  # "train", "eval" or a set's name
    sample_key: str  # the picture
    group_index: int  # which picture of the step
    member_index: int  # which answer to that picture
    text: str  # the answer as the model wrote it
    true_lat: float  # degrees
    true_lon: float
    true_city: str
    true_region: str
    true_country: str
    lat: float  # degrees, as parsed; NULL where the answer could not be read
    lon: float
    error: str  # why the answer could not be read
    distance_km: float
    reward: float
    parts: Mapping[str, float]  # the reward's named parts, kept as JSON: `parts ->> 'country'` in SQL
    advantage: float
    n_tokens: int


_REQUIRED = ("split", "sample_key", "group_index", "member_index", "text")
_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL"}
_COLUMNS = {name: _TYPES.get(kind.__name__, "TEXT") for name, kind in RolloutRow.__annotations__.items()}
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS rollouts (step INTEGER NOT NULL, "
    + ", ".join(f"{name} {kind}{' NOT NULL' if name in _REQUIRED else ''}" for name, kind in _COLUMNS.items())
    + ", PRIMARY KEY (step, split, group_index, member_index))"
)
_INSERT = f"INSERT INTO rollouts VALUES (:step, {', '.join(f':{name}' for name in _COLUMNS)})"


class RolloutStore:
    """The writing side: one transaction a call, safe to use from several threads of one process."""

    def __init__(self, path: str | Path) -> None:
        """Open or make the file, in WAL mode so that readers never wait for the writer nor it for them."""
        self.path = Path(path)
        self._mutex = threading.Lock()
        self._base = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            self._base.execute("PRAGMA journal_mode=WAL")
            # FULL: a checkpoint recorded after this step must not outlive the step's rollouts in a power cut.
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise _explained(self.path, error) from error

    def add(self, step: int, rows: Iterable[Mapping[str, object]]) -> int:
        """Add the answers of one step (all of them or, on an error, none); returns how many."""
        values = [_row_values(step, row) for row in rows]
        try:
            self._transact(lambda: self._base.executemany(_INSERT, values))
        except sqlite3.IntegrityError as error:
            raise ValueError(
                f"{self.path}: an answer of step {step} is there already or given twice ({error}). An answer is "
                f"known by (step, split, group_index, member_index); to run step {step} again, rewind({step}) first"
            ) from error
        return len(values)

    def rewind(self, step: int) -> None:
        """Delete the answers of `step` and later."""
        self._transact(lambda: self._base.execute("DELETE FROM rollouts WHERE step >= ?", (step,)))

    def close(self) -> None:
        """Close the file (and fold the WAL into it, unless a reader still holds it)."""
        with self._mutex:
            self._base.close()

    def _transact(self, work: Callable[[], object]) -> None:
        with self._mutex:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                work()
                self._base.execute("COMMIT")
            except BaseException as error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
                    raise _explained(self.path, error) from error
                raise


def query_rollouts(
    path: str | Path, sql: str, params: Iterable[object] | Mapping[str, object] = (), *, wait_s: float = 30
) -> list[dict]:
    """Rows of a SELECT over a run's rollouts, as dicts; `path` is the run folder or its rollouts.sqlite.

    `wait_s`: for a file that another program has locked, before sqlite3.OperationalError.
    The connection is read-only: it can neither change nor block the run that writes.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "rollouts.sqlite"
    if not path.exists():
        raise FileNotFoundError(f"no rollouts at {path}; give the folder of a run that has made a step")
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        return _select(address, sql, params, wait_s)
    except sqlite3.OperationalError as error:
        # A WAL file in a folder that cannot be written opens only as immutable, which is true when no WAL is left.
        if "unable to open" not in str(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        return _select(f"{address}&immutable=1", sql, params, wait_s)


def _select(address: str, sql: str, params: Iterable[object] | Mapping[str, object], wait_s: float) -> list[dict]:
    base = sqlite3.connect(address, uri=True, timeout=wait_s)
    try:
        base.row_factory = sqlite3.Row
        return [dict(row) for row in base.execute(sql, params if isinstance(params, Mapping) else tuple(params))]
    finally:
        base.close()


def _row_values(step: int, row: Mapping[str, object]) -> dict[str, object]:
    """The row as SQLite takes it; a key that is unknown or missing is refused by name."""
    unknown, missing = row.keys() - _COLUMNS.keys(), [key for key in _REQUIRED if row.get(key) is None]
    if unknown or missing:
        raise ValueError(
            f"a rollout of step {step} has unknown keys {sorted(unknown)} and lacks {missing}; "
            f"allowed are {list(_COLUMNS)}, required the first {len(_REQUIRED)}"
        )
    return {"step": step} | {name: _plain(row.get(name)) for name in _COLUMNS}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return json.dumps({key: _plain(part) for key, part in value.items()}, ensure_ascii=False)
    if hasattr(value, "item"):
        value = value.item()  # SQLite would store a numpy integer as bytes
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair is no UTF-8
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _explained(path: Path, error: sqlite3.DatabaseError) -> Exception:
    """A disk that takes no more becomes the OSError of all writes; a file that is damaged or in use a RunError."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return write_error(path, error)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return RunError(
            f"{path} is damaged ({error}); put a copy of it back, or move it away: the run then goes on, and only the "
            "answers from here on are kept"
        )
    return RunError(f"{path} cannot be used: {error}")
