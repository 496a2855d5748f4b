"""Weights that a service keeps, fetched to this machine in PEFT's form."""

import uuid
from pathlib import Path

import httpx

from geospot.engine.tinker.checks import Server
from geospot.engine.tinker.service import TinkerOptions, TinkerServiceClient
from geospot.errors import EngineError
from geospot.files import atomic_folder
from geospot.progress import Progress

_TTL_S = 6 * 3600  # of the copy that the service makes for the download


def download(server: Server, path: str, out: str | Path, silent_s: float = 45.0) -> Path:
    """Fetch the checkpoint at a tinker:// path into the folder `out`, whole or not at all; EngineError says why not."""
    with TinkerServiceClient(TinkerOptions(server, silent_s=silent_s)) as service:
        training = service.create_training_client_from_state(path).result()
        name = f"geospot-export-{uuid.uuid4().hex[:8]}"
        external = training.save_weights_external(name, ttl_seconds=_TTL_S).result().path
        urls = server.download_urls(external)
        with atomic_folder(out) as temp, Progress("downloading", total=len(urls)) as bar:
            for file, url in urls.items():
                target = (temp / file).resolve()
                if not target.is_relative_to(temp.resolve()):
                    raise EngineError(f"{server.base_url} names a file outside the checkpoint: {file!r}")
                target.parent.mkdir(parents=True, exist_ok=True)
                _fetch(url, target)
                bar.advance()
    return Path(out)


def _fetch(url: str, target: Path) -> None:
    try:
        with httpx.stream("GET", url, timeout=60, follow_redirects=True) as response, open(target, "wb") as file:
            response.raise_for_status()
            for part in response.iter_bytes(1 << 20):
                file.write(part)
    except httpx.HTTPError as error:
        # Not the URL: its signature opens the file to anybody.
        raise EngineError(f"{target.name} cannot be downloaded ({type(error).__name__}); try again") from None
