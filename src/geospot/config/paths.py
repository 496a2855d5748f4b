"""What a configuration names that is not there is refused in a moment: before torch is imported and a model loaded."""

import glob
import os
from pathlib import Path

from geospot.engine.api.addresses import is_api_model
from geospot.errors import DataError, ModelError, mean_path


def check_paths(config: object) -> None:
    """DataError or ModelError for the first file, folder, model or source that does not exist, with what is near it."""
    for key in ("predictions", "truth", "train_truth", "calibration", "checkpoint", "prompt"):
        path = getattr(config, key, None)
        if path and path not in ("auto", "none") and "://" not in path and not exists(path):
            kind = "run folder or checkpoint" if key == "checkpoint" else "file"
            raise DataError(f"{key}={path}: no such {kind}{mean_path(path)}")
    _check_out(config)
    name = getattr(config, "model_name", None)
    if is_api_model(name, getattr(config, "engine", "auto")):
        if not hasattr(config, "api_model"):
            raise ModelError(f"model_name={name}: a model behind an API is only asked: geospot eval, guess, calibrate")
    elif name:
        from geospot.models.loading import is_tiny, locate

        if not is_tiny(name):
            locate(name)
    for key in ("data", "eval_data", "against"):
        spec = getattr(config, key, None)
        if spec and spec not in ("bluemarble", "auto", "none", "cells") and "://" not in spec and not _is_there(spec):
            from geospot.data.sources import open_source

            open_source(spec, key=key)  # shards by {0000..0009}, or a refusal


# Of these commands `out` is a file, whose folder must be there; of the others a folder, which is made.
_FILES = ("InspectConfig", "GuessConfig", "ReportConfig", "WatchConfig")


def _check_out(config: object) -> None:
    """Refuse a place that nothing can be written to, before the work rather than behind it."""
    out = getattr(config, "out", None)
    if not out:
        return
    place = Path(out).expanduser()
    is_file = type(config).__name__ in _FILES
    if is_file and place.is_dir():
        raise DataError(f"out={out}: is a folder; give the name of a file in it")
    if is_file and not place.parent.is_dir():
        raise DataError(f"out={out}: no such folder: {place.parent}{mean_path(str(place.parent))}")
    if not is_file and exists(out) and not place.is_dir():
        raise DataError(f"out={out}: is a file; give the name of a folder")
    above = next((p for p in (place, *place.absolute().parents) if p.exists()), Path("/"))
    if not above.is_dir() and not is_file:
        raise DataError(f"out={out}: {above} is a file, and no folder can be made in it")
    if not os.access(above, os.W_OK):
        raise DataError(f"out={out}: {above} cannot be written to (no permission)")


def _is_there(spec: str) -> bool:
    """Whether a source is a path that exists, with or without KIND: before it, or a pattern that matches."""
    return exists(spec) or exists(spec.partition(":")[2] or spec) or any(glob.iglob(os.path.expanduser(spec)))


def exists(path: str) -> bool:
    """Whether a path, which may be any text, is that of something."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError):  # too long, a NUL
        return False
