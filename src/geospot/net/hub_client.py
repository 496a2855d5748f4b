"""Calls of the Hugging Face hub's client, with what it lacks: a limit on waiting, patience with an outage, remedies."""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import httpx2
from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers

from geospot.errors import DataError
from geospot.net.retry import PATIENT, Attempts, RemoteError, RetryPolicy, asked_wait_s, is_passing

CONNECTION_RETRIES = 2  # without a network nobody wants to wait for two minutes

T = TypeVar("T")


def hub_headers(url: str) -> dict[str, str]:
    """Headers to ask for a URL: with the token (HF_TOKEN or login) for the hub itself, without for any other host.

    They are made anew where a file is opened, so that no token is stored with a source or sent to another process.
    """
    ours = httpx2.URL(constants.ENDPOINT)
    asked = httpx2.URL(url)
    same = (asked.scheme, asked.host, asked.port) == (ours.scheme, ours.host, ours.port)
    return build_hf_headers(library_name="geospot", token=None if same else False)


class Asker:
    """Asks the hub about one data set. spec: begins each error ("data='hf://...'"); revision: as the user wrote it."""

    def __init__(
        self,
        spec: str,
        repo: str,
        revision: str | None = None,
        policy: RetryPolicy = PATIENT,
        counts: Counter | None = None,
    ):
        self.spec, self.repo, self.revision, self.policy, self.counts = spec, repo, revision, policy, counts

    def ask(self, call: Callable[[], T]) -> T:
        """What a call of the hub's client returns; DataError with the remedy, but EntryNotFoundError as it is."""
        attempts = Attempts(f"{self.spec}: the hub at {constants.ENDPOINT}", self.policy, self.counts)
        page = f"{constants.ENDPOINT}/datasets/{self.repo}"
        while True:
            try:
                with _limit_on_waiting(self.policy):
                    return call()
            except OfflineModeIsEnabled:
                remedy = "Unset HF_HUB_OFFLINE, or give a local copy of the shards"
                raise DataError(f"{self.spec}: HF_HUB_OFFLINE is set, so the hub is not asked. {remedy}") from None
            except GatedRepoError:
                remedy = f"Accept its terms at {page}, then set HF_TOKEN to that account's token (or `hf auth login`)"
                raise DataError(f"{self.spec}: the data set is gated. {remedy}") from None
            except RevisionNotFoundError:
                remedy = f"Its branches, tags and commits are at {page}/tree/main"
                raise DataError(f"{self.spec}: there is no revision {self.revision!r}. {remedy}") from None
            except DisabledRepoError:
                raise DataError(f"{self.spec}: the hub has disabled this data set; {page} may say why") from None
            except RepositoryNotFoundError:
                remedy = f"Check the name at {page}; if it is private, set HF_TOKEN (or `hf auth login`)"
                raise DataError(f"{self.spec}: the hub knows no data set {self.repo}, or hides it. {remedy}") from None
            except EntryNotFoundError:
                raise
            except HfHubHTTPError as error:
                self._bear(attempts, error)
            except httpx2.TransportError as error:
                offline = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
                if offline and attempts.failures >= CONNECTION_RETRIES:
                    remedy = "Check the network (HTTPS_PROXY, HF_ENDPOINT), or give a local copy of the shards"
                    raise DataError(f"{self.spec}: no connection to {constants.ENDPOINT} ({error}). {remedy}") from None
                self._try_again(attempts, "no connection" if offline else "dropped", type(error).__name__)

    def _bear(self, attempts: Attempts, error: HfHubHTTPError) -> None:
        status = error.response.status_code
        if is_passing(status):
            self._try_again(attempts, str(status), f"HTTP {status}", asked_wait_s(error.response.headers))
            return
        remedy = ". HF_TOKEN (or the login) is not valid or may not read it" if status in (401, 403) else ""
        said = error.server_message or error.response.headers.get("x-error-message") or error.response.reason_phrase
        raise DataError(f"{self.spec}: the hub refuses with HTTP {status}: {said}{remedy}") from None

    @staticmethod
    def _try_again(attempts: Attempts, reason: str, detail: str, asked_s: float | None = None) -> None:
        try:
            attempts.failed(reason, detail, asked_s=asked_s)
        except RemoteError as error:
            raise DataError(f"{error}. Try again later: https://status.huggingface.co") from None


@contextmanager
def _limit_on_waiting(policy: RetryPolicy) -> Generator[None]:
    """Within: the hub client's requests end after `stall_s` without a byte. It lists with timeout=None, for ever."""
    limits = httpx2.Timeout(policy.stall_s, connect=policy.connect_s, pool=None).as_dict()

    def limit(request: httpx2.Request) -> None:
        given = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {k: given.get(k) or limits[k] for k in limits}

    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
    try:
        yield
    finally:
        session.event_hooks = hooks
