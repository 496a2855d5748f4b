"""Prompts token by token, and what happens to pictures on their way into them."""

import io
import re

import numpy as np
import pytest
from made import jpeg
from PIL import Image, ImageOps
from tinker import types

from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.pictures import decode_image, image_size, prepare_picture


@pytest.fixture(scope="module")
def qwen(qwen_folder):
    return Renderer(load_processing(qwen_folder))


# Ids as the hub's tokenizer gives them.
SYSTEM = [151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198]  # <|im_start|>system\nYou are a ...
USER = [151644, 872, 198]  # <|im_start|>user\n
VISION_START, VISION_END, IMAGE_PAD = 151652, 151653, 151655
QUESTION = [9064, 572, 419, 4429, 30]  # Where was this taken?
ASSISTANT = [151645, 198, 151644, 77091, 198]  # <|im_end|>\n<|im_start|>assistant\n


def chunks(prompt: types.ModelInput) -> list:
    """Token lists, and the number of tokens of each picture."""
    return [c.expected_tokens if isinstance(c, types.ImageChunk) else list(c.tokens) for c in prompt.chunks]


def test_qwens_prompt_token_by_token(qwen):
    prompt = qwen.prompt([jpeg(0, 512, 512)], "Where was this taken?")
    assert chunks(prompt) == [[*SYSTEM, *USER, VISION_START], 324, [VISION_END, *QUESTION, *ASSISTANT]]
    assert prompt.length == 15 + 324 + 11


def test_four_headings_of_one_place(qwen):
    prompt = qwen.prompt([jpeg(i, 56, 56 + 28 * i) for i in range(4)], "Where was this taken?")
    between = [VISION_END, VISION_START]
    assert chunks(prompt) == [
        *([*SYSTEM, *USER, VISION_START], 4, between, 6, between, 8, between, 10),
        [VISION_END, *QUESTION, *ASSISTANT],
    ]


def test_a_prompt_without_pictures(qwen):
    assert chunks(qwen.prompt([], "Where was this taken?")) == [[*SYSTEM, *USER, *QUESTION, *ASSISTANT]]


def test_pieces_around_pictures_are_tokenised_as_the_whole_would_be(qwen):
    """The tokens are those of the template's text with its image token repeated."""
    prompt = qwen.prompt([jpeg(0, 56, 56)], "City?\n\n  Country: ")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "City?\n\n  Country: "}]}]
    text = qwen.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    whole = qwen.tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * 4)).input_ids
    written_out = [t for c in chunks(prompt) for t in ([IMAGE_PAD] * c if isinstance(c, int) else c)]
    assert written_out == whole


def test_qwens_answers_end_their_turn(qwen):
    assert qwen.answer_tokens("Where was this taken?") == [*QUESTION, 151645]
    assert qwen.stop_token_ids == [151645]
    assert qwen.decode([*QUESTION, 151645, 151643]) == "Where was this taken?"


def test_the_tiny_prompt_token_by_token(renderer, pictures):
    prompt = renderer.prompt([pictures[0]], "Unknown")
    names = [renderer.tokenizer.convert_ids_to_tokens(c) if isinstance(c, list) else c for c in chunks(prompt)]
    newline = "Ċ"
    assert names == [
        ["<|im_start|>", f"user{newline}", "<|vision_start|>"],
        4,
        ["<|vision_end|>", "Unknown", "<|im_end|>", newline, "<|im_start|>", f"assistant{newline}"],
    ]


def test_a_question_cannot_bring_its_own_image_tokens(qwen):
    with pytest.raises(ValueError, match="wrote 2 image tokens for 1 pictures"):
        qwen.prompt([jpeg(0)], "What is <|image_pad|>?")


# -- pictures ---------------------------------------------------------------------------------------------------------


def half_red(width=60, height=40) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, width // 2, height))
    return image


def encoded(image, image_format, **kwargs) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **kwargs)
    return out.getvalue()


def assert_colour(pixel, colour):
    np.testing.assert_allclose(pixel.astype(int), colour, atol=12)


@pytest.mark.parametrize(("image_format", "name"), [("JPEG", "jpeg"), ("PNG", "png")])
def test_jpeg_and_png_go_in_as_they_are(qwen, image_format, name):
    data = encoded(half_red(), image_format)
    chunk = qwen.image_chunk(data)
    assert (chunk.data, chunk.format) == (data, name)
    assert chunk.expected_tokens == 6  # 60 x 40 pixels are fewer than 56 x 56: enlarged to 84 x 56


