"""Weights for download: a PEFT adapter with the service's names, encrypted for its recipients where these are given."""

import shutil
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geospot.engine.serve.wire import Refused
from geospot.engine.weights import write_external
from geospot.files import atomic_folder

SUFFIX = ".age"


def age_recipients(given: Sequence[str]) -> list[Any]:
    """Public keys in words (age1..., ssh-...) as pyrage has them; Refused for one that is none."""
    if not given:
        return []
    if find_spec("pyrage") is None:
        raise Refused(
            422, "age_encryption_recipients: this server cannot encrypt; on its machine, `uv pip install pyrage`"
        )
    found = []
    pyrage = _pyrage()
    for key in given:
        kind: Any = pyrage.ssh if key.startswith("ssh-") else pyrage.x25519
        try:
            found.append(kind.Recipient.from_str(key))
        except Exception as error:  # the extension's own
            raise Refused(422, f"age_encryption_recipients: {key[:12]}... is no public key ({error})") from None
    return found


def export(checkpoint: str | Path, out: Path, recipients: Sequence[Any]) -> Path:
    """Write a checkpoint for download and delete it."""
    if not recipients:
        return write_external(checkpoint, out, names="service", discard=True)
    pyrage = _pyrage()
    with atomic_folder(out) as temp:
        plain = write_external(checkpoint, temp / "plain", names="service", discard=True)
        for path in sorted(plain.iterdir()):
            pyrage.encrypt_file(str(path), str(temp / (path.name + SUFFIX)), list(recipients))
        shutil.rmtree(plain)
    return out


def _pyrage() -> Any:
    return import_module("pyrage")  # an extension without types, which only encrypted downloads need
