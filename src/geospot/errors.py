"""What goes wrong in ways that the user can put right: one family, whose messages say what is wrong and what to do.

A command shows them without a traceback. What is raised by mistake of ours is none of them.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches


class GeospotError(RuntimeError):
    """Something that the user can put right; the message names it, the reason and the remedy."""


class DataError(GeospotError):
    """A source of pictures, or what was asked of one, cannot be used."""


class EngineError(GeospotError):
    """The engine cannot do what is asked of it."""


class EngineGone(EngineError):
    """The server no longer answers: no other request would fare better."""


class Interrupted(EngineGone):
    """What was asked of the engine was given up in the middle, because somebody asked it to stop: no request is met."""


class Cancelled(EngineError):
    """One request was given up, because who asked it no longer waits; all others are met (unlike `Interrupted`)."""


class RunError(GeospotError):
    """A run folder, a checkpoint or a calibration cannot be used as asked."""


class ModelError(GeospotError):
    """A model, its tokenizer or its image processor cannot be loaded."""


class TableError(GeospotError):
    """A table of predictions or truths cannot be read, or two of them do not fit together."""


def listed(words: Iterable[str]) -> str:
    """'a', 'a or b', 'one of a, b, c'."""
    words = list(words)
    return " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'. Did you mean x?' where a known word is close, else nothing."""
    folded = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return f". Did you mean {folded[close[0]]}?" if close else ""


def mean_path(path: str) -> str:
    """'. Did you mean x?' where a file or folder beside a path that is not there has nearly its name, else nothing."""
    folder, _, name = path.rpartition("/")
    try:
        there = os.listdir(os.path.expanduser(folder) or ("/" if path.startswith("/") else "."))
    except (OSError, ValueError):
        return ""
    close = get_close_matches(name, there, n=1, cutoff=0.6)
    return f". Did you mean {folder + '/' if folder else ''}{close[0]}?" if close else ""


def install_extra(extra: str) -> str:
    """How to install an optional part of geospot, which is on no package index, from a checkout of it."""
    return f"`uv sync --extra {extra}` or `pip install '.[{extra}]'` in the checkout"


class BadSample(ValueError):
    """One sample or picture of many cannot be used: it is counted and skipped, and ends no command.

    `reason` is one of a few fixed texts, for counting; `detail` says what is wrong with this one.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail
