"""`geospot/tiny`: a Qwen2.5-VL of a few million parameters, its tokenizer made for place names and coordinates.

Built from its transformers config and saved in the hub's own format, so the code that loads it is the code that loads
the real one.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geospot.answer import prompt_text
from geospot.earth.anchors import anchor_cities, country_names

if TYPE_CHECKING:
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# The shape of Qwen2.5-VL's own conversation, without its default system prompt.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] + '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>{{ 'assistant\\n' }}{%- endif -%}
"""
PIXELS = 112
PATCH_PIXELS = 28


def words() -> list[str]:
    """Strings that are one token each: the prompt's lines, field names, cities, countries, whole degrees, tenths."""
    out = ["user\n", "assistant\n", "system\n", "Unknown", ", ", " (", ")"]
    for region in (False, True):
        out += prompt_text(region=region).splitlines(keepends=True)
    out += ["City: ", "\nRegion: ", "\nCountry: ", "\nLatitude: ", "\nLongitude: "]
    out += [str(degrees) for degrees in range(-180, 181) if abs(degrees) > 9 or degrees < 0]
    out += ["-0"] + [f".{tenth}" for tenth in range(10)]
    out += country_names().values()
    out += anchor_cities()[0].tolist()
    return sorted(set(out))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A tokenizer that spells any text in bytes and writes each of `words()` in one token.

    A unigram model over byte-level text picks the segmentation of the highest score. A word costs 1, a byte 1.5 and
    a tenth 0.9, so it uses as few tokens as it can, and "33.71" is "33", ".7", "1" rather than "33", ".", "71".
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = [(char, -1.5) for char in sorted(pre_tokenizers.ByteLevel.alphabet())]
    for word in words():
        spelled = byte_level.pre_tokenize_str(word)[0][0]
        vocab.append((spelled, -0.9 if word.startswith(".") else -1.0))
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=None))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_config(
    tokenizer: "PreTrainedTokenizerFast",
    *,
    hidden: int = 192,
    layers: int = 3,
    vision_hidden: int = 160,
    vision_layers: int = 5,
) -> "Qwen2_5_VLConfig":
    """Qwen2.5-VL's architecture at a size that two cores train in minutes; 112-pixel pictures are one window."""
    from transformers import Qwen2_5_VLConfig

    ids: dict[str, Any] = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    head_dim = 32
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // head_dim,
        "num_key_value_heads": hidden // head_dim // 2,
        "max_position_embeddings": 4096,
        # Sections for time, height and width; they sum to half a head.
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": vision_layers,
        "hidden_size": vision_hidden,
        "intermediate_size": 3 * vision_hidden,
        "num_heads": vision_hidden // head_dim,
        "out_hidden_size": hidden,
        "patch_size": PATCH_PIXELS,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": PIXELS,
        "fullatt_block_indexes": list(range(vision_layers)),
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build_image_processor() -> "Qwen2VLImageProcessorPil":
    """Qwen2.5-VL's image processor; pictures above 112 x 112 pixels are scaled down to that area."""
    from transformers import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": 56 * 56, "longest_edge": PIXELS * PIXELS},
        patch_size=PATCH_PIXELS,
        merge_size=2,
        temporal_patch_size=2,
    )


def build_model(
    tokenizer: "PreTrainedTokenizerFast", seed: int = 0, **shape: int
) -> "Qwen2_5_VLForConditionalGeneration":
    """A randomly initialised model; `shape` goes to `build_config`. The global RNG is left as it was."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = build_config(tokenizer, **shape)
        model: Any = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = model.config.text_config.eos_token_id
    model.generation_config.pad_token_id = model.config.text_config.pad_token_id
    return model


def save_untrained(folder: str | Path, seed: int = 0, **shape: int) -> Path:
    """Write tokenizer, image processor and untrained model to `folder` in hub format; returns it."""
    from transformers.utils import logging

    folder = Path(folder)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed, **shape)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    build_image_processor().save_pretrained(folder)
    return folder
