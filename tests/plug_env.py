"""Runs a script beside a package that geospot does not depend on, in a throw-away environment of uv's."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_beside(package: str, script: str, *arguments: object, cwd: Path) -> dict:
    """What `script` prints last, as JSON, run with geospot's light install and `package`, taken from uv's cache.

    Skips with the reason where it is not asked for (GEOSPOT_PLUGS=1), since it imports half a minute of other people's
    code, and where uv or the package is not there: `uv run --with PACKAGE true` fetches it.
    """
    if not os.environ.get("GEOSPOT_PLUGS"):
        pytest.skip(f"set GEOSPOT_PLUGS=1 to try the plug with {package}, in an environment that uv makes")
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    light = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    base = [uv, "run", "--offline", "--no-project", "--no-config", "-q", "--python", sys.executable, "--with", package]
    base += [word for name in (*light, "pillow") for word in ("--with", name)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    tried = subprocess.run([*base, "true"], capture_output=True, text=True, cwd=cwd, env=env)
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or [""])[-1]
        pytest.skip(f"{package} is not in uv's cache ({last}); `uv run --with {package} true` fetches it")
    return _printed([*base, "python"], script, arguments, cwd, env)


def run_with(variable: str, script: str, *arguments: object, cwd: Path) -> dict:
    """As `run_beside`, with this interpreter and the packages in the folder that an environment variable names; for a
    package whose own requirements are too many to fetch. Skips where the variable is not set.
    """
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"set {variable} to a folder with the package and what of it is not installed here")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), folder)), "OMP_NUM_THREADS": "1"}
    return _printed([sys.executable], script, arguments, cwd, env)


def _printed(python: list[str], script: str, arguments: tuple[object, ...], cwd: Path, env: dict[str, str]) -> dict:
    path = cwd / "script.py"
    path.write_text(script)
    done = subprocess.run([*python, str(path), *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