@pytest.mark.parametrize("image_format", ["WEBP", "BMP", "GIF", "TIFF"])
def test_other_formats_become_jpeg_and_look_the_same(qwen, image_format):
    chunk = qwen.image_chunk(
        encoded(half_red(), image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    )
    assert chunk.format == "jpeg"
    pixels = decode_image(chunk.data)
    assert pixels.shape == (40, 60, 3)
    assert_colour(pixels[20, 5], (255, 0, 0))
    assert_colour(pixels[20, 55], (0, 0, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(qwen, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = half_red()
    corner.paste((0, 255, 0), (0, 20, 20, 40))  # green at the bottom left, so that no two orientations look alike
    stored = encoded(corner, "JPEG", exif=exif, quality=95)
    data, _ = prepare_picture(stored)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(stored))))
    assert np.abs(decode_image(data).astype(int) - upright).mean() < 3  # of 255: JPEG is written twice
    assert Image.open(io.BytesIO(data)).getexif().get(0x0112, 1) == 1  # not to be turned a second time
    assert image_size(data) == ((60, 40) if orientation < 5 else (40, 60))
    assert qwen.image_chunk(stored).expected_tokens == qwen.processing.count_image_tokens(*image_size(data))


def test_a_picture_lying_on_its_side_is_put_upright():
    """Orientation 6, by hand: what is stored at the left is the upper edge."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode_image(prepare_picture(encoded(half_red(), "JPEG", exif=exif))[0])
    assert pixels.shape == (60, 40, 3)
    assert_colour(pixels[5, 20], (255, 0, 0))
    assert_colour(pixels[55, 20], (0, 0, 255))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_cost_the_picture(renderer):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 8
    data = bytearray(encoded(half_red(), "JPEG", exif=exif))
    start = data.find(b"Exif")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = data.copy()
        for at in rng.integers(start + 6, start + 80, 3):
            damaged[at] = rng.integers(0, 256)
        assert image_size(renderer.image_chunk(bytes(damaged)).data) in {(60, 40), (40, 60)}


def test_large_pictures_are_scaled_down_in_proportion(qwen_folder):
    renderer = Renderer(load_processing(qwen_folder), max_pixels=10_000)
    chunk = renderer.image_chunk(encoded(half_red(400, 100), "PNG"))
    width, height = image_size(chunk.data)
    assert 9_000 < width * height <= 10_000
    assert (width, height) == (200, 50)
    assert_colour(decode_image(chunk.data)[25, 10], (255, 0, 0))
    assert chunk.expected_tokens == renderer.processing.count_image_tokens(200, 50) == 14
    small = encoded(half_red(100, 100), "PNG")
    assert renderer.image_chunk(small).data == small


@pytest.mark.parametrize("cut", [0, 10, 300, -200])
def test_unreadable_pictures_are_a_value_error(renderer, cut):
    data = jpeg(0)
    with pytest.raises(ValueError, match="unreadable image"):
        renderer.prompt([data, data[:cut]], "Where?")


def test_a_picture_that_is_far_too_narrow_is_a_value_error(qwen):
    with pytest.raises(ValueError, match="too narrow"):
        qwen.image_chunk(encoded(Image.new("RGB", (3000, 10)), "PNG"))


def test_a_picture_is_rendered_once(renderer):
    data = jpeg(3)
    assert renderer.image_chunk(data) is renderer.image_chunk(bytes(bytearray(data)))
    assert renderer.image_chunk(jpeg(4)) is not renderer.image_chunk(data)


TEMPLATES = {  # how the families write a turn, shortened; and what ends an answer
    "qwen": ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}", "<|im_end|>"),
    "kimi": (
        "{% for m in messages %}<|im_{{ m.role }}|>{{ m.role }}<|im_middle|>{% if m.role == 'assistant' %}"
        "{% if thinking is false %}<think></think>{% else %}<think>{% endif %}{% endif %}{{ m.content }}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>"
        "{% if thinking is false %}<think></think>{% else %}<think>{% endif %}{% endif %}",
        "<|im_end|>",
    ),
    "gemma": (
        "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}",
        "<end_of_turn>",
    ),
    "llama": (
        "{% for m in messages %}<|start|>{{ m.role }}<|end|>\n{{ m.content }}<|eot_id|>{% endfor %}",
        "<|eot_id|>",
    ),
    "llava": ("{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}", "<|endoftext|>"),
    "mistral": (
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content[0]['text'] }}[/INST]"
        "{% else %}{{ m.content[0]['text'] }}</s>{% endif %}{% endfor %}",
        "</s>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_end_of_an_answer_is_what_the_template_writes_behind_one(family):
    from geospot.models.loading import chat_text, end_of_turn
    from geospot.models.tiny import build_tokenizer

    template, end = TEMPLATES[family]
    tokenizer = build_tokenizer()
    special = sorted(set(re.findall(r"<[^>{}%]+>|\[/?INST\]", template)) | {end})
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.chat_template = template
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == end
    if family == "kimi":
        prompt = chat_text(tokenizer, [{"role": "user", "content": "a"}], add_generation_prompt=True)
        assert prompt.endswith("<think></think>"), "the prompt must not end in an open thought"
