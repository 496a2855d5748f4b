"""How a command line becomes a configuration: what the commands share."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import chz

from geospot.config import EngineConfig
from geospot.engine import follow, is_follower, lead
from geospot.errors import GeospotError


def fail(command: str, message: str) -> NoReturn:
    """Print one clear message and leave with status 2."""
    print(f"geospot {command}: {message}", file=sys.stderr)
    raise SystemExit(2)


def run_command(command: str, config_class: type, main: Callable, argv: Sequence[str] | None = None) -> None:
    """Parse key=value arguments into `config_class` and call `main(config)`.

    Bad arguments, and errors that geospot raises with a mend in them, end in one message and status 2.
    """
    from chz.blueprint import (
        ConstructionException,
        EntrypointHelpException,
        ExtraneousBlueprintArg,
        InvalidBlueprintArg,
        MissingBlueprintArg,
    )

    bad_words = (ConstructionException, ExtraneousBlueprintArg, InvalidBlueprintArg, MissingBlueprintArg)
    argv = list(sys.argv[1:] if argv is None else argv)
    if any(word in ("-h", "help") for word in argv):
        argv = ["--help"]
    try:
        config = chz.Blueprint(config_class).make_from_argv(argv)
    except EntrypointHelpException as shown:
        print(f"Usage: geospot {command} key=value ...\n")
        print(str(shown).partition("Entry point: ")[2].split("\n", 1)[1].strip())
        raise SystemExit(0) from None
    except (ValueError, TypeError, *bad_words) as error:
        fail(command, f"{error}\nSee `geospot {command} --help` for every key.")
    try:
        if isinstance(config, EngineConfig) and is_follower():
            follow(config)  # the first process runs the command; this one does shares of its passes
            return
        if isinstance(config, EngineConfig):
            lead(config)
        main(config)
    except (GeospotError, OSError) as error:
        fail(command, str(error))
    except KeyboardInterrupt:
        print(f"geospot {command}: stopped; what was saved is whole", file=sys.stderr)
        raise SystemExit(130) from None
