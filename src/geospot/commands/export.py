"""`geospot export`: trained weights as others load them, with a model card; on the hub by option."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import chz

from geospot.config import run_command
from geospot.engine import weights_info
from geospot.errors import EngineError
from geospot.files import write_bytes_atomic
from geospot.report.model_card import model_card
from geospot.runs.checkpoints import find_checkpoint, is_remote


@chz.chz
class ExportConfig:
    """Write a checkpoint of either engine as a PEFT adapter, as merged weights in the hub's format, or as both."""

    checkpoint: str = chz.field(doc="run folder, checkpoint or tinker:// path")
    out: str = chz.field(doc="folder to write; adapter and merged weights go into folders of these names in it")
    form: Literal["auto", "adapter", "merged", "both"] = chz.field(
        default="auto", doc="auto: adapter where one was trained, merged where all weights were"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = chz.field(
        default="auto", doc="of merged weights; auto: the base model's"
    )
    base_url: str | None = chz.field(default=None, doc="the server of a tinker:// path; none: the hosted service")
    server_timeout_s: float = chz.field(default=45.0, doc="seconds without a sign of life after which it is dead")
    push: str | None = chz.field(
        default=None, doc="owner/name of a hub repository to upload to (`hf auth login` first)"
    )
    private: bool = chz.field(default=True, doc="make a repository that does not exist yet private")

    @chz.validate
    def _check_export(self):
        if self.push is not None and self.push.count("/") != 1:
            raise ValueError(f"push={self.push!r}: must be owner/name")
        if self.push is not None and self.form == "both":
            raise ValueError("form='both': a repository holds one model; push the adapter and the merged weights apart")


def run(config: ExportConfig) -> dict[str, Path]:
    """Write, say what was written, push if asked to; returns form -> folder."""
    out, checkpoint = Path(config.out), find_checkpoint(config.checkpoint)
    info = weights_info(checkpoint, config.base_url)
    forms = _forms(config, is_lora=bool(info.is_lora))
    if taken := [form for form in forms if (out / form).exists()]:
        raise EngineError(f"out={config.out!r}: {out / taken[0]} exists; choose another folder, or delete it")
    written: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="geospot-export-") as scratch:
        weights = _fetch(checkpoint, config, Path(scratch))
        if "adapter" in forms:
            written["adapter"] = Path(shutil.copytree(weights, out / "adapter"))
        if "merged" in forms:
            from geospot.engine.export import write_merged

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


def _fetch(checkpoint: str, config: ExportConfig, scratch: Path) -> Path:
    """The weights alone in a scratch folder: a PEFT adapter, or a local checkpoint that trained all weights."""
    if is_remote(checkpoint):
        from geospot.engine.tinker.checks import Server
        from geospot.engine.tinker.download import download

        return download(Server.find(config.base_url), checkpoint, scratch / "weights", config.server_timeout_s)
    from geospot.engine.export import write_external

    return write_external(checkpoint, scratch / "weights")


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


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run_command("export", ExportConfig, run, argv)


if __name__ == "__main__":
    main()
