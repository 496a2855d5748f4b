"""Many files by one text: wildcards (`*`, `?`, `[a-c]`, `**` across folders), braces (`{a,b}`, `{000..489}`), lists."""

import re
from collections.abc import Collection
from glob import has_magic
from itertools import islice

from braceexpand import UnbalancedBracesError, braceexpand

MOST_NAMES = 200_000
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


def has_pattern(path: str) -> bool:
    """Whether a path is more than one name."""
    return has_magic(path) or expand_braces(path) != [path]


def expand_braces(path: str) -> list[str]:
    """All that the braces of a path stand for; braces that do not pair stand for themselves.

    ValueError where that is more than MOST_NAMES.
    """
    ranges = (abs(int(last) - int(first)) for first, last in _RANGE.findall(path))  # braceexpand writes each out
    try:
        if max(ranges, default=0) < MOST_NAMES:
            names = list(islice(braceexpand(path, escape=False), MOST_NAMES + 1))
            if len(names) <= MOST_NAMES:
                return names
    except UnbalancedBracesError:
        return [path]
    raise ValueError(f"{path} stands for more than {MOST_NAMES:,} names")


class Pattern:
    """A path with braces and wildcards. folder: the longest that all share. is_deep: some lie in folders below."""

    def __init__(self, path: str):
        """ValueError where the path is no pattern."""
        from fsspec.utils import glob_translate  # slow to import, and local shards do without

        names = expand_braces(path)
        globs = [name for name in names if has_magic(name)]
        self._names = [name for name in names if not has_magic(name)]
        try:
            self._globs = re.compile("|".join(map(glob_translate, dict.fromkeys(globs)))) if globs else None
        except (ValueError, re.error) as error:
            raise ValueError(f"{path}: {error}") from None
        folders = [_fixed_folder(name) for name in names]
        shared = min(folders)
        for i, (a, b) in enumerate(zip(min(folders), max(folders), strict=False)):
            if a != b:
                shared = shared[:i]
                break
        self.folder = "/".join(shared)
        self.is_deep = any(name.count("/") > len(shared) or "**" in name for name in names)

    def select(self, paths: Collection[str]) -> tuple[list[str], list[str]]:
        """(those of the paths that match, in order; names that braces give and that are not among the paths)."""
        chosen = {name for name in self._names if name in paths}
        missing = [name for name in dict.fromkeys(self._names) if name not in chosen]
        if self._globs is not None:
            chosen |= {path for path in paths if self._globs.match(path)}
        return sorted(chosen), missing


def _fixed_folder(name: str) -> tuple[str, ...]:
    """The folders before the first wildcard."""
    folders = name.split("/")[:-1]
    first = next((i for i, folder in enumerate(folders) if has_magic(folder)), len(folders))
    return tuple(folders[:first])


def parse_list(text: str) -> list[str]:
    """The lines of a list of shards: each a path, relative to the list's folder, or a URL. `#` begins a comment."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return [name for line in lines if line and not line.startswith("#") for name in expand_braces(line)]
