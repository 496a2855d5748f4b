"""How words become a configuration, and what `--help` and a refusal look like: the toolkit of the commands.

Nothing heavy is imported here, so that `geospot --help` is there at once.
"""

import glob
import importlib.metadata
import os
import re
import select
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from geospot.errors import DataError, GeospotError, did_you_mean, install_extra, listed

Config = TypeVar("Config")

ALIASES = {"model": "model_name"}  # another way to write a key, in every command that has it
HELP = ("-h", "--help")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_KEY = re.compile(r"([A-Za-z_][\w-]*)=(.*)", re.DOTALL)
_PACKAGES = {"PIL": "pillow", "mpl_toolkits": "basemap-data"}  # modules that are not called as their package


def run_command(
    command: str,
    config_class: type[Config],
    run: Callable[[Config], object],
    argv: Sequence[str] | None = None,
    *,
    plain: str | None = None,
) -> None:
    """Turn words into a configuration and call `run(config)` with it, or print the command's help.

    plain: the key whose values may be given as plain words, without `key=`. Bad arguments, and errors that the user
    can put right, end in one message and status 2.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with reported(command):
        if any(word in HELP for word in words) or words[:1] == ["help"]:
            print(help_page(command, config_class, plain))
            return
        try:
            config = parse(config_class, words, plain)
        except ValueError as error:
            fail(command, f"{error}\nSee `geospot {command} --help` for all keys.")
        check_paths(config)
        _run_here(config, run)


def _run_here(config: Config, run: Callable[[Config], object]) -> None:
    """Run, or, in a process that torchrun has started beside the first one, do a share of that one's passes."""
    from geospot.config import EngineConfig

    if isinstance(config, EngineConfig):
        from geospot.engine import follow, is_follower, lead

        if is_follower():
            follow(config)
            return
        lead(config)
    run(config)


