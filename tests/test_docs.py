"""The notebook runs and prints what it shows; the site has every page; pictures in the README are small."""

import importlib.util
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notebook_script():
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "scripts" / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_prints_what_it_shows(tmp_path):
    """If a change is meant: python scripts/notebook.py."""
    script = notebook_script()
    notebook = json.loads(script.NOTEBOOK.read_text(encoding="utf-8"))
    assert len(script.code_cells(notebook)) == 10 - 1  # and a cell of words before them
    assert script.printed(notebook, tmp_path) == script.stored(notebook)
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "map.html").is_file()


def test_every_page_of_the_docs_is_in_the_site_s_menu():
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_pictures_are_small_and_described():
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert {picture.name for picture in pictures} == {"report.png", "guess.png", "watch.png", "play.png", "photo.png"}
    assert sum(picture.stat().st_size for picture in pictures) < 500_000
    readme = (ROOT / "README.md").read_text()
    for picture in pictures:
        assert re.search(rf"!\[[^\]]{{20,}}\]\(docs/images/{picture.name}\)", readme), picture.name


def test_the_example_of_rescoring_prints_what_the_page_says(tmp_path, capsys, monkeypatch):
    from geospot import __main__ as geospot

    monkeypatch.chdir(ROOT / "docs" / "examples")
    geospot.main(["eval", "predictions=answers.jsonl", "references=constant", f"out={tmp_path}", "report=false"])
    printed = {line.rstrip() for stream in capsys.readouterr() for line in stream.splitlines()}
    page = (ROOT / "docs" / "rescoring.md").read_text()
    shown = re.findall(r"^    ((?:answers|WARNING|model|best constant).*)$", page, re.M)
    assert len(shown) == 7
    assert {line for line in shown if line not in printed} == set()
    strict = 0
    for line in (ROOT / "docs/examples/answers.jsonl").read_text().splitlines():
        text = json.loads(line)["response"]["choices"][0]["message"]["content"]
        strict += ",}" in text
    assert f"{strict} of these" in page.replace("Fourteen of", "14 of")
