"""How words become a configuration, and what `--help` and a refusal look like: the toolkit of the commands.

Nothing heavy is imported here, so that `geospot --help` is there at once.
"""

import importlib.metadata
import os
import re
import select
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from geospot.errors import GeospotError, did_you_mean, install_extra, listed
from geospot.runs.control import Stopped

Config = TypeVar("Config")

ALIASES = {"model": "model_name", "from": "branch_from"}  # other ways to write a key, in every command that has it
COMMON = {"config": str, "dry_run": bool}  # keys that every command has, and no configuration
COMMON_DOCS = {
    "config=none": "keys from a file, overridden by those given: a run folder, its config.json, or .toml, .yaml, .json",
    "dry_run=false": "true: check and open everything, say what it will take, and write nothing",
}
HELP = ("-h", "--help")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_KEY = re.compile(r"([A-Za-z_][\w-]*)=(.*)", re.DOTALL)
_PACKAGES = {
    "PIL": "pillow",
    "mpl_toolkits": "basemap-data",
    "google": "google-genai",
}  # modules that are not called as their package


def run_command(
    command: str,
    config_class: type[Config],
    run: Callable[[Config], object],
    argv: Sequence[str] | None = None,
    *,
    plain: str | None = None,
    dry_run: Callable[[Config], object] | None = None,
) -> None:
    """Turn words into a configuration and call `run(config)` or `dry_run(config)`, or print the command's help.

    plain: the key whose values may be given as plain words, without `key=`. Bad arguments, and errors that the user
    can put right, end in one message and status 2.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with reported(command):
        if any(word in HELP for word in words) or words[:1] == ["help"]:
            print(help_page(command, config_class, plain))
            return
        try:
            config, is_dry = parse_all(config_class, words, plain)
        except ValueError as error:
            fail(command, f"{error}\nSee `geospot {command} --help` for all keys.")
        from geospot.config.paths import check_paths

        check_paths(config)
        _run_here(config, dry_run if is_dry and dry_run else run)


def _run_here(config: Config, run: Callable[[Config], object]) -> None:
    """Run, or, in a process that torchrun has started beside the first one, do a share of that one's passes."""
    from geospot.config import EngineConfig

    if isinstance(config, EngineConfig):
        from geospot.engine.local.options import is_follower
        from geospot.engine.open import follow, lead

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
def reported(command: str) -> Generator[None]:
    """Ends an error that the user can put right in one message, Ctrl-C in status 130, a closed pipe in silence.

    A loop that was asked to stop ends with the status of the signal, 130 after Ctrl-C and 143 after SIGTERM.
    """
    try:
        yield
        sys.stdout.flush()
    except (GeospotError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            raise SystemExit(128 + 13) from None  # as a program that SIGPIPE ended
        fail(command, in_words(error))
    except ModuleNotFoundError as error:
        if (extra := extra_of(error.name or "", command)) is None:
            raise
        fail(command, f"the package {error.name} is missing: install the extra {extra} with {install_extra(extra)}")
    except Stopped as stopped:  # it has said what was saved; `sft && train` must not go on
        raise SystemExit(128 + stopped.number) from None
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


def in_words(error: Exception) -> str:
    """An error as a sentence, without a number of the system's: "runs/x: permission denied"."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return str(error.strerror)
        return f"{os.fsdecode(error.filename)}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


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


def extra_of(module: str, command: str = "") -> str | None:
    """The extra of this package that installs a module; None where the module belongs to none.

    Of several extras it is the one that is there for the command, else `train`, which most commands need.
    """
    root = module.partition(".")[0]
    if root == "geospot":
        return None
    package = _PACKAGES.get(root, root).replace("_", "-").lower()
    try:
        requirements = importlib.metadata.requires("geospot") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "train"
    extras = []
    for requirement in requirements:
        found = re.match(r"([A-Za-z0-9._-]+).*extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if found and found[1].replace("_", "-").lower() == package:
            extras.append(found[2])
    wanted = (_EXTRA_OF_COMMAND.get(command), "train", *extras)
    return next((extra for extra in wanted if extra in extras), None)


_EXTRA_OF_COMMAND = {"serve": "serve", "watch": "pages", "play": "pages"}


# --- words ---


def parse(config_class: type[Config], words: Sequence[str], plain: str | None = None) -> Config:
    """The configuration that `key=value`, `--key value`, `--key=value` and plain words spell.

    ValueError names the word, why it is refused and what is allowed.
    """
    return parse_all(config_class, words, plain)[0]


def parse_all(config_class: type[Config], words: Sequence[str], plain: str | None = None) -> tuple[Config, bool]:
    """As `parse`, and whether `dry_run` was asked for. Words override the keys of `config=FILE` and of `from=RUN`."""
    fields = _fields(config_class)
    values: dict[str, Any] = {}
    common: dict[str, Any] = {}
    plain_words: list[str] = []
    for key, text in _pairs(words, fields, plain):
        if key is None:
            plain_words.append(text)
        elif key in fields:
            values[key] = read_value(key, text, fields[key].final_type)
        else:
            common[key] = read_value(key, text, COMMON[key])
    values = _base(fields, common.get("config"), values.get("branch_from")) | values
    if plain and plain_words:
        if typing.get_origin(fields[plain].final_type) is tuple:
            values[plain] = (*values.get(plain, ()), *plain_words)
        elif len(plain_words) > 1 or plain in values:
            both = [*([str(values[plain])] if plain in values else []), *plain_words]
            raise ValueError(f"{' '.join(both)}: give one source ({plain}) at a time")
        else:
            values[plain] = read_value(plain, plain_words[0], fields[plain].final_type)
    missing = [key for key, field in fields.items() if field.metadata["default"] is ... and key not in values]
    if missing:
        raise ValueError(f"{' and '.join(missing)}: required; for example: {_example(config_class)}")
    return config_class(**values), common.get("dry_run", False)


def _base(fields: Mapping[str, Any], file: str | None, run: str | None) -> dict[str, Any]:
    """The values of a configuration file, over those of the run that is branched from."""
    from geospot.config.settings import as_text, branch_values, read_values

    found = branch_values(run, fields) if run else {}
    found |= read_values(file, fields, ALIASES) if file else {}
    return {key: read_value(key, as_text(value), fields[key].final_type) for key, value in found.items()}


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
            kind = fields[key].final_type if key in fields else COMMON[key]
            yield key, text if equals else _value_after(word, kind, rest)
        elif (pair := _KEY.fullmatch(word)) and not (plain and _is_thing(word)):
            yield _known(pair[1], word, fields), pair[2]
        elif plain:
            yield None, word
        else:
            key = ALIASES.get(word, word).replace("-", "_")
            raise ValueError(
                f"{word}: a value is missing; write {word}=VALUE"
                if key in fields or key in COMMON
                else f"{word}: not a key=value argument{did_you_mean(word, fields)}"
            )


def _is_thing(word: str) -> bool:
    """Whether a word with '=' in it is a file or an address rather than key=value."""
    return word.lower().startswith(("http://", "https://")) or os.path.exists(word)


def _known(name: str, word: str, fields: Mapping[str, Any]) -> str:
    key = name.replace("-", "_")
    key = ALIASES.get(key, key) if key not in fields else key
    if key not in fields and key not in COMMON:
        raise ValueError(f"{word}: there is no key {name}{did_you_mean(key, [*fields, *ALIASES, *COMMON])}")
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
            raise ValueError(f"{key}={text}: must be true or false{did_you_mean(text, _BOOLEANS)}")
        return _BOOLEANS[text.lower()]
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{key}={text}: must be {what}") from None
    return text


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
    lines += ["", "Every command"]
    for key, doc in COMMON_DOCS.items():
        lines += _help_lines(key, doc, left, width)
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