def fail(command: str, message: str) -> NoReturn:
    """Print one clear message and leave with status 2."""
    print(f"geospot {command}".strip() + f": {message}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def reported(command: str) -> Iterator[None]:
    """Ends an error that the user can put right in one message, Ctrl-C in status 130, a closed pipe in silence."""
    try:
        yield
        sys.stdout.flush()
    except (GeospotError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            raise SystemExit(1) from None
        fail(command, str(error))
    except ModuleNotFoundError as error:
        if (extra := extra_of(error.name or "")) is None:
            raise
        fail(command, f"the package {error.name} is missing: install the extra {extra} with {install_extra(extra)}")
    except KeyboardInterrupt:
        print(f"geospot {command}: interrupted; what was saved is intact", file=sys.stderr)
        raise SystemExit(130) from None
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        fail(command, f"out of memory{_first_line(error)}; what was saved is intact. Free some, or lower batch_size, "
                      "max_batch_tokens or shuffle_buffer, then start the same command again")  # fmt: skip


_NO_MEMORY = ("DefaultCPUAllocator", "CUDA out of memory", "Cannot allocate memory")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f" ({lines[0][:200]})" if lines else ""


def _stdout_is_closed() -> bool:
    """Whether the reader of our output is gone (`geospot ... | head`); what is left to write is thrown away then."""
    try:
        descriptor = sys.stdout.fileno()
        gone = select.poll()
        gone.register(descriptor, select.POLLERR)
        if not gone.poll(0):
            return False
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        return True
    except (AttributeError, OSError, ValueError):  # no poll on this system, or no real stream
        return True


def extra_of(module: str) -> str | None:
    """The extra of this package that installs a module; None where the module belongs to none."""
    root = module.partition(".")[0]
    if root == "geospot":
        return None
    package = _PACKAGES.get(root, root).replace("_", "-").lower()
    try:
        requirements = importlib.metadata.requires("geospot") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "train"
    for requirement in requirements:
        found = re.match(r"([A-Za-z0-9._-]+).*extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if found and found[1].replace("_", "-").lower() == package:
            return found[2]
    return None


# --- words ---


def parse(config_class: type[Config], words: Sequence[str], plain: str | None = None) -> Config:
    """The configuration that `key=value`, `--key value`, `--key=value` and plain words spell.

    ValueError names the word, why it is refused and what is allowed.
    """
    fields = _fields(config_class)
    values: dict[str, Any] = {}
    plain_words: list[str] = []
    for key, text in _pairs(words, fields, plain):
        if key is None:
            plain_words.append(text)
        else:
            values[key] = read_value(key, text, fields[key].final_type)
    if plain and plain_words:
        if typing.get_origin(fields[plain].final_type) is tuple:
            values[plain] = (*values.get(plain, ()), *plain_words)
        elif len(plain_words) > 1 or plain in values:
            both = [*([str(values[plain])] if plain in values else []), *plain_words]
            raise ValueError(f"{' '.join(both)}: give one source ({plain}) at a time")
        else:
            values[plain] = plain_words[0]
    missing = [key for key, field in fields.items() if field.metadata["default"] is ... and key not in values]
    if missing:
        raise ValueError(f"{' and '.join(missing)}: required; for example: {_example(config_class)}")
    return config_class(**values)


def _fields(config_class: type) -> Mapping[str, Any]:
    """Key -> chz's field, whose metadata has topic, doc and default (see `geospot.config.keys`)."""
    import chz

    return chz.chz_fields(config_class)


def _pairs(words: Sequence[str], fields: Mapping[str, Any], plain: str | None) -> Iterator[tuple[str | None, str]]:
    """(key, value) for each argument; the key of a plain word is None."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--" and plain:
            yield from ((None, word) for word in rest)
            return
        if word.startswith("-") and word != "-":
            name, equals, text = word.lstrip("-").partition("=")
            key = _known(name, word, fields)
            yield key, text if equals else _value_after(word, fields[key].final_type, rest)
        elif (pair := _KEY.fullmatch(word)) and not (plain and _is_thing(word)):
            yield _known(pair[1], word, fields), pair[2]
        elif plain:
            yield None, word
        else:
            key = ALIASES.get(word, word).replace("-", "_")
            raise ValueError(
                f"{word}: a value is missing; write {word}=VALUE"
                if key in fields
                else f"{word}: not a key=value argument{did_you_mean(word, fields)}"
            )


def _is_thing(word: str) -> bool:
    """Whether a word with '=' in it is a file or an address rather than key=value."""
    return word.lower().startswith(("http://", "https://")) or os.path.exists(word)


def _known(name: str, word: str, fields: Mapping[str, Any]) -> str:
    key = name.replace("-", "_")
    key = ALIASES.get(key, key) if key not in fields else key
    if key not in fields:
        raise ValueError(f"{word}: there is no key {name}{did_you_mean(key, [*fields, *ALIASES])}")
    return key


def _value_after(word: str, kind: Any, rest: list[str]) -> str:
    """The value of `--key` in the word after it; a switch alone means true."""
    is_switch = kind is bool or bool in typing.get_args(kind)
    if is_switch and not (rest and rest[0].lower() in _BOOLEANS):
        return "true"
    if not rest or rest[0].startswith("--"):
        raise ValueError(f"{word}: a value is missing; write {word} VALUE or {word.lstrip('-')}=VALUE")
    return rest.pop(0)


def read_value(key: str, text: str, kind: Any) -> Any:
    """The value of a key from its text, by the type of the field. ValueError with what is allowed."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        return read_value(key, text, next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return tuple(read_value(key, part.strip(), args[0]) for part in text.split(",") if part.strip())
    if origin is typing.Literal:
        if text not in args:
            raise ValueError(f"{key}={text}: must be {listed(args)}{did_you_mean(text, args)}")
        return text
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{key}={text}: must be true or false")
        return _BOOLEANS[text.lower()]
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{key}={text}: must be {what}") from None
    return text


# --- paths ---


def check_paths(config: object) -> None:
    """Refuse files and folders that are not there, in a moment: before torch is imported and a model loaded."""
    for key in ("predictions", "truth", "train_truth", "calibration", "checkpoint"):
        path = getattr(config, key, None)
        if path and path not in ("auto", "none") and "://" not in path and not _exists(path):
            kind = "run folder or checkpoint" if key == "checkpoint" else "file"
            raise DataError(f"{key}={path}: no such {kind}")
    name = getattr(config, "model_name", None)
    if name:
        from geospot.models.loading import is_tiny, locate

        if not is_tiny(name):
            locate(name)
    for key in ("data", "eval_data", "against"):
        spec = getattr(config, key, None)
        if spec and spec not in ("bluemarble", "auto", "none", "cells") and "://" not in spec and not _is_there(spec):
            from geospot.data.sources import open_source

            open_source(spec, key=key)  # shards by {0000..0009}, or a refusal


def _is_there(spec: str) -> bool:
    """Whether a source is a path that exists, with or without KIND: before it, or a pattern that matches."""
    return _exists(spec) or _exists(spec.partition(":")[2] or spec) or any(glob.iglob(os.path.expanduser(spec)))


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError):  # too long, a NUL
        return False


# --- help ---


def help_page(command: str, config_class: type, plain: str | None = None) -> str:
    """One sentence, usage, an example, and the keys by topic, each with default, meaning and unit."""
    from geospot.config.keys import TOPICS

    width = min(max(shutil.get_terminal_size().columns, 80), 120)
    fields = _fields(config_class)
    what = (config_class.__doc__ or "").partition("\n")[0]
    usage = f"geospot {command} {f'{plain.upper()} ' if plain else ''}key=value ..."
    lines = [*textwrap.wrap(what, width), "", f"Usage:    {usage}", f"Example:  {_example(config_class)}"]
    left = min(24, max(len(_with_default(key, field)) for key, field in fields.items()))
    for topic in TOPICS:
        keys = {key: field for key, field in fields.items() if field.metadata["topic"] == topic}
        if keys:
            lines += ["", topic]
        for key, field in keys.items():
            lines += _help_lines(_with_default(key, field), field.metadata["doc"], left, width)
    return "\n".join(lines)


def _example(config_class: type) -> str:
    return (config_class.__doc__ or "").strip().rpartition("\n")[2].strip()


def _help_lines(key: str, doc: str, left: int, width: int) -> list[str]:
    indent = " " * (left + 4)
    head = f"  {key:<{left}}  " if len(key) <= left else f"  {key}\n{indent}"
    body = textwrap.wrap(doc, width - len(indent), break_long_words=False, break_on_hyphens=False)
    return [head + body[0], *(indent + line for line in body[1:])]


def _with_default(key: str, field: Any) -> str:
    """`key=default`, as it could be typed."""
    default = field.metadata["default"]
    if default is ...:
        return f"{key}=(required)"
    if isinstance(default, bool) or default is None:
        return f"{key}={str(default).lower()}"
    if isinstance(default, float):
        return f"{key}={default:g}"
    return f"{key}={default or repr('')}" if isinstance(default, str | tuple) else f"{key}={default}"
