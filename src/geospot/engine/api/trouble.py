"""What can go wrong with a request to an API, whichever SDK reports it: whether it passes, and whether all is lost."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from geospot.net.retry import asked_wait_s, is_passing

_HTML = re.compile(r"<!doctype html|<html[\s>]", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_NO_MONEY = re.compile(r"insufficient_quota|credit balance|billing|payment required", re.IGNORECASE)
_SAFETY = re.compile(r"content[_ ](?:policy|filter|management)|safety|moderation|responsible ai", re.IGNORECASE)
_THEIRS = ("openai", "anthropic", "google", "httpx", "httpx2", "json", "pydantic_core")  # whose errors a server causes
_MOST = 300  # characters of what a server says


@dataclass
class Trouble(Exception):
    """A request that failed. `reason` is one of a few fixed texts, for counting; `detail` is what the server said.

    passing: worth another try, after `asked_s` seconds if the server said so. fatal: no other request would fare
    better. ends: the request is answered all the same, by this `Reply.finish`.
    """

    reason: str
    detail: str = ""
    passing: bool = False
    fatal: bool = False
    asked_s: float | None = None
    status: int | None = None
    ends: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def truncated() -> Trouble:
    """A stream that ended before the answer did."""
    return Trouble("truncated stream", "the connection ended before the answer did", passing=True)


def page_instead(content_type: str) -> Trouble:
    """A web page, or nothing, where the API's stream should be: a tunnel is down, or it is another address."""
    what = "a web page" if "html" in content_type else f"{content_type or 'nothing'}, and no answer"
    return Trouble("not the API", f"the server sent {what}: is a tunnel down, or /v1 missing?", passing=True)


def trouble_of(error: Exception, secret: str = "") -> Trouble:
    """What an SDK raised, in our own words; `secret` is taken out of whatever a server says. What is none of an SDK's
    errors is raised as it is.
    """
    if isinstance(error, Trouble):
        error.detail = without_key(error.detail, secret)
        return error
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    if not isinstance(status, int):
        return _of_connection(error, secret)
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", None) or {}
    said = _said(error, secret)
    asked = asked_wait_s({key.lower(): value for key, value in dict(headers).items()})
    if status == 413:
        return trouble_of_status(status, said)
    if _HTML.search(str(getattr(error, "body", None) or getattr(error, "message", "") or error)):
        detail = f"a web page with status {status}: {said}"
        return Trouble("not the API", detail, passing=True, asked_s=asked, status=status)
    return trouble_of_status(status, said, asked)


def trouble_of_status(status: int | None, said: str, asked_s: float | None = None) -> Trouble:
    """What a refusal with this status means; None: an error in a stream, without one. `asked_s`: to be waited for."""
    if status == 402 or (_NO_MONEY.search(said) and status in (None, 400, 403, 429)):
        return Trouble("no credit left", said, fatal=True, status=status)
    if status in (401, 403):
        return Trouble("the server refuses the key", said, fatal=True, status=status)
    if status == 404:
        return Trouble("no such model or address", said, fatal=True, status=status)
    if status == 413:
        return Trouble("request too large (413)", f"{said}; set a smaller max_pixels, or fewer views", status=status)
    if status == 429:
        return Trouble("rate limit (429)", said, passing=True, asked_s=asked_s, status=status)
    if status is None:
        return Trouble("server error in the answer", said, passing=True)
    if is_passing(status):
        return Trouble(f"server error ({status})", said, passing=True, asked_s=asked_s, status=status)
    if _SAFETY.search(said):
        return Trouble("safety", said, ends="safety", status=status)
    return Trouble(f"refused by the server ({status})", said, status=status)


def _of_connection(error: Exception, secret: str) -> Trouble:
    names = [type(e).__name__ for e in _causes(error)]
    said = _said(list(_causes(error))[-1], secret)
    if any("Timeout" in name for name in names):
        return Trouble("timeout", passing=True)
    if any("ConnectError" in name or "ConnectionRefused" in name for name in names):
        return Trouble("no connection", said, passing=True)
    if any(name in ("RemoteProtocolError", "ReadError", "ProtocolError", "IncompleteRead") for name in names):
        return Trouble("truncated stream", said, passing=True)
    if _HTML.search(str(error)):
        return Trouble("not the API", f"{said} in place of an answer: is a tunnel down?", passing=True)
    if any(isinstance(e, OSError) or type(e).__module__.partition(".")[0] in _THEIRS for e in _causes(error)):
        return Trouble("unreadable response", said, passing=True)
    raise error  # a mistake of ours, or of the SDK


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in found:
        found.append(here)
        here = here.__cause__ or here.__context__
    return found


def _said(error: BaseException, secret: str) -> str:
    """What the server said, short, in one line, without the key."""
    body = getattr(error, "body", None) or getattr(error, "details", None)
    body = {"message": body} if isinstance(body, str) else body
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    code = inner.get("code") or inner.get("type") if isinstance(inner, dict) else None
    text = str(message or (inner or {}).get("detail") if isinstance(inner, dict) else message or "") if body else ""
    text = text if text and text != "None" else str(getattr(error, "message", None) or error)
    if _HTML.search(text):
        title = _TITLE.search(text)
        text = title[1] if title else "a web page"
    if isinstance(code, str) and code not in text:
        text = f"{text} ({code})"
    return without_key(" ".join(text.split())[:_MOST], secret)


def without_key(text: str, secret: str) -> str:
    """The text with every occurrence of the key hidden."""
    return text.replace(secret, "<hidden>") if len(secret) > 5 else text
