#!/usr/bin/env python
"""Run the cells of docs/tour.ipynb in order and store what they print.

    python scripts/notebook.py

No Jupyter is needed; the test suite runs the same cells and compares what they print with what is stored.
"""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"


def printed(notebook: dict, folder: Path) -> list[str]:
    """What each code cell prints when all run in order in one namespace, with `folder` as the working directory."""
    before, space, texts = Path.cwd(), {"__name__": "__main__"}, []
    os.chdir(folder)
    try:
        for number, cell in enumerate(code_cells(notebook), start=1):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
            texts.append(out.getvalue())
    finally:
        os.chdir(before)
    return texts


def code_cells(notebook: dict) -> list[dict]:
    """The cells that hold Python."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def stored(notebook: dict) -> list[str]:
    """What the file says each code cell printed."""
    return ["".join(line for out in cell["outputs"] for line in out["text"]) for cell in code_cells(notebook)]


def main() -> None:
    """Write the notebook with its outputs."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        texts = printed(notebook, Path(folder))
    for number, (cell, text) in enumerate(zip(code_cells(notebook), texts, strict=True), start=1):
        lines = text.splitlines(keepends=True)
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
