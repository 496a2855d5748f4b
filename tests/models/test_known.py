"""The table of known models: as many numbers as transformers' models of those shapes have."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

from geospot.models.known import KNOWN, KnownModel
from geospot.models.loading import locate


def config(model: KnownModel):
    if model.name == "geospot/tiny":
        return AutoConfig.from_pretrained(locate(model.name))
    text = {
        "hidden_size": model.hidden, "num_hidden_layers": model.layers, "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads, "intermediate_size": model.inner, "vocab_size": model.vocabulary,
    }  # fmt: skip
    vision = {"depth": model.vision_layers, "num_heads": 16, "patch_size": model.patch}
    if model.family == "qwen2_vl":
        ratio = model.vision_inner // model.vision_hidden
        vision |= {"embed_dim": model.vision_hidden, "mlp_ratio": ratio, "hidden_size": model.hidden}
    else:
        vision |= {"hidden_size": model.vision_hidden, "intermediate_size": model.vision_inner}
        vision["out_hidden_size"] = model.hidden
    if model.family == "qwen3_vl":
        text["head_dim"] = model.head_dim
        vision |= {"deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 2304}
    classes = {"qwen2_vl": Qwen2VLConfig, "qwen2_5_vl": Qwen2_5_VLConfig, "qwen3_vl": Qwen3VLConfig}
    return classes[model.family](text_config=text, vision_config=vision, tie_word_embeddings=model.tied)


@pytest.mark.parametrize("model", KNOWN, ids=lambda model: model.name)
def test_a_known_model_has_as_many_numbers_as_transformers_gives_it(model):
    if model.layers > 40:
        return  # their formula is that of the smaller ones; building the shapes takes seconds
    with torch.device("meta"):
        built = AutoModelForImageTextToText.from_config(config(model))
    assert sum(p.numel() for p in built.parameters()) == model.parameters
    decoder = sum(p.numel() for name, p in built.named_parameters() if "language_model.layers" in name)
    assert decoder == model.decoder


def test_sizes_are_those_that_are_published():
    """Billions, as the model cards say."""
    sizes = {model.name.removeprefix("Qwen/"): round(model.parameters / 1e9, 1) for model in KNOWN}
    assert sizes["Qwen2.5-VL-3B-Instruct"] == 3.8
    assert sizes["Qwen2.5-VL-7B-Instruct"] == 8.3
    assert sizes["Qwen2.5-VL-72B-Instruct"] == 73.4
    assert sizes["Qwen3-VL-8B-Instruct"] == 8.8
    assert list(sizes.values()) == sorted(sizes.values())
