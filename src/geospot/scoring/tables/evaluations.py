"""A predictions file as an evaluation; its warnings are printed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from geospot.errors import TableError
from geospot.scoring.guesses import Guesses
from geospot.scoring.join import join, swapped_notes
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.tables.columns import parse_columns
from geospot.scoring.tables.predictions import read_guesses, read_table_truths
from geospot.scoring.truths import Truths


def evaluate_file(
    path: str | Path,
    *,
    truths: Truths | None = None,
    truth_file: str | Path | None = None,
    columns: str = "",
    scale: str | float = "world",
    name: str | None = None,
) -> Evaluation:
    """Score a predictions file against `truths`, `truth_file` or, with neither, the truths that it holds itself."""
    truths, guesses = read_pair(path, truths=truths, truth_file=truth_file, columns=columns, name=name)
    return judge(truths, guesses, scale=scale)


def read_pair(
    path: str | Path,
    *,
    truths: Truths | None = None,
    truth_file: str | Path | None = None,
    columns: str = "",
    name: str | None = None,
) -> tuple[Truths, Guesses]:
    """Truths and guesses over the same keys, with warnings printed."""
    chosen = parse_columns(columns)
    guesses, own, notes = read_guesses(predictions_path(path), chosen, name)
    if truth_file is not None:
        truths, told = read_table_truths(truth_file, chosen)
        notes = [*told, *notes]
    if truths is None:
        truths = own
    if truths is None:
        raise TableError(
            f"{path}: it holds guesses and no truths (true_lat, true_lon); give truth=FILE with a key and coordinates "
            "in each row, or data=SOURCE"
        )
    truths, guesses, joined = join(truths, guesses)
    if guesses.columns:
        taken = "; ".join(f"{what}: {column}" for what, column in guesses.columns.items())
        print(f"{Path(path).name}: {taken}", file=sys.stderr)
    warn([*notes, *joined, *swapped_notes(truths, guesses), *unknown_notes(truths)])
    return truths, guesses


def predictions_path(path: str | Path) -> Path:
    """A predictions file; in place of it the folder of an evaluation may be given."""
    path = Path(path).expanduser()
    return path / "predictions.jsonl" if path.is_dir() else path


def unknown_notes(truths: Truths) -> list[str]:
    """A word on labels of the truths that the gazetteer does not know."""
    return [f"{n} labels of the truths name no known {level} and are not counted" for level, n in
            truths.unknown_labels.items()]  # fmt: skip


def warn(notes: Sequence[str]) -> None:
    """Tell the user."""
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
