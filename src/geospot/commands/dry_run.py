"""What `dry_run=true` says of a command that trains nothing: what it was given is opened, and nothing is written."""

from typing import Any

import chz

from geospot.data.fields import Columns
from geospot.data.sources import open_source
from geospot.errors import GeospotError
from geospot.runs.checkpoints import find_checkpoint


def run(name: str, config: Any) -> None:
    """Open what a command was given, and say what it would do."""
    if name in ("sft", "train"):
        _loop(name, config)
        return
    if name == "study":
        from geospot.commands.study import check

        check(config)
        return
    fields = chz.chz_fields(type(config))
    given = {key: getattr(config, key) for key in fields}
    shown = [
        f"{key}={_text(value)}" for key, value in given.items() if value != (fields[key].metadata or {})["default"]
    ]
    print(f"command     geospot {name} {' '.join(shown)}".rstrip())
    for key in ("data", "eval_data", "against"):
        spec = given.get(key)
        if spec and spec not in ("auto", "none", "cells"):
            print(f"{key:<11} {spec}: {_opened(spec, given.get('columns') or '', key)}")
    if given.get("checkpoint") and given["checkpoint"] not in ("auto", "none"):
        print(f"checkpoint  {find_checkpoint(given['checkpoint'])}")
    if given.get("model_name"):
        print(f"model       {given['model_name']}: found")  # `check_paths` has looked
    if given.get("predictions"):
        from geospot.scoring.tables import read_guesses

        guesses, _, notes = read_guesses(given["predictions"])
        print(f"predictions {given['predictions']}: {len(guesses):,} rows", *(f"  {note}" for note in notes), sep="\n")
    if given.get("photos"):
        from geospot.asking.photos import find_photos

        print(f"photos      {len(find_photos(given['photos'])):,} found")
    if out := given.get("out"):
        print(f"out         {out}")
    print("dry run: nothing was written")


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _opened(spec: str, columns: str, key: str) -> str:
    if spec == "bluemarble":
        return "built in; its pictures are made on first use"
    source = open_source(spec, Columns.parse(columns), key=key)
    parts = len(source.parts)
    if not parts:
        raise GeospotError(f"{key}={spec}: holds no place")
    return f"opened, {parts:,} {'part' if parts == 1 else 'parts'}"


def _loop(name: str, config: Any) -> None:
    if name == "sft":
        from geospot.sft import check
    else:
        from geospot.train import check
    check(config)
