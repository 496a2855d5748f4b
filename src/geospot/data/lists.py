"""Shards by a list of them (`shards.txt`) on disk or on the web, and by braces in an http(s) address."""

from collections import Counter
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from geospot.errors import DataError
from geospot.files import foreign_content
from geospot.net.http import open_url
from geospot.net.hub import HubFile, Lines, hub_headers
from geospot.net.patterns import expand_braces, parse_list
from geospot.net.retry import PATIENT, RetryPolicy, without_secrets


def find_web_files(
    spec: str, *, policy: RetryPolicy = PATIENT, counts: Counter | None = None, key: str = "data"
) -> list[HubFile]:
    """The files behind an http(s) address with braces, or those that a `.txt` there lists; globs need a listing."""
    if urlsplit(spec).path.endswith(".txt"):
        return read_list(spec, policy=policy, counts=counts, key=key)
    try:
        return [HubFile(without_secrets(url), url, None) for url in expand_braces(spec)]
    except ValueError as error:
        raise DataError(f"{key}={spec!r}: {error}") from None


def read_list(
    source: str, *, policy: RetryPolicy = PATIENT, counts: Counter | None = None, key: str = "data"
) -> list[HubFile]:
    """The files that a list names, in its order; `url` is a path where the file lies on this machine.

    Lines are relative to the list's folder, absolute paths, http(s):// or hf://. DataError where the list cannot be
    read or names nothing; whether each file is there is found when it is read.
    """
    on_web = source.startswith(("http://", "https://"))
    spec = f"{key}={without_secrets(source) if on_web else source!r}"
    try:
        text = _read(source, policy, counts) if on_web else Path(source).expanduser().read_bytes()
        if (foreign := foreign_content(text[:512])) is not None:
            raise ValueError(f"it is {foreign[0]}: {foreign[1]}")
        lines = parse_list(text.decode())
    except (OSError, ValueError) as error:
        raise DataError(f"{spec}: cannot be read: {error}") from None
    if not lines:
        raise DataError(f"{spec}: the list names no shard")
    elsewhere = Lines(spec, policy, counts)
    files = []
    for line in lines:
        if "://" in line:
            files.append(elsewhere.file(line))
        elif on_web:
            url = urljoin(source, line)
            files.append(HubFile(without_secrets(url), url, None))
        else:
            path = str(Path(source).expanduser().parent / Path(line).expanduser())
            files.append(HubFile(path, path, None))
    return files


def _read(url: str, policy: RetryPolicy, counts: Counter | None) -> bytes:
    with open_url(url, headers=hub_headers(url), policy=policy, counts=counts) as file:
        return file.read()
