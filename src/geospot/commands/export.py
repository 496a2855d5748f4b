"""`geospot export`: trained weights as others load them, with a model card; on the hub by option."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geospot.config import ExportConfig
from geospot.engine.weights import fetch_weights, weights_info
from geospot.errors import EngineError
from geospot.files import write_bytes_atomic, write_json_atomic
from geospot.report.model_card import model_card
from geospot.runs.checkpoints import find_checkpoint, is_remote

if TYPE_CHECKING:
    from tinker.types import WeightsInfoResponse


def run(config: ExportConfig) -> dict[str, Path]:
    """Write, say what was written, push if asked to; returns form -> folder."""
    out, checkpoint = Path(config.out), find_checkpoint(config.checkpoint)
    info = weights_info(checkpoint, config.base_url)
    forms = _forms(config, is_lora=bool(info.is_lora))
    written = {form: out / form for form in forms if _is_export(out, form, checkpoint, config)}
    if taken := [form for form in forms if (out / form).exists() and form not in written]:
        raise EngineError(
            f"out={config.out}: {out / taken[0]} exists and is not an export of this checkpoint; choose another "
            "folder, or delete it"
        )
    for folder in written.values():
        print(f"{folder} holds this export already")
    if len(written) < len(forms):
        written = _write(config, checkpoint, info, out, [form for form in forms if form not in written]) | written
    if config.push:
        for folder in written.values():
            print(f"pushed to {push(folder, config.push, private=config.private)}")
    return written


def _write(
    config: ExportConfig, checkpoint: str, info: "WeightsInfoResponse", out: Path, forms: Sequence[str]
) -> dict[str, Path]:
    """The folders of these forms, each with a model card."""
    written: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="geospot-export-") as scratch:
        place, silent_s = Path(scratch) / "weights", config.server_timeout_s
        weights = fetch_weights(checkpoint, place, base_url=config.base_url, silent_s=silent_s)
        if "adapter" in forms:
            written["adapter"] = Path(shutil.copytree(weights, out / "adapter"))
        if "merged" in forms:
            from geospot.engine.weights import write_merged

            written["merged"] = write_merged(weights, info.base_model, out / "merged", dtype=config.dtype)
    for form, folder in written.items():
        card = model_card(config.checkpoint, checkpoint, info, form)
        write_bytes_atomic(folder / "README.md", card.encode())
        write_json_atomic(_note(out, form), _facts(form, checkpoint, config))
        print(f"wrote {folder}")
    return written


def _note(out: Path, form: str) -> Path:
    return out / f"{form}.json"


def _facts(form: str, checkpoint: str, config: ExportConfig) -> dict[str, object]:
    """What an export is of, for a second call to know it by: the checkpoint's files as they are, and the precision."""
    files = [] if is_remote(checkpoint) else sorted(p for p in Path(checkpoint).rglob("*") if p.is_file())
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return {"form": form, "checkpoint": checkpoint, "dtype": config.dtype, "files": state}


def _is_export(out: Path, form: str, checkpoint: str, config: ExportConfig) -> bool:
    """Whether an earlier call wrote this folder from this checkpoint: what was not pushed then may be now."""
    if not (out / form).is_dir() or not _note(out, form).is_file():
        return False
    try:
        return json.loads(_note(out, form).read_text(encoding="utf-8")) == _facts(form, checkpoint, config)
    except ValueError:
        return False


def _forms(config: ExportConfig, *, is_lora: bool) -> list[str]:
    forms = {"auto": ["adapter" if is_lora else "merged"], "both": ["adapter", "merged"]}.get(
        config.form, [config.form]
    )
    if "adapter" in forms and not is_lora:
        raise EngineError(f"form={config.form!r}: all weights were trained, there is no adapter; set form=merged")
    return forms


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to the hub; returns the repository's address. EngineError where the hub refuses."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="geospot export")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(
            f"push={repository}: {first}. {folder} is whole; `hf auth login`, then give the same "
            "command again, which only pushes"
        ) from error
    return str(address)
