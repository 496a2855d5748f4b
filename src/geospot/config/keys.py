"""How a key of a configuration is declared (its topic in the help, default, meaning) and checked."""

from collections.abc import Callable, Iterable
from typing import Any

import chz

from geospot.errors import did_you_mean, listed

# Of every command that serves pages.
HOST_DOC = "address to listen on; other than loopback it needs a key: GEOSPOT_KEY, or a new one that is printed"
OPEN_DOC = "open the page in the browser of this desktop, if there is one"

# The headings of `--help`, in the order in which they are printed.
TOPICS = (
    "Input",
    "Model",
    "Data",
    "Reward",
    "Sampling",
    "Prior knowledge",
    "Optimisation",
    "Evaluation",
    "Run folder",
    "Output",
    "API models",
    "Engine",
    "Cost estimate",
)


def topic(name: str) -> Callable[..., Any]:
    """What declares the keys of a topic: `model = topic("Model")`, then `max_tokens: int = model(64, "meaning")`.

    A default of `...` makes the key required. The meaning is the line of `--help`, with the unit.
    """
    assert name in TOPICS, name

    def declare(default: Any, doc: str) -> Any:
        about = {"topic": name, "doc": doc, "default": default}
        if default is ...:
            return chz.field(doc=doc, metadata=about)
        return chz.field(default=default, doc=doc, metadata=about)

    return declare


def positive(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not above 0 (NaN is not); None is skipped."""
    for name in names:
        if (value := getattr(config, name)) is not None and not value > 0:
            raise ValueError(f"{name}={value}: must be above 0")


def not_negative(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not 0 or above; None is skipped."""
    for name in names:
        if (value := getattr(config, name)) is not None and not value >= 0:
            raise ValueError(f"{name}={value}: must be 0 or above")


def fraction(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not strictly between 0 and 1."""
    for name in names:
        if not 0 < (value := getattr(config, name)) < 1:
            raise ValueError(f"{name}={value}: must be between 0 and 1")


def one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """ValueError with what is allowed, and the nearest of it, where the value of a key is none of these words."""
    if value not in (allowed := list(allowed)):
        raise ValueError(f"{name}={value}: must be {listed(allowed)}{did_you_mean(value, allowed)}")


def check_port(port: int) -> None:
    """ValueError where this is no port to listen on."""
    if port < 0:
        raise ValueError(f"port={port}: must be 0 or above")
    if port > 65_535:
        raise ValueError(f"port={port}: must be at most 65535")
