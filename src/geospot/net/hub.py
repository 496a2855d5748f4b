"""Files of data sets on the Hugging Face hub, found by `hf://datasets/OWNER/NAME[@REVISION][/PATH, GLOB or LIST]`.

The revision is pinned to its commit, so that what a run reads stays what it listed.
"""

import posixpath
import re
from collections import Counter
from dataclasses import dataclass

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url, parse_hf_uri
from huggingface_hub.errors import EntryNotFoundError, HfUriError

from geospot.errors import DataError
from geospot.net.http import open_url
from geospot.net.hub_client import Asker, hub_headers
from geospot.net.patterns import Pattern, has_pattern, parse_list
from geospot.net.retry import PATIENT, RetryPolicy, without_secrets

__all__ = ["HubFile", "HubFiles", "Lines", "find_files", "hub_headers", "is_hub"]

LISTS = ".txt"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the hub, of a web server or of this machine.

    name: hf://datasets/OWNER/NAME/PATH of the hub's, whatever the revision; else the address without its query, or the
    path. url: at the pinned commit. size: bytes, None where a list named it.
    """

    name: str
    url: str
    size: int | None

    @property
    def path(self) -> str:
        """Of the hub's, the path in the repository; else the name."""
        return self.name.split("/", 5)[-1] if self.name.startswith(constants.HF_PROTOCOL) else self.name


@dataclass(frozen=True)
class HubFiles:
    """What a spec names, in the order of the names (of the list's lines). revision: the commit, 40 hex digits."""

    revision: str
    files: list[HubFile]


def is_hub(spec: str) -> bool:
    """Whether `find_files` is the one to ask: hf://, or a page of the hub copied from a browser."""
    if spec.startswith(constants.HF_PROTOCOL):
        return True
    host = httpx2.URL(spec).host if spec.startswith(("http://", "https://")) else ""
    return host in constants.HF_URL_HOSTS and "/resolve/" not in spec


def find_files(
    spec: str,
    revision: str | None = None,
    *,
    policy: RetryPolicy = PATIENT,
    counts: Counter | None = None,
    key: str = "data",
) -> HubFiles:
    """The files behind a spec: of a path, a glob with braces, a `.txt` list of shards, or a folder (or the whole set).

    A folder gives all its .tar files, else its .parquet files, else those that its shards.txt lists. `revision`, of a
    resumed run, goes before the spec's own. DataError, which names the setting `key`, the reason and the remedy.
    """
    try:
        uri = parse_hf_uri(spec)
    except HfUriError as error:
        raise DataError(f"{key}={spec!r}: {error.msg} Give hf://datasets/OWNER/NAME/PATH") from None
    if uri.type != "dataset":
        raise DataError(
            f"{key}={spec!r}: this names a {uri.type} of the hub; for a data set write hf://datasets/{uri.id}"
        )
    repo = _Repo(f"{key}={spec!r}", uri.id, revision or uri.revision, policy, counts)
    return HubFiles(repo.commit, repo.find(uri.path_in_repo))


