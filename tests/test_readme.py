"""The README holds: its example prints what it says, its commands have the keys they use, its table lists what is."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from geospot import __main__ as geospot
from geospot.cli import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCORING = README[README.index("## Score answers in Python") :]
COMMANDS = re.findall(
    r"^    (?:pip install uv && uv sync && )?uv run (?:python -m geospot\.|geospot )(.+)$",
    README.replace("\\\n", ""),  # long commands go on in the next line
    re.M,
)


def test_the_python_example_prints_what_the_readme_says():
    code, printed = re.search(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", SCORING, re.S).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == printed.replace("    ", "")


def command_of(line: str) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and its arguments."""
    words = shlex.split(line.partition("  #")[0])
    n = 2 if words[0] == "data" else 1
    return " ".join(words[:n]), words[n:]


def test_every_command_is_shown():
    assert {command_of(line)[0] for line in COMMANDS} == set(geospot.COMMANDS)


@pytest.fixture
def a_folder_with_a_run(tmp_path, monkeypatch):
    """What the commands name: a run and a configuration file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/train-tiny").mkdir(parents=True)
    (tmp_path / "runs/train-tiny/config.json").write_text('{"run_id": "1", "config": {"command": "train"}}')
    (tmp_path / "my.toml").write_text("max_steps = 3")


@pytest.mark.usefixtures("a_folder_with_a_run")
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_is_understood(line):
    name, words = command_of(line)
    parse(geospot.config_class(name), words, geospot.COMMANDS[name].plain)


def test_every_file_in_the_map_exists():
    listed = re.search(r"## The files\n\n    src/geospot/\n(.*?)\n\n", README, re.S)[1]
    for line in listed.splitlines():
        where = ROOT / "src/geospot" if line.startswith("      ") else ROOT
        for name in re.split(r"\s{2,}", line.strip())[0].split(", "):
            assert (where / name).exists(), name


def test_the_map_names_every_room_and_every_file_at_the_top():
    listed = re.search(r"## The files\n\n    src/geospot/\n(.*?)\n\n", README, re.S)[1]
    source = ROOT / "src/geospot"
    there = {f"{p.name}/" for p in source.iterdir() if p.is_dir() and p.name != "__pycache__"}
    there |= {p.name for p in source.iterdir() if p.is_file()}
    named = {name for line in listed.splitlines() for name in re.split(r"\s{2,}", line.strip())[0].split(", ")}
    assert there <= named, there - named


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_path_that_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"`((?:src|tests|scripts|docs|benchmarks)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`(\w+/[\w/]+\.py|\w+\.py)`", text):
        assert (ROOT / "src/geospot" / path).exists() or (ROOT / path).exists(), path


@pytest.mark.usefixtures("a_folder_with_a_run")
@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md") if p.name != "log.md")]
)
def test_every_command_in_the_docs_is_understood(page):
    """The lines that begin with `geospot`, `uv run geospot` or `python -m geospot.` have keys that exist."""
    text = (ROOT / page).read_text().replace("\\\n", "")
    for line in re.findall(r"^    (?:uv run )?(?:python -m geospot\.(?!plugs)|geospot )(.+)$", text, re.M):
        name, words = command_of(line)
        parse(geospot.config_class(name), words, geospot.COMMANDS[name].plain)
