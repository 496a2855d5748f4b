"""`geospot export`: trained weights as others load them, with a model card; on the hub by option."""

import shutil
import tempfile
from pathlib import Path

from geospot.config import ExportConfig
from geospot.engine.weights import fetch_weights, weights_info
from geospot.errors import EngineError
from geospot.files import write_bytes_atomic
from geospot.report.model_card import model_card
from geospot.runs.checkpoints import find_checkpoint


def run(config: ExportConfig) -> dict[str, Path]:
    """Write, say what was written, push if asked to; returns form -> folder."""
    out, checkpoint = Path(config.out), find_checkpoint(config.checkpoint)
    info = weights_info(checkpoint, config.base_url)
    forms = _forms(config, is_lora=bool(info.is_lora))
    if taken := [form for form in forms if (out / form).exists()]:
        raise EngineError(f"out={config.out!r}: {out / taken[0]} exists; choose another folder, or delete it")
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
        print(f"wrote {folder}")
        if config.push:
            print(f"pushed to {push(folder, config.push, private=config.private)}")
    return written


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
        raise EngineError(f"push={repository}: {first}. {folder} is whole; `hf auth login`, then push again") from error
    return str(address)
