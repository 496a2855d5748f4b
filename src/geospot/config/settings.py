"""Configurations as files: the config.json of a run folder, or TOML, YAML or JSON of one's own, keys at the top."""

import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from geospot.errors import did_you_mean, install_extra, mean_path
from geospot.runs.branch import branch_source
from geospot.runs.folder import read_config

SUFFIXES = (".json", ".toml", ".yaml", ".yml")


def read_values(path: str, known: Collection[str], aliases: Mapping[str, str]) -> dict[str, object]:
    """Key -> plain value from a file, or from the run folder that is named; None values are left out.

    What a run folder holds beyond the `known` keys belongs to another command or version, and is left out. In a file of
    one's own that is refused, as on the command line. ValueError names the file and what is wrong.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        place = place / "config.json"
    values = read_file("config", path, place)
    if isinstance(values, dict) and isinstance(values.get("config"), dict) and "run_id" in values:
        return {key: value for key, value in values["config"].items() if key in known and value is not None}
    if not isinstance(values, dict):
        raise ValueError(f"config={path}: must hold keys with values, such as max_steps: 100")
    return known_values(f"config={path}", values, known, aliases)


def known_values(
    where: str, values: Mapping[str, object], known: Collection[str], aliases: Mapping[str, str]
) -> dict[str, object]:
    """Key -> plain value, None values left out; ValueError names `where`, the key and what is near it."""
    found = {}
    for name, value in values.items():
        key = str(name).replace("-", "_")
        key = aliases.get(key, key) if key not in known else key
        if key not in known:
            raise ValueError(f"{where}: there is no key {name}{did_you_mean(key, [*known, *aliases])}")
        if isinstance(value, dict):
            raise ValueError(f"{where}: {name}: must be a value, not a table of keys; put keys at the top")
        if value is not None:
            found[key] = value
    return found


def read_file(key: str, path: str, place: Path | None = None) -> object:
    """What a JSON, TOML or YAML file holds, which is the value of `key`; ValueError where it cannot be read."""
    place = Path(path).expanduser() if place is None else place
    if not place.is_file():
        raise ValueError(f"{key}={path}: no such file{mean_path(path)}")
    suffix = place.suffix.lower()
    if suffix not in SUFFIXES:
        folder = "be a run folder, or " if key == "config" else ""
        raise ValueError(f"{key}={path}: must {folder}end in {', '.join(SUFFIXES)}")
    try:
        text = place.read_text(encoding="utf-8-sig")
        if suffix == ".json":
            return json.loads(text)
        if suffix == ".toml":
            return tomllib.loads(text)
        return _yaml(f"{key}={path}", text)
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{key}={path}: not {suffix[1:].upper()} ({error})") from None


def _yaml(where: str, text: str) -> object:
    try:
        import yaml
    except ImportError:
        raise ValueError(
            f"{where}: YAML needs the extra train: {install_extra('train')}; TOML and JSON need nothing"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not YAML ({' '.join(str(error).split())})") from None


def branch_values(path: str, known: Collection[str]) -> dict[str, object]:
    """What a branch of a run begins with: the run's keys, in the folder RUN-branch. RunError where there is no run."""
    run, _ = branch_source(path)
    own = ("log_path", "resume", "branch_from")
    values = {k: v for k, v in read_config(run).items() if k in known and k not in own and v is not None}
    return values | {"log_path": f"{str(run).rstrip('/')}-branch"}


def as_text(value: object) -> str:
    """A plain value as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return str(value)
