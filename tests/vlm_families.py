"""Small untrained models of other families than the built-in one, in hub format, with its tokenizer.

Their classes are imported where they are made: importing them takes 3 s, in each of pytest's processes.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made import made_once

from geospot.models.tiny import build_tokenizer

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}


def qwen3_vl(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    """Picture features go in behind the first two layers, too; queries and keys are normalised."""
    from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 14,
        "deepstack_visual_indexes": [0, 1],
        "num_position_embeddings": 64,
    }
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    size = {"shortest_edge": 28 * 28, "longest_edge": 112 * 112}
    processor = Qwen2VLImageProcessorPil(size=size, patch_size=14, merge_size=2, temporal_patch_size=2)
    return Qwen3VLForConditionalGeneration(config), processor


def llava(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    """CLIP in front of a Llama: every picture takes as many tokens, positions are plain."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**text), image_token_id=ids["<|image_pad|>"],
        vision_feature_layer=-2, vision_feature_select_strategy="default",
    )  # fmt: skip
    side = {"height": 56, "width": 56}
    processor = CLIPImageProcessorPil(size=side, crop_size=side)
    return LlavaForConditionalGeneration(config), processor


def gemma3(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    """Norms behind the layers, windows, pictures that see all of themselves: not a decoder that is run here."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil

    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(
        text_config=text | {"sliding_window": 8, "layer_types": ["sliding_attention", *["full_attention"] * 2]},
        vision_config=vision, mm_tokens_per_image=4, image_token_id=ids["<|image_pad|>"],
        boi_token_index=ids["<|vision_start|>"], eoi_token_index=ids["<|vision_end|>"],
    )  # fmt: skip
    processor = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    return Gemma3ForConditionalGeneration(config), processor


FAMILIES = {"qwen3_vl": qwen3_vl, "llava": llava, "gemma3": gemma3}


def saved(factory: pytest.TempPathFactory, family: str) -> str:
    """The folder of a model of this family, one for all tests."""
    return str(made_once(factory, family, partial(save, family=family)))


def save(folder: Path, family: str) -> None:
    """Write a model of this family; no two tokens are nearly equally likely, or nothing wrong would show."""
    import torch

    tokenizer = build_tokenizer()
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>", "<|endoftext|>")
    ids = dict(zip(tokens, tokenizer.convert_tokens_to_ids(list(tokens)), strict=True))
    special = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], "bos_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = FAMILIES[family](TEXT | special | {"vocab_size": len(tokenizer)}, ids)
    with torch.no_grad():
        model.model.language_model.norm.weight.mul_(8).add_(0 if family != "gemma3" else 7)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
