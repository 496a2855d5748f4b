"""The `geospot` command, and `python -m geospot`: reads the arguments of a command, then imports and runs it."""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geospot._version import __version__
from geospot.cli import HELP, fail, reported, run_command
from geospot.errors import did_you_mean


@dataclass(frozen=True)
class Command:
    """What `geospot --help` says of it, its configuration, the function that runs it, and which key needs no name."""

    what: str
    config: str  # a class of geospot.config
    run: str  # module:function
    plain: str | None = None


COMMANDS = {
    "demo": Command("run the whole recipe on the tiny model; ends in a table and a report", "DemoConfig",
                    "geospot.commands.demo:run"),
    "sft": Command("supervised warm start on true answers", "SftConfig", "geospot.sft:run"),
    "train": Command("GRPO with a reward that tightens", "TrainConfig", "geospot.train:run"),
    "study": Command("compare variants of train over several seeds, with intervals", "StudyConfig",
                     "geospot.commands.study:run", plain="plan"),
    "eval": Command("evaluate a model, or predictions made elsewhere, with 95 % intervals", "EvalConfig",
                    "geospot.commands.eval:run"),
    "compare": Command("compare models by their predictions, with paired intervals", "CompareConfig",
                       "geospot.commands.compare:run", plain="models"),
    "calibrate": Command("learn how large the radius around a guess must be", "CalibrateConfig",
                         "geospot.commands.calibrate:run"),
    "guess": Command("guess where photos were taken", "GuessConfig", "geospot.commands.guess:run", plain="photos"),
    "probe": Command("find out whether a model sees its pictures, and is the one asked for", "ProbeConfig",
                     "geospot.commands.probe:run", plain="model_name"),
    "play": Command("play on a page against a model, or alone: five places, countries in a row", "PlayConfig",
                    "geospot.commands.play:run"),
    "data inspect": Command("look through a data set: counts, a map, bad samples, duplicates, leaks", "InspectConfig",
                            "geospot.commands.data:run_inspect", plain="data"),
    "data pack": Command("write a data set as WebDataset shards", "PackConfig", "geospot.commands.data:run_pack",
                         plain="data"),
    "runs": Command("list the run folders: state, steps, best figure, size, checkpoint", "RunsConfig",
                    "geospot.commands.runs:run", plain="folder"),
    "report": Command("draw a page of any run, finished or not", "ReportConfig", "geospot.commands.report:run",
                      plain="run"),
    "watch": Command("watch runs on a page while they train: a map, curves, time left; or write the replay",
                     "WatchConfig", "geospot.commands.watch:run", plain="run"),
    "serve": Command("serve the local engine over the protocol of the Tinker SDK", "ServeConfig",
                     "geospot.commands.serve:run"),
    "export": Command("export a checkpoint as a PEFT adapter or merged weights", "ExportConfig",
                      "geospot.commands.export:run"),
    "doctor": Command("say what this machine can run: devices, speed, network, which models fit", "DoctorConfig",
                      "geospot.commands.doctor:run"),
    "completion": Command("print a script for completion in bash, zsh or fish", "CompletionConfig",
                          "geospot.commands.completion:script", plain="shell"),
}  # fmt: skip


# What other programs call these.
SYNONYMS = {
    "evaluate": "eval", "evaluation": "eval", "test": "eval", "score": "eval", "predict": "guess", "locate": "guess",
    "infer": "guess", "finetune": "sft", "fine-tune": "sft", "supervised": "sft", "grpo": "train", "rl": "train",
    "inspect": "data inspect", "pack": "data pack", "list": "runs", "ls": "runs", "status": "runs", "server": "serve",
    "upload": "export", "push": "export", "diff": "compare", "calibration": "calibrate", "data show": "data inspect",
    "check": "doctor", "diagnose": "doctor", "env": "doctor", "info": "doctor",
    "monitor": "watch", "dashboard": "watch", "live": "watch", "replay": "watch", "game": "play", "duel": "play",
    "sweep": "study", "ablation": "study", "experiment": "study",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Find the command, read its arguments, then import and run it."""
    # Before numpy is imported: its matrix products are small here, and a second thread costs more to start, to wake and
    # to keep spinning than it saves (benchmarks/startup.py). torch has threads of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:  # `geospot help train` is `geospot train --help`
        words = [*words[1:], "--help"]
    with reported(words[0] if words else ""):
        if not words or words[0] in HELP:
            print(usage())
        elif words[0] in ("-V", "--version"):
            print(f"geospot {__version__}")
        elif words[0] == "data" and (len(words) < 2 or words[1] in HELP):
            print(usage("data "))
        else:
            name, rest = _command(words)
            run_command(
                name,
                config_class(name),
                lambda config: _run(name, config),
                rest,
                plain=COMMANDS[name].plain,
                dry_run=lambda config: _dry_run(name, config),
            )


def _command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command's name, of one word or two, and the words behind it; leaves with status 2 where there is none."""
    n = 2 if words[0] == "data" else 1
    name = " ".join(words[:n])
    if name not in COMMANDS:
        known = [known for known in COMMANDS if n == 1 or known.startswith("data ")]
        hint = f". Did you mean {SYNONYMS[name]}?" if name in SYNONYMS else did_you_mean(name, known)
        fail("", f"there is no command {name!r}{hint}\nThe commands are {', '.join(known)}; see `geospot --help`")
    return name, words[n:]


def config_class(name: str) -> type:
    """The class that a command is configured with."""
    return getattr(importlib.import_module("geospot.config"), COMMANDS[name].config)


def _run(name: str, config: Any) -> object:
    if name == "completion":  # the one command that has to know the others
        from geospot.commands.completion import script

        print(script(config.shell, {known: config_class(known) for known in COMMANDS}), end="")
        return None
    module, _, function = COMMANDS[name].run.partition(":")
    return getattr(importlib.import_module(module), function)(config)


def _dry_run(name: str, config: object) -> None:
    from geospot.commands.dry_run import run

    run(name, config)


def usage(prefix: str = "") -> str:
    """What `geospot --help` prints, or `geospot data --help` with the prefix "data "."""
    shown = {name: command.what for name, command in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, shown))
    lines = [f"  {name:<{width}}  {what}" for name, what in shown.items()]
    return "\n".join(
        [
            f"Usage: geospot {prefix}COMMAND key=value ...",
            "",
            "Commands:",
            *lines,
            "",
            f"`geospot {prefix}COMMAND --help` lists the keys of a command; `geospot --version` prints the version.",
        ]
    )


if __name__ == "__main__":
    main()
