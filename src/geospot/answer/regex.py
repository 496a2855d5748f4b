"""Regular expressions that are compiled when they are first used: reading an answer needs about seventy, help none."""

import re
from typing import Any, cast


class _Lazy:
    """A pattern, each method of which takes the place of `__getattr__` once it was asked for."""

    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        value = re.compile(self._text, self._flags) if name == "_compiled" else getattr(self._compiled, name)
        setattr(self, name, value)
        return value


def lazy(text: str, flags: int = 0) -> re.Pattern[str]:
    """What `re.compile(text, flags)` returns, with the compiling put off. A wrong pattern is found when it is used."""
    return cast("re.Pattern[str]", _Lazy(text, flags))
