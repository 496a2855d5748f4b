"""What the hosted service charges, as it publishes it: the file that the Tinker cookbook reads, too."""

import math
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from geospot._version import __version__

URL = "https://tinker-docs.thinkingmachines.ai/tinker/models.json"
WAIT_S = 5.0
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Prices:
    """$ per million tokens: of prompts (not in the service's cache), sampled, trained."""

    prefill: float
    sample: float
    train: float


def published(model_name: str) -> Prices | str:
    """The prices of a model, or in words why there are none. A run never depends on them."""
    try:
        entries = _download()
    except (httpx.HTTPError, ValueError, OSError) as error:
        return f"{URL} cannot be read ({type(error).__name__})"
    entry = next((e for e in entries if isinstance(e, dict) and e.get("tinker_id") == model_name), None)
    if entry is None:
        return f"{URL} has no {model_name}"
    found = [_price(entry.get(name)) for name in ("prefill", "sample", "train")]
    if None in found:
        return f"{URL} does not say all prices of {model_name}"
    return Prices(*(price for price in found if price is not None))


def _download() -> list[Any]:
    headers = {"User-Agent": f"geospot/{__version__}"}  # the site refuses some libraries' own
    body = b""
    with httpx.stream("GET", URL, timeout=WAIT_S, headers=headers, follow_redirects=True) as response:
        response.raise_for_status()
        for part in response.iter_bytes():
            body += part
            if len(body) > _MOST_BYTES:
                raise ValueError("too long")
    entries = orjson.loads(body)
    if not isinstance(entries, list):
        raise ValueError("no list")
    return entries


def _price(value: object) -> float | None:
    """ "$1.87" -> 1.87; None for what is no price."""
    try:
        price = float(str(value).strip().lstrip("$").replace(",", ""))
    except ValueError:
        return None
    return price if math.isfinite(price) and price >= 0 else None
