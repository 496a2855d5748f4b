"""The README holds: its example prints what it says, its commands have the keys they use, its table lists what is."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import chz
import pytest

from geospot import __main__ as geospot
from geospot.commands.eval import model_words

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCORING = README[README.index("## Score answers in Python") :]
CONFIGS = {
    "demo": "DemoConfig",
    "sft": "SftConfig",
    "train": "TrainConfig",
    "eval": "EvalConfig",
    "compare": "CompareConfig",
    "calibrate": "CalibrateConfig",
    "guess": "GuessConfig",
    "serve": "ServeConfig",
    "export": "ExportConfig",
    "data inspect": "InspectConfig",
    "data pack": "PackConfig",
}
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


def test_every_command_is_shown():
    assert {line.split()[0] for line in COMMANDS} == set(geospot.COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_is_understood(line):
    command, *words = line.partition("#")[0].split()
    module = geospot.command_module(command)
    config_class = getattr(module, CONFIGS[f"{command} {words[0]}" if command == "data" else command])
    words = model_words([word for word in shlex.split(" ".join(words)) if "=" in word])
    chz.Blueprint(config_class).make_from_argv(words)


def test_every_file_in_the_map_exists():
    listed = re.search(r"## The files\n\n    src/geospot/\n(.*?)\n\n", README, re.S)[1]
    for line in listed.splitlines():
        where = ROOT / "src/geospot" if line.startswith("      ") else ROOT
        for name in re.split(r"\s{2,}", line.strip())[0].split(", "):
            assert (where / name).exists(), name


def test_every_relative_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
