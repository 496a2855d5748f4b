"""Load a vision-language model, its tokenizer and its image processor through transformers' own classes."""

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geospot.errors import ModelError, did_you_mean, mean_path

if TYPE_CHECKING:
    import torch
    from torch import nn

TINY = "geospot/tiny"
TINY_UNTRAINED = "geospot/tiny-untrained"
TINY_FOLDER = "tiny_base"

# Families whose image processor has no form without torchvision.
NEED_TORCHVISION = ("kimi_k25",)

# Tokens that only pictures and videos may stand for: sampled as text they break the next forward pass.
_VISION_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def is_tiny(model_name: str) -> bool:
    """Whether it is one of the built-in models."""
    return model_name in (TINY, TINY_UNTRAINED)


@dataclass(frozen=True)
class Processing:
    """What turns text and pictures into a model's input: no weights, loaded in a moment."""

    model_name: str
    folder: str  # or hub name: what transformers loads from
    tokenizer: Any
    image_processor: Any
    image_token_id: int
    banned_token_ids: tuple[int, ...]

    @cached_property
    def end_of_turn(self) -> int:
        """The token that the chat template writes behind an answer; the tokenizer's EOS where it writes none."""
        return end_of_turn(self.tokenizer)

    @property
    def stop_token_ids(self) -> list[int]:
        """What ends an answer unless something else is asked for: the end of the turn, and the end of the text."""
        return sorted({self.end_of_turn, int(self.tokenizer.eos_token_id)})

    def count_image_tokens(self, width: int, height: int) -> int:
        """Tokens that a picture of this size takes in the prompt."""
        processor = self.image_processor
        if hasattr(processor, "merge_size") and hasattr(processor, "get_number_of_image_patches"):
            patches = processor.get_number_of_image_patches(height, width, {})
            return int(patches) // int(processor.merge_size) ** 2
        return count_features(self, width, height)


_ANSWER = "geospot"


def chat_text(tokenizer: Any, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
    """What the chat template writes, where it can choose without thoughts: the answer comes at once.

    Templates read `enable_thinking` (Qwen3.5 and later) or `thinking` (Kimi, DeepSeek); others look at neither.
    """
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=False, enable_thinking=False, thinking=False
    )


def end_of_turn(tokenizer: Any) -> int:
    """The first special token that the tokenizer's chat template writes behind an answer, else its EOS."""
    turns = {"user": "a", "assistant": _ANSWER}
    plain = [{"role": role, "content": text} for role, text in turns.items()]
    parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns.items()]
    text = ""
    for messages in (plain, parts):  # templates take one form or both
        with suppress(Exception):  # jinja's, or what the template raises
            text = text if _ANSWER in text else chat_text(tokenizer, messages, add_generation_prompt=False)
    if _ANSWER not in text:
        return int(tokenizer.eos_token_id)
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special |= set(tokenizer.all_special_ids)
    behind = tokenizer(text.rpartition(_ANSWER)[2], add_special_tokens=False).input_ids
    return next((int(token) for token in behind if token in special), int(tokenizer.eos_token_id))


def locate(model_name: str) -> str:
    """What to give to `from_pretrained`: a folder or a hub name. Checks a local folder for missing files first."""
    if model_name == TINY:
        return str(resources.files("geospot.models") / TINY_FOLDER)
    if model_name == TINY_UNTRAINED:
        return _untrained().name
    folder = Path(model_name).expanduser()
    if model_name.startswith("geospot/") and not folder.exists():
        hint = did_you_mean(model_name, (TINY, TINY_UNTRAINED))
        raise ModelError(f"model_name={model_name}: there is no such built-in model{hint}")
    looks_local = folder.exists() or model_name.startswith((".", "/", "~")) or model_name.count("/") != 1
    if looks_local:
        _check_folder(folder, model_name)
        return str(folder)
    return model_name


@cache
def _untrained() -> tempfile.TemporaryDirectory:
    """A folder with the untrained tiny model, made once and deleted when the program ends."""
    from geospot.models import tiny

    folder = tempfile.TemporaryDirectory(prefix="geospot-tiny-")
    tiny.save_untrained(folder.name)
    return folder


def _check_folder(folder: Path, model_name: str) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"model_name={model_name!r}: no such folder, and not a hub name (owner/name){mean_path(model_name) or '.'} "
            f"The built-in models are {TINY} and {TINY_UNTRAINED}"
        )
    have = {path.name for path in folder.iterdir()}
    if "config.json" in have:
        _check_takes_pictures(_read_json(folder / "config.json", model_name), model_name)
    wanted = {
        "config.json": {"config.json"},
        "tokenizer files": {"tokenizer.json", "vocab.json", "tokenizer.model"},
        "preprocessor_config.json": {"preprocessor_config.json", "processor_config.json"},
        "weights": {name for name in have if name.endswith((".safetensors", ".bin"))},
    }
    missing = [what for what, names in wanted.items() if not names & have]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = set(_read_json(index, model_name).get("weight_map", {}).values())
        missing += sorted(shards - have)
    if missing:
        raise ModelError(
            f"model_name={model_name!r}: the folder lacks {', '.join(missing)}. Copy the whole model folder, or give "
            "the hub name to download it again"
        )


def _read_json(path: Path, model_name: str) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"model_name={model_name!r}: {path} is not JSON ({error}); copy it again") from error


