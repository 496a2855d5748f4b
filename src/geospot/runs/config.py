"""What a run was started with: its configuration as plain JSON, how two of them differ, and where it ran."""

import importlib.metadata
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

# What may change when a run is resumed: how often things are kept and shown, where and how fast, not what a step
# learns. `shuffle_buffer` and `open_shards` change which sample comes next, but none is lost or seen twice for it. Not
# here: `max_steps`, on which the schedules of learning rate and reward depend: see LENGTHENED.
MAY_DIFFER = frozenset(
    {
        "save_every",
        "eval_every",
        "early_stop",
        "on_collapse",
        "keep_checkpoints",
        "log_to",
        "log_path",
        "branch_from",
        "resume",
        "threads",
        "max_batch_tokens",
        "max_sample_tokens",
        "shuffle_buffer",
        "open_shards",
        "data_workers",
        "picture_cache_mb",
        "gradient_checkpointing",
        "merge_lora",
        "batch_invariant",
        "compile",
        "base_url",
        "server_timeout_s",
        "checkpoint_ttl_days",
        "price_prefill",
        "price_sample",
        "price_train",
    }
)

# What a run did before there was a key for it: a run folder without the key goes on like that.
BEFORE_THE_KEY = {
    "reward_curve": "exp",
    "tau_schedule": "geometric",
    "form_penalty": 0.0,
    "oversample": 1.0,
    "entropy_coef": 0.0,
    "difficulty_pools": False,
}
# What may differ as well where a run is given more steps than before: how its learning rate and reward go on.
LENGTHENED = frozenset({"max_steps", "schedule_steps", "learning_rate", "lr_schedule"})
# What a branch shares with the run that it comes from, whose weights and optimizer it begins with.
SHARED_BY_BRANCHES = frozenset({"command", "model_name", "lora_rank", "lora_targets", "train_vision"})

_ABSENT = "<absent>"
_SECRET_KEY = re.compile(r"(^|[._-])(api_?key|secret|password|(access|auth|hf)_token|token)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(tml-|hf_)[\w-]{8,}")
_HIDDEN = "<hidden>"
_PACKAGES = ("torch", "transformers", "peft", "tinker", "numpy")


def plain_config(value: Any, key: str = "config") -> Any:
    """The value as plain JSON: paths as strings, tuples as lists, inf and nan as words, secrets hidden.

    Raises TypeError naming the key of anything that JSON cannot hold.
    """
    if value is not None and _SECRET_KEY.search(key):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {str(name): plain_config(part, f"{key}.{name}") for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_config(part, f"{key}[{number}]") for number, part in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((plain_config(part, key) for part in value), key=str)
    if hasattr(value, "item"):  # a numpy or torch number
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        return _SECRET_VALUE.sub(_HIDDEN, str(value))
    raise TypeError(f"{key} = {value!r} is a {type(value).__name__}, which JSON cannot hold; pass chz.asdict(config)")


def typed(value: object) -> str:
    """A value as it would be typed: none, true, a,b."""
    if value == _ABSENT:
        return "not set"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(typed, value)) or "(nothing)"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {typed(part)}" for name, part in value.items())
    return str(value)


def typed_config(config: Mapping[str, object]) -> dict[str, str]:
    """A configuration as it would be typed, for people; what was not given and is nothing by default is left out."""
    return {key: typed(value) for key, value in config.items() if value is not None and value not in ((), [])}


def differences(old: Mapping, new: Mapping) -> dict[str, tuple[object, object]]:
    """Dotted keys whose values differ between two plain configs, with the old and the new value.

    A key that one of them lacks, and that is null in the other, does not: a run of before there was such a key.
    """
    flat_old, flat_new = _flat(old), _flat(new)
    return {
        key: (flat_old.get(key, _ABSENT), flat_new.get(key, _ABSENT))
        for key in [*flat_old, *(key for key in flat_new if key not in flat_old)]
        if not _same(flat_old.get(key), flat_new.get(key))
    }


def older_values(there: Mapping[str, object], asked: Mapping[str, object]) -> dict[str, object]:
    """What a run folder that is older than some keys did in their place, where the keys are among those asked for."""
    return {key: value for key, value in BEFORE_THE_KEY.items() if key in asked and key not in there}


def refused(changed: Collection[str], may_differ: Collection[str]) -> list[str]:
    """The changed keys that may not differ; a name in `may_differ` covers its own key and all below it."""
    return [key for key in changed if not any(key == name or key.startswith(f"{name}.") for name in may_differ)]


def session_facts(command: list[str] | None = None) -> dict[str, object]:
    """Where and with what this process runs: command line, versions, commit, host, start time. Imports nothing big."""
    words = [_hide_argument(word) for word in (command or sys.argv)]
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(words),
        "geospot": _version("geospot"),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "git_commit": git_commit(),
        "host": platform.node(),
        "pid": os.getpid(),
    }


@cache
def git_commit(folder: str | Path = Path(__file__).parents[1]) -> str | None:
    """The commit of the checkout that holds this code ('...-dirty' with local changes); None if installed elsewhere.

    Found once: what runs is what was imported.
    """
    git = ["git", "-C", str(folder)]
    try:
        # A virtual environment may lie inside somebody else's repository: only a tracked file makes it ours.
        subprocess.run([*git, "ls-files", "--error-unmatch", "."], check=True, capture_output=True, timeout=10)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hide_argument(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and value and _SECRET_KEY.search(key):
        return f"{key}={_HIDDEN}"
    return _SECRET_VALUE.sub(_HIDDEN, word)


def _flat(config: Mapping, prefix: str = "") -> dict[str, object]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _same(old: object, new: object) -> bool:
    return old == new and isinstance(old, bool) == isinstance(new, bool)