class _Repo:
    """A data set at a commit."""

    def __init__(self, spec: str, repo: str, revision: str | None, policy: RetryPolicy, counts: Counter | None):
        self.spec, self.repo, self.revision = spec, repo, revision
        self._policy, self._counts = policy, counts
        self._ask = Asker(spec, repo, revision, policy, counts).ask
        self._api = HfApi(library_name="geospot")
        info = self._ask(
            lambda: self._api.dataset_info(
                repo, revision=revision, expand=["sha", "gated", "private"], timeout=policy.stall_s
            )
        )
        self.commit = str(info.sha)
        if info.gated or info.private:  # the listing is open, the files may not be: refused now rather than in an hour
            self._ask(lambda: self._api.auth_check(repo, repo_type="dataset"))

    def find(self, path: str) -> list[HubFile]:
        try:
            if has_pattern(path):
                return self._match(Pattern(path))
        except ValueError as error:
            raise DataError(f"{self.spec}: {error}") from None
        if path:
            found = self._ask(
                lambda: self._api.get_paths_info(self.repo, path, repo_type="dataset", revision=self.commit)
            )
            if not found:
                raise DataError(f"{self.spec}: there is no {path}. {self._hint(path)}")
            size = getattr(found[0], "size", None)  # a folder has none
            if size is not None:
                return self._listed(path) if path.endswith(LISTS) else [self.file(path, size)]
        return self._folder(path)

    def _folder(self, folder: str) -> list[HubFile]:
        sizes = self._tree(folder, recursive=True)
        for suffix in (".tar", ".parquet"):
            if chosen := sorted(name for name in sizes if name.endswith(suffix)):
                return [self.file(name, sizes[name]) for name in chosen]
        list_file = f"{folder}/shards.txt".lstrip("/")
        if list_file in sizes:
            return self._listed(list_file)
        raise DataError(
            f"{self.spec}: no .tar, no .parquet and no shards.txt there. It holds {_described(list(sizes), folder)}"
        )

    def _match(self, pattern: Pattern) -> list[HubFile]:
        try:
            sizes = self._tree(pattern.folder, recursive=pattern.is_deep)
        except EntryNotFoundError:
            raise DataError(f"{self.spec}: there is no folder {pattern.folder}. {self._hint(pattern.folder)}") from None
        chosen, missing = pattern.select(sizes)
        if missing:
            raise DataError(
                f"{self.spec}: {len(missing):,} of {len(missing) + len(chosen):,} files are not there, the first "
                f"{missing[0]}. {self._hint(missing[0])}"
            )
        if not chosen:
            raise DataError(f"{self.spec}: nothing matches. {self._hint(f'{pattern.folder}/x'.lstrip('/'))}")
        return [self.file(name, sizes[name]) for name in chosen]

    def _listed(self, path: str) -> list[HubFile]:
        """The files that a list of shards names: of this repository, of others, or anywhere on the web."""
        url = self.file(path).url
        try:
            with open_url(url, headers=hub_headers(url), policy=self._policy, counts=self._counts) as file:
                lines = parse_list(file.read().decode())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.spec}: the list {path} cannot be read: {error}") from None
        if not lines:
            raise DataError(f"{self.spec}: the list {path} names no shard")
        elsewhere = Lines(self.spec, self._policy, self._counts)
        elsewhere.repos[self.repo, self.revision] = self
        folder = path.rpartition("/")[0]
        return [
            elsewhere.file(line) if "://" in line else self.file(posixpath.normpath(posixpath.join(folder, line)))
            for line in lines
        ]

    def file(self, name: str, size: int | None = None) -> HubFile:
        """A file that may or may not be there."""
        url = hf_hub_url(self.repo, name, repo_type="dataset", revision=self.commit, endpoint=self._api.endpoint)
        return HubFile(f"{constants.HF_PROTOCOL}datasets/{self.repo}/{name}", url, size)

    def _tree(self, folder: str, recursive: bool) -> dict[str, int]:
        """Path -> bytes of the files below a folder."""
        return self._ask(
            lambda: {
                entry.path: entry.size
                for entry in self._api.list_repo_tree(
                    self.repo, folder or None, recursive=recursive, revision=self.commit, repo_type="dataset"
                )
                if hasattr(entry, "size")
            }
        )

    def _hint(self, path: str) -> str:
        """What is there instead: the contents of the nearest folder above a path."""
        while path:
            path = path.rpartition("/")[0]
            try:
                entries = self._ask(
                    lambda at=path: [
                        entry.path + ("" if hasattr(entry, "size") else "/")
                        for entry in self._api.list_repo_tree(
                            self.repo, at or None, revision=self.commit, repo_type="dataset"
                        )
                    ]
                )
            except EntryNotFoundError:
                continue
            return f"The {f'folder {path}' if path else 'data set'} holds {_described(entries, path)}"
        return "The data set is empty"


class Lines:
    """The absolute lines of a list of shards. Each data set's revision is pinned once, in `repos`."""

    def __init__(self, spec: str, policy: RetryPolicy = PATIENT, counts: Counter | None = None):
        self.spec, self.repos = spec, {}
        self._policy, self._counts = policy, counts

    def file(self, line: str) -> HubFile:
        """A file of a data set by hf:// or the hub's https://, at its commit; one elsewhere on the web as it is."""
        try:
            uri = parse_hf_uri(line)
        except HfUriError as error:
            if line.startswith(constants.HF_PROTOCOL):
                raise DataError(f"{self.spec}: the list has a line {line!r}: {error.msg}") from None
            if not line.startswith(("http://", "https://")):
                raise DataError(
                    f"{self.spec}: the list has a line {line!r}; there are hf://, http:// and https://, and paths"
                ) from None
            return HubFile(without_secrets(line), line, None)
        if uri.type != "dataset" or not uri.path_in_repo:
            raise DataError(f"{self.spec}: the list has a line {line!r}, which is no file of a data set of the hub")
        of = (uri.id, uri.revision)
        if of not in self.repos:
            self.repos[of] = _Repo(self.spec, *of, self._policy, self._counts)
        return self.repos[of].file(uri.path_in_repo)


def _described(paths: list[str], folder: str) -> str:
    """What a folder holds, in a line: files by suffix with an example, folders by name."""
    inside = [path[len(folder) :].lstrip("/") for path in paths]
    folders = sorted({name.split("/")[0] for name in inside if "/" in name})
    suffixes = Counter(m[0] if (m := re.search(r"\.\w+$", name)) else name for name in inside if "/" not in name)
    said = [
        f"{n:,} {suffix} (such as {next(name for name in inside if name.endswith(suffix))})"
        for suffix, n in suffixes.most_common(3)
    ]
    if folders:
        names = ", ".join(folders[:5]) + (", ..." if len(folders) > 5 else "")
        said.append(f"{len(folders):,} folder{'s' if len(folders) > 1 else ''} ({names})")
    return "; ".join(said) or "nothing"