def _check_takes_pictures(config: dict[str, Any], model_name: str) -> int:
    """The token that stands for a picture; older configs call it an index. ModelError where there is none."""
    token = config.get("image_token_id")
    token = config.get("image_token_index") if token is None else token
    if token is None:
        kind = config.get("model_type", "text-only")
        raise ModelError(
            f"model_name={model_name!r}: a {kind} model takes no pictures; take a vision-language model such as "
            "Qwen/Qwen2.5-VL-3B-Instruct"
        )
    return token


def _from_pretrained(auto_class: Any, source: str, model_name: str, what: str, **kwargs: Any) -> Any:
    try:
        return auto_class.from_pretrained(source, **kwargs)
    except Exception as error:  # tokenizers and safetensors raise classes of their own
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model_name={model_name!r}: its {what} cannot be loaded ({first_line}). A hub model needs the network or "
            "an earlier download, and `hf auth login` where it is gated; a folder needs the files of save_pretrained"
        ) from error


def load_processing(model_name: str) -> Processing:
    """Tokenizer and image processor of a hub model, a folder, `geospot/tiny` or `geospot/tiny-untrained`."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    source = locate(model_name)
    config = _from_pretrained(AutoConfig, source, model_name, "config")
    image_token_id = _check_takes_pictures(config.to_dict(), model_name)
    tokenizer = _from_pretrained(AutoTokenizer, source, model_name, "tokenizer")
    # The PIL backend everywhere: it needs no torchvision, and pictures get the same pixels on every machine.
    backend = _backend(config.model_type, model_name)
    image_processor = _from_pretrained(AutoImageProcessor, source, model_name, "image processor", backend=backend)
    if tokenizer.chat_template is None:
        raise ModelError(f"model_name={model_name!r}: its tokenizer has no chat template; take an instruct model")
    banned = (image_token_id, *(getattr(config, name, None) for name in _VISION_TOKENS))
    return Processing(
        model_name=model_name,
        folder=source,
        tokenizer=tokenizer,
        image_processor=image_processor,
        image_token_id=image_token_id,
        banned_token_ids=tuple(sorted({int(token) for token in banned if token is not None})),
    )


def _backend(model_type: str, model_name: str) -> Literal["pil", "torchvision"]:
    """What the family's image processor runs on; ModelError where that is not installed."""
    if model_type not in NEED_TORCHVISION:
        return "pil"
    if find_spec("torchvision") is None:
        raise ModelError(
            f"model_name={model_name!r}: the image processor of {model_type} models needs torchvision: "
            "`uv pip install torchvision`, in the version that fits torch"
        )
    return "torchvision"


@lru_cache(maxsize=4096)
def count_features(processing: Processing, width: int, height: int) -> int:
    """How many features the model makes of a picture of this size, from the shapes alone: nothing is computed."""
    blank = np.zeros((height, width, 3), dtype=np.uint8)
    processed = processing.image_processor(images=[blank], input_data_format="channels_last", return_tensors="pt")
    if "image_grid_thw" in processed and hasattr(processing.image_processor, "merge_size"):
        return int(np.prod(processed["image_grid_thw"][0])) // int(processing.image_processor.merge_size) ** 2
    pixels = processed["pixel_values"]
    features = _shapes_only(processing.folder).get_image_features(pixel_values=pixels.to("meta"), return_dict=True)
    return sum(len(part) for part in features.pooler_output)


def count_parameters(model_name: str) -> int:
    """How many numbers a model's weights are, by its configuration alone; ModelError where that cannot be read."""
    from transformers import AutoConfig

    source = locate(model_name)
    _check_takes_pictures(_from_pretrained(AutoConfig, source, model_name, "config").to_dict(), model_name)
    return sum(p.numel() for p in _shapes_only(source).parameters())


@cache
def _shapes_only(source: str) -> Any:
    """The model without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(source)).eval()


def module_names(model_name: str) -> list[str]:
    """The names of a model's modules, without its weights."""
    return [name for name, _ in _shapes_only(locate(model_name)).named_modules()]


def use_linear_patch_embed(model: "nn.Module") -> "nn.Module":
    """Let Qwen-VL's patch embeddings run as a linear layer, in place; returns the model.

    Transformers writes them as a Conv3d whose kernel is as large as its input, which torch runs several times slower on
    a CPU (benchmarks/patch_embed.py). Weights, names and results (to rounding) stay as they are.
    """
    from torch import nn

    for module in model.modules():
        proj = getattr(module, "proj", None)
        if (
            type(module).__name__.endswith("PatchEmbed")
            and isinstance(proj, nn.Conv3d)
            and proj.kernel_size == proj.stride
        ):
            module.forward = MethodType(_linear_patches, module)
    return model


def _linear_patches(self: Any, patches: "torch.Tensor") -> "torch.Tensor":
    """(n_patches, channels * time * height * width) -> (n_patches, dim)."""
    from torch.nn import functional as F

    weight = self.proj.weight
    return F.linear(patches.to(weight.dtype).flatten(1), weight.flatten(1), self.proj.bias)


def load_model(processing: Processing, *, dtype: str = "float32", device: str = "cpu") -> Any:
    """The model in evaluation mode, its weights frozen."""
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, info = _from_pretrained(
        AutoModelForImageTextToText,
        processing.folder,
        processing.model_name,
        "model",
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"model_name={processing.model_name!r}: its weights lack {len(missing)} of the model's tensors "
            f"({missing[0]}, ...): they would start as noise. Copy or download the whole model again"
        )
    model.requires_grad_(False)
    return use_linear_patch_embed(model).to(device).eval()
