"""The `geospot` command, and `python -m geospot`: one word, then key=value arguments."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from geospot._version import __version__

COMMANDS = {
    "demo": "the whole recipe on the tiny model, with a table and a report",
    "sft": "supervised warm start on true answers",
    "train": "GRPO with a reward that tightens",
    "eval": "a model, or predictions made elsewhere, on held-out pictures, with 95 % intervals",
    "compare": "models by their predictions, with paired intervals of the differences",
    "calibrate": "learn from held-out pictures how large the radius of a guess must be",
    "guess": "say where photos were taken",
    "data": "look through a data set, or write it as shards: data inspect, data pack",
    "serve": "the local engine over the protocol of the Tinker SDK",
    "export": "a checkpoint as a PEFT adapter or merged weights, with a model card",
}
RECIPE = ("sft", "train")  # the two commands that are modules of the top floor; the others are in `commands`


def usage() -> str:
    """What `geospot --help` prints."""
    lines = [f"  {name:<9} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: geospot COMMAND key=value ...",
            "",
            "Commands:",
            *lines,
            "",
            "`geospot COMMAND --help` lists its keys.",
        ]
    )


def command_module(command: str) -> ModuleType:
    """The module of a command; it has a `main(argv)`."""
    return importlib.import_module(f"geospot.{command}" if command in RECIPE else f"geospot.commands.{command}")


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch to a command's `main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if words[0] in ("-V", "--version"):
        print(f"geospot {__version__}")
        return
    if words[0] not in COMMANDS:
        print(f"geospot: no command {words[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        module = command_module(words[0])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "geospot":
            raise
        extra = "train,serve" if error.name in ("starlette", "uvicorn") else "train"
        print(f"geospot {words[0]} needs the package {error.name}: pip install 'geospot[{extra}]'", file=sys.stderr)
        raise SystemExit(2) from None
    module.main(words[1:])


if __name__ == "__main__":
    main()
