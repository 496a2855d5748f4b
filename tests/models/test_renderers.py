"""Prompts of Qwen3-VL and Qwen3.5: the tokens of their templates, and the image tokens of every picture size."""

import functools
import io
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg
from PIL import Image
from tinker import types
from transformers import PreTrainedTokenizerFast

from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer

# What the families' own templates write for a user's turn of pictures and text, and for the answer's beginning.
_TURN = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part['text'] }}
{%- endif -%}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}BEGINS{%- endif -%}
"""
_THINKING = (
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{%- else -%}{{ '<think>\\n' }}{%- endif -%}"
)
FAMILIES = {
    # model_type, template, patch, least and most pixels
    "qwen3_vl": ("qwen3_vl", _TURN.replace("BEGINS", ""), 16, 65_536, 16_777_216),
    "qwen3_5": ("qwen3_5", _TURN.replace("BEGINS", _THINKING), 16, 65_536, 16_777_216),
    "qwen2_5_vl": ("qwen2_5_vl", _TURN.replace("BEGINS", ""), 14, 3_136, 12_845_056),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, qwen_folder):
    """Family -> a folder with config, tokenizer and image processor as on the hub; no weights."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(qwen_folder)
    tokenizer.add_tokens(["<tool_response>", "</tool_response>", "<think>", "</think>"])
    whole = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(whole)
    out = {}
    for family, (model_type, template, patch, least, most) in FAMILIES.items():
        folder = shutil.copytree(whole, tmp_path_factory.mktemp(family) / "model", copy_function=os.link)
        ids = {"image_token_id": 151655, "video_token_id": 151656}
        ids |= {"vision_start_token_id": 151652, "vision_end_token_id": 151653}
        (folder / "config.json").write_text(json.dumps({"model_type": model_type, **ids}))
        processor = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": patch, "merge_size": 2}
        processor |= {"temporal_patch_size": 2, "size": {"shortest_edge": least, "longest_edge": most}}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        (folder / "model.safetensors").write_bytes(b"")  # a client of a service needs none
        (folder / "chat_template.jinja").unlink()
        (folder / "chat_template.jinja").write_text(template)
        out[family] = str(folder)
    return out


@functools.cache
def renderer_of(folder: str) -> Renderer:
    return Renderer(load_processing(folder))


def written_out(prompt: types.ModelInput) -> list:
    """Tokens, with ("image", n) in the place of each picture."""
    out = []
    for chunk in prompt.chunks:
        out += [("image", chunk.expected_tokens)] if isinstance(chunk, types.ImageChunk) else list(chunk.tokens)
    return out


IM_START, IM_END, VISION_START, VISION_END, THINK, END_THINK = 151644, 151645, 151652, 151653, 151667, 151668
USER, ASSISTANT, NEWLINE, TWO_NEWLINES = 872, 77091, 198, 271
QUESTION = [9064, 572, 419, 4429, 30]  # Where was this taken?


@pytest.mark.parametrize(
    ("family", "begins"), [("qwen3_vl", []), ("qwen3_5", [THINK, TWO_NEWLINES, END_THINK, TWO_NEWLINES])]
)
def test_the_prompt_token_by_token(folders, family, begins):
    prompt = renderer_of(folders[family]).prompt([jpeg(0, 512, 512)], "Where was this taken?")
    assert written_out(prompt) == [
        *(IM_START, USER, NEWLINE, VISION_START, ("image", 256), VISION_END, *QUESTION, IM_END, NEWLINE),
        *(IM_START, ASSISTANT, NEWLINE, *begins),
    ]


@pytest.mark.parametrize(("size", "tokens"), [((512, 512), 256), ((682, 512), 336), ((910, 512), 448), ((64, 64), 64)])
def test_known_sizes(folders, size, tokens):
    for family in ("qwen3_vl", "qwen3_5"):
        assert renderer_of(folders[family]).image_chunk(jpeg(1, *size)).expected_tokens == tokens


def by_hand(width: int, height: int, factor: int, least: int, most: int) -> int:
    """Image tokens by the rule of Qwen's smart_resize: sides rounded to the factor, the area kept within bounds."""
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > most:
        shrink = (height * width / most) ** 0.5
        h, w = (max(factor, int(side / shrink // factor) * factor) for side in (height, width))
    elif h * w < least:
        grow = (least / (height * width)) ** 0.5
        h, w = (int(-(-side * grow // factor)) * factor for side in (height, width))
    return h * w // factor**2


@settings(max_examples=120)
@given(width=st.integers(8, 3000), height=st.integers(8, 3000))
@pytest.mark.parametrize("family", FAMILIES)
def test_image_tokens_of_every_size(folders, family, width, height):
    if max(width, height) > 190 * min(width, height):
        return
    _, _, patch, least, most = FAMILIES[family]
    counted = renderer_of(folders[family]).processing.count_image_tokens(width, height)
    assert counted == by_hand(width, height, 2 * patch, least, most)


@settings(max_examples=12)
@given(width=st.integers(20, 500), height=st.integers(20, 500))
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_as_many_as_the_image_processor_makes(folders, family, width, height):
    renderer = renderer_of(folders[family])
    data = jpeg(0, width, height)
    image = np.asarray(Image.open(io.BytesIO(data)))
    grid = renderer.processing.image_processor(images=[image], return_tensors="np")["image_grid_thw"][0]
    assert renderer.image_chunk(data).expected_tokens == grid.prod() // 4


@pytest.mark.parametrize(
    ("family", "theirs"), [("qwen3_vl", "Qwen3VLInstructRenderer"), ("qwen3_5", "Qwen3_5DisableThinkingRenderer")]
)
def test_tinker_cookbook_renders_the_same_tokens(folders, family, theirs):
    """Where it is installed: the renderers that the service's own examples use."""
    pytest.importorskip("tinker_cookbook")
    from tinker_cookbook.renderers import qwen3, qwen3_5

    ours = renderer_of(folders[family])
    make = getattr(qwen3 if family == "qwen3_vl" else qwen3_5, theirs)
    cookbook = make(ours.tokenizer, ours.processing.image_processor)
    question = "Where was this taken?\n\nCity: ...\n  Country: ..."
    for sizes in ([], [(512, 512)], [(640, 360), (70, 90), (900, 300), (33, 200)]):
        pictures = [jpeg(i, *size) for i, size in enumerate(sizes)]
        content = [{"type": "image", "image": Image.open(io.BytesIO(picture))} for picture in pictures]
        content.append({"type": "text", "text": question})
        message = {"role": "user", "content": content}
        expected = written_out(cookbook.build_generation_prompt([message]))
        assert written_out(ours.prompt(pictures, question)) == expected
        answered = [message, {"role": "assistant", "content": "City: Lyon\nCountry: France"}]
        example, weights = cookbook.build_supervised_example(answered)[:2]
        whole = written_out(example)
        target = ours.answer_tokens("City: Lyon\nCountry: France")
        assert written_out(ours.prompt(pictures, question)) + target == whole[: len(expected) + len(target)]
        assert sum(np.asarray(weights) > 0) in (len(target), len(target) + 1)
    assert set(cookbook.get_stop_sequences()) == set(ours.stop_token_ids)
