"""Checkpoints of either engine by path: what they belong to, and their weights in the forms that others load.

A PEFT adapter, or whole weights in the hub's format.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geospot.engine.adapter_names import PEFT_PREFIX, service_name
from geospot.engine.local.options import LORA_ALPHA, NetworkSpec
from geospot.engine.local.state import read_spec, read_tensors
from geospot.errors import EngineError
from geospot.files import atomic_folder
from geospot.models.loading import load_processing, locate

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from tinker import types

Names = Literal["model", "service"]
_ADAPTER_NAME = ".default."  # what peft puts into the names of a module's own adapter, and leaves out in files


def weights_info(path: str, base_url: str | None = None) -> "types.WeightsInfoResponse":
    """What a checkpoint belongs to (`base_model`, `lora_rank`, ...).

    A tinker:// path is looked up on the server at `base_url` (None: the hosted service), anything else is a folder of
    the local engine. RunError where the folder is not a checkpoint, EngineError where the server does not answer.
    """
    if "://" in path:
        from geospot.engine.tinker.checks import Server

        return Server.find(base_url).weights_info(path)
    spec, _ = read_spec(path)
    from tinker import types  # after what may be refused: the SDK takes seconds to import

    flags: dict[str, Any] = {**spec.sdk_flags}
    return types.WeightsInfoResponse(
        base_model=spec.base_model, is_lora=spec.lora_rank > 0, lora_rank=spec.lora_rank, **flags
    )


def fetch_weights(path: str, out: str | Path, *, base_url: str | None = None, silent_s: float = 45.0) -> Path:
    """The weights of a checkpoint in the folder `out`: a PEFT adapter, or a local checkpoint that trained all weights.

    base_url, silent_s: the server of a tinker:// path, and the seconds without a sign of life after which it is dead.
    """
    if "://" in path:
        from geospot.engine.tinker.checks import Server
        from geospot.engine.tinker.service import download

        return download(Server.find(base_url), path, out, silent_s)
    return write_external(path, out)


def write_external(checkpoint: str | Path, out: str | Path, *, names: Names = "model", discard: bool = False) -> Path:
    """A local checkpoint as a PEFT adapter; one that trained all weights as it is, without the optimizer.

    names: of the adapter's modules, see `write_adapter`. `discard` deletes the checkpoint afterwards.
    """
    spec, _ = read_spec(checkpoint)
    if spec.lora_rank:
        write_adapter(checkpoint, out, names=names)
    else:
        with atomic_folder(out) as temp:
            for name in ("state.json", "weights.safetensors"):
                shutil.copy(Path(checkpoint) / name, temp / name)
    if discard:
        shutil.rmtree(checkpoint)
    return Path(out)


def write_adapter(checkpoint: str | Path, out: str | Path, *, names: Names = "model") -> Path:
    """adapter_config.json and adapter_model.safetensors, as `peft.PeftModel.from_pretrained` reads them.

    names: the model's own, or those that the service gives its adapters and that the Tinker cookbook merges.
    """
    from safetensors.torch import save_file

    spec, _ = read_spec(checkpoint)
    weights = read_tensors(checkpoint, "weights", "cpu")
    if names == "service":
        weights = {service_name(name): tensor for name, tensor in weights.items()}
    with atomic_folder(out) as temp:
        adapter_config(spec, weights).save_pretrained(str(temp))
        renamed = {PEFT_PREFIX + name.replace(_ADAPTER_NAME, "."): tensor for name, tensor in weights.items()}
        save_file(renamed, temp / "adapter_model.safetensors", metadata={"format": "pt"})
    return Path(out)


def adapter_config(spec: NetworkSpec, names: Iterable[str]) -> "LoraConfig":
    """The `peft.LoraConfig` of an adapter of the local engine whose tensors have these names."""
    from peft import LoraConfig

    return LoraConfig(
        r=spec.lora_rank,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0,
        target_modules=sorted({name.partition(".lora_")[0] for name in names}),
        base_model_name_or_path=spec.base_model,
        task_type="CAUSAL_LM",
        inference_mode=True,
    )


def write_merged(weights: str | Path, base_model: str, out: str | Path, *, dtype: str = "auto") -> Path:
    """The whole model with the trained weights in it, tokenizer and image processor beside it.

    weights: a folder with a PEFT adapter, or a local checkpoint that trained all weights. dtype: of what is written;
    auto is the base model's.
    """
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    processing = load_processing(base_model)
    torch_dtype = "auto" if dtype == "auto" else getattr(torch, dtype)
    model = AutoModelForImageTextToText.from_pretrained(locate(base_model), dtype=torch_dtype)
    if (Path(weights) / "adapter_config.json").is_file():
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(model, str(weights))
        _untie_adapted_head(adapted)
        model = adapted.merge_and_unload()
    else:
        _put(model, read_tensors(weights, "weights", "cpu"), base_model)
    with atomic_folder(out) as temp:
        model.save_pretrained(temp)
        processing.tokenizer.save_pretrained(temp)
        processing.image_processor.save_pretrained(temp)
    return Path(out)


def _untie_adapted_head(adapted: Any) -> None:
    """Give an output layer with an adapter a tensor of its own: what is merged into it is not for the embedding."""
    import torch

    model = adapted.get_base_model()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    base = getattr(head, "base_layer", head)
    if base is not head and base.weight is embedding.weight:
        base.weight = torch.nn.Parameter(base.weight.detach().clone(), requires_grad=False)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def _put(model: "torch.nn.Module", weights: "dict[str, torch.Tensor]", base_model: str) -> None:
    """Copy tensors into a model's parameters of the same names."""
    import torch

    parameters = dict(model.named_parameters())
    if unknown := sorted(weights.keys() - parameters.keys()):
        raise EngineError(f"{base_model} has no tensor {unknown[0]}: is the model the same?")
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(tensor)
