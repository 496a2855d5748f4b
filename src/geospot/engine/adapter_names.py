"""The names that an adapter's modules have: the model's own, which PEFT loads, and the service's."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from geospot.files import write_json_atomic
from geospot.models.loading import module_names

if TYPE_CHECKING:
    import torch

PEFT_PREFIX = "base_model.model."


def service_name(name: str) -> str:
    """A parameter's name as the service has it: no `language_model`, and the head is `unembed_tokens`."""
    name = name.replace("model.language_model.", "model.", 1)
    return re.sub(r"^lm_head\b", "model.unembed_tokens", name)


def use_model_names(adapter: str | Path, base_model: str) -> None:
    """Rename the modules of an adapter from the service, in place, as the model has them; PEFT would pass them over."""
    from safetensors.torch import load_file, save_file

    folder = Path(adapter)
    weights, config_file = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if not (weights.is_file() and config_file.is_file()):
        return
    of_service = {service_name(name): name for name in module_names(base_model)}
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(weights).items():
        module, lora, rest = name.removeprefix(PEFT_PREFIX).partition(".lora_")
        renamed[PEFT_PREFIX + of_service.get(module, module) + lora + rest] = tensor
    save_file(renamed, weights, metadata={"format": "pt"})
    modules = sorted({name.removeprefix(PEFT_PREFIX).partition(".lora_")[0] for name in renamed})
    config = json.loads(config_file.read_text())
    write_json_atomic(config_file, {**config, "base_model_name_or_path": base_model, "target_modules": modules})
