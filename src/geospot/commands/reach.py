"""Whether the hub and the service can be reached, as sentences, each within a bounded time; no key is ever shown."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PATIENCE_S = 5.0
_YES = ("1", "true", "yes", "on")


def within(work: Callable[[], str], patience_s: float = PATIENCE_S) -> str | None:
    """What `work` answers; None where it takes longer: also looking up a host's name may hang, without a limit."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(patience_s)
    return answers[0] if answers else None


def hub(patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """The Hugging Face hub: models and data that are not on the disk yet come from there."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _YES:
        return {"reachable": False, "says": "offline, as HF_HUB_OFFLINE says: only what is on the disk is loaded"}
    said = within(lambda: _answer(address, patience_s), patience_s)
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    login = bool(os.environ.get("HF_TOKEN")) or (Path(home).expanduser() / "token").is_file()
    if said is None or said:
        why = said or f"no answer within {patience_s:g} s"
        return {"reachable": False, "says": f"offline: {address} cannot be reached ({why}); what is on the disk works"}
    words = "logged in" if login else "not logged in, which gated models and uploads need (`hf auth login`)"
    return {"reachable": True, "says": f"{address} answers; {words}"}


def _answer(address: str, patience_s: float) -> str:
    """Nothing where a server answers, whatever it says; else what is wrong."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=patience_s).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason).lower()
    return ""


def service(base_url: str | None, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """The Tinker service, or a server that speaks its protocol: whether it answers, and takes the key."""
    has_key = bool(os.environ.get("TINKER_API_KEY"))
    if not has_key and base_url is None and not os.environ.get("TINKER_BASE_URL"):
        return {"reachable": False, "says": "no key: set TINKER_API_KEY to train and sample on the hosted service"}
    if find_spec_of("tinker") is None:
        return {"reachable": False, "says": "the SDK is not installed (extra train)"}
    said = within(lambda: _models(base_url), patience_s)
    if said is None:
        return {"reachable": False, "says": f"offline: no answer from the service within {patience_s:g} s"}
    return {"reachable": said.startswith("serves"), "says": said}


def _models(base_url: str | None) -> str:
    from geospot.engine.tinker.checks import Server, takes_pictures
    from geospot.errors import EngineError

    try:
        server = Server.find(base_url)
        names = [model.model_name for model in server.models() if model.model_name]
    except EngineError as error:
        return str(error)
    fitting = [name for name in names if takes_pictures(name)]
    return f"serves {len(names)} models, of which these are known to take pictures: {', '.join(fitting) or 'none'}"


def find_spec_of(module: str) -> object | None:
    """Where a module would be imported from; None where it is not installed."""
    try:
        return find_spec(module)
    except (ImportError, ValueError):
        return None
