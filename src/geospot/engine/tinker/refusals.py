"""The SDK's errors as ours: one line that says what is wrong and what to do. The key is in none of them."""

import re
from concurrent.futures import CancelledError

import tinker

from geospot.errors import EngineError

_TAIL = re.compile(r" for self\.request_id=.*$", re.DOTALL)
_KEY = re.compile(r"\btml-[\w.-]+")


def translate(error: BaseException, base_url: str) -> BaseException:
    """The error to raise in place of one of the SDK's; ours, and what is no error but an interrupt, stay."""
    if isinstance(error, tinker.RequestFailedError):
        text = _TAIL.sub("", str(error)).removeprefix("Request failed: ").removeprefix("ValueError: ")
        return _made(error, f"{base_url} refused a request: {text}" if _is_users(error) else f"{base_url}: {text}")
    if isinstance(error, tinker.APIStatusError):
        return _made(error, _status_text(error, base_url))
    if isinstance(error, tinker.APITimeoutError | tinker.APIConnectionError):
        return _made(error, f"{base_url} cannot be reached: {error}")
    if isinstance(error, CancelledError):
        return _made(error, f"a request to {base_url} was given up")
    if isinstance(error, EngineError) or not isinstance(error, Exception):
        return error
    text = f"{base_url}: {_TAIL.sub('', str(error)) or type(error).__name__}"  # also what the SDK asserts of a server
    return _made(error, f"{text}. {_RESTART}" if "expired" in text or "poisoned" in text else text)


_RESTART = "If the server was restarted, the same command goes on from the last checkpoint"


def _is_users(error: tinker.RequestFailedError) -> bool:
    return str(error.category) == "user"


def _status_text(error: tinker.APIStatusError, base_url: str) -> str:
    detail = error.body.get("detail", error.body) if isinstance(error.body, dict) else error.message
    if error.status_code in (401, 403):
        return f"{base_url} does not accept the key in TINKER_API_KEY ({detail})"
    if error.status_code == 402:
        return f"{base_url} asks for payment: {detail}"
    if error.status_code in (404, 410):
        return f"{base_url}: {detail}. {_RESTART}"
    return f"{base_url} answered {error.status_code}: {detail}"


def _made(cause: BaseException, text: str) -> EngineError:
    error = EngineError(_KEY.sub("<hidden>", text))
    error.__cause__ = cause
    return error
