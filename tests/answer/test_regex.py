"""Regular expressions that are compiled when they are first used."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import geospot.answer
from geospot.answer import regex
from geospot.answer.regex import lazy


def test_a_pattern_is_compiled_once_when_it_is_first_used(monkeypatch):
    compiled = []
    monkeypatch.setattr(regex.re, "compile", lambda *given, make=re.compile: compiled.append(given) or make(*given))
    number = lazy("([0-9]+)n", re.IGNORECASE)
    assert compiled == []
    assert number.fullmatch("12N")[1] == "12"
    assert number.sub("_", "a1n2nb") == "a__b"
    assert (number.pattern, number.groups) == ("([0-9]+)n", 1)
    assert compiled == [("([0-9]+)n", re.IGNORECASE)]


def test_every_pattern_of_the_room_compiles():
    def within(value: object) -> Iterator[object]:
        if isinstance(value, tuple | list):
            for one in value:
                yield from within(one)
        elif isinstance(value, regex._Lazy):
            yield value

    modules = [
        importlib.import_module(f"geospot.answer.{m.name}") for m in pkgutil.iter_modules(geospot.answer.__path__)
    ]
    found = [one for module in modules for value in vars(module).values() for one in within(value)]
    assert len(found) > 60
    assert all(isinstance(one.pattern, str) for one in found)
