"""Sources of data by one string: each kind is a module here with a line in `KINDS`.

A kind's module has `EXAMPLE`, a spec as a user would write it; `matches(spec, columns) -> bool`, which looks at the
name and the disk but reads little; and `open_source(spec, columns, revision) -> Source`, which raises DataError with
the mend.
"""

import importlib
import re
from pathlib import Path
from types import ModuleType

from geospot.data.fields import Columns
from geospot.data.records import Source
from geospot.data.sources.listing import describe
from geospot.errors import DataError

# The name a user can put before a spec (`csv:/x/y.csv`) and the module; the first that matches is taken, so those whose
# files look like another kind's (a folder of tars and a table, names that carry coordinates) stand before it.
KINDS = {
    "osv5m": "osv5m",
    "mp16": "mp16",
    "json": "metadata",
    "parquet": "parquet",
    "csv": "table",
    "webdataset": "webdataset",
    "names": "names",
    "photos": "photos",
}
# What a folder of pictures is taken for where no table tells the coordinates, and what does.
_WITHOUT_TABLE = {"names": "the pictures' names", "photos": "the photos' EXIF"}
_SCHEMES = ("hf", "http", "https")
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_SAID = re.compile(r"""^data=('[^']*'|"[^"]*"|\S+): """)  # modules that are also used alone begin so
_NAMED = re.compile(r"(?P<kind>[A-Za-z][\w+-]+):(?!//)(?P<path>.*)", re.DOTALL)


def open_source(spec: str, columns: Columns = Columns(), revision: str | None = None, key: str = "data") -> Source:  # noqa: B008 (frozen)
    """The source that `spec` names: `KIND:PATH`, or a path or address whose kind is found out.

    columns: keys named by hand. revision: of a repository on the hub. key: the setting that `spec` comes from, for
    messages. DataError with the mend where nothing fits or the data cannot be opened.
    """
    kind, path = _kind_of(spec, columns, key)
    try:
        source = _module(kind).open_source(path, columns, revision)
    except DataError as error:
        reason = _SAID.sub("", str(error))
        raise DataError(f"{key}={_shown(spec)}: {reason}") from error.__cause__
    source.spec = spec
    return source


def _shown(spec: str) -> str:
    if "://" not in spec:
        return repr(spec)
    from geospot.net.retry import without_secrets

    return repr(without_secrets(spec))


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{KINDS[kind]}")


def _kind_of(spec: str, columns: Columns, key: str) -> tuple[str, str]:
    if (named := _NAMED.fullmatch(spec)) and named["kind"] in KINDS:
        _check_path(named["path"], spec, key)
        return named["kind"], named["path"]
    _check_path(spec, spec, key)
    there = _exists(spec, key)  # also says what is no path at all
    if named and not there:
        raise DataError(f"{key}={spec!r}: there is no kind {named['kind']!r}; the kinds are {', '.join(KINDS)}")
    for kind in KINDS:
        if _module(kind).matches(spec, columns):
            if kind in _WITHOUT_TABLE and (folder := Path(spec).expanduser()).is_dir():
                from geospot.data.sources.table import warn_of_tables

                warn_of_tables(folder, columns, f"{key}={spec!r}", _WITHOUT_TABLE[kind])
            return kind, spec
    raise _refusal(spec, key, describe(spec))


def _check_path(path: str, spec: str, key: str) -> None:
    """DataError where a path is blank (it would be the current directory), or an address that nothing here reads."""
    if not path.strip():
        raise _refusal(spec, key, "it is blank: there is no such file or folder (the current one is called .)")
    address = _ADDRESS.match(path)
    if address and address["scheme"] not in _SCHEMES and not _exists(path, key):
        raise DataError(
            f"{key}={_shown(spec)}: there is no scheme '{address['scheme']}://'; the schemes are hf://, http:// and "
            "https://, and what has none is a path on this machine"
        )


def _refusal(spec: str, key: str, reason: str) -> DataError:
    examples = "\n".join(f"  {kind:<10} {_module(kind).EXAMPLE}" for kind in KINDS)
    end = "" if reason.endswith("?") else "."
    return DataError(
        f"{key}={_shown(spec)}: {reason}{end} Give one of\n{examples}\nor name the kind by hand: {key}=KIND:PATH"
    )


def _exists(spec: str, key: str) -> bool:
    try:
        return Path(spec).expanduser().exists()
    except (OSError, ValueError) as error:  # too long, a NUL
        raise DataError(f"{key}={spec[:200]!r}: there is no such file: {error}") from None
