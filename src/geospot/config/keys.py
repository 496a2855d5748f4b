"""Checks that the configurations share."""

from typing import Any


def positive(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not above 0 (NaN is not)."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}={getattr(config, name)}: must be above 0")


def not_negative(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not 0 or above."""
    for name in names:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name}={getattr(config, name)}: must be 0 or above")
