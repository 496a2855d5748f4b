"""Models: the tiny one and its tokenizer, the real architecture by the same code, folders that lack something."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_reference import datum, gather, load_reference, logprobs_of, params, reference_logprobs
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg
from PIL import Image
from tinker import types

from geospot.answer import format_answer, parse_answer, prompt_text
from geospot.earth.anchors import anchor_cities, country_names
from geospot.earth.place import Place
from geospot.errors import ModelError
from geospot.models.loading import TINY_UNTRAINED, load_model, load_processing
from geospot.models.prompt import Renderer
from geospot.models.tiny import build_config, save_untrained
from geospot.pictures import decode_image, image_size

# -- the tiny tokenizer -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(renderer):
    return renderer.tokenizer


def spelled(tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([token]) for token in tokenizer(text, add_special_tokens=False).input_ids]


@settings(max_examples=200)
@given(st.text())
def test_any_text_survives_the_tiny_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize(
    "text", ["!!", "São Tomé", "Ürümqi", "東京", "48°51′N", "\x00\x1f\u200b", "  two  spaces \n\n", "’n’"]
)
def test_these_texts_survive_too(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_cities_countries_and_whole_degrees_are_one_token_each(tokenizer):
    names = [*anchor_cities()[0], *country_names().values(), *(str(degrees) for degrees in range(-180, 181))]
    assert [name for name in names if len(tokenizer(name).input_ids) != 1] == []


def test_an_answer_takes_few_tokens(tokenizer, renderer):
    text = format_answer(Place(lat=48.86, lon=-122.05, city="Paris", country="France"))
    assert spelled(tokenizer, text) == [
        *("City: ", "Paris", "\nCountry: ", "France"),
        *("\nLatitude: ", "48", ".8", "6", "\nLongitude: ", "-122", ".0", "5"),
    ]
    answer = renderer.answer_tokens(text)
    assert answer[-1] == tokenizer.eos_token_id
    assert parse_answer(renderer.decode(answer)).lat == 48.86


def test_the_prompt_takes_few_tokens(tokenizer, renderer, pictures):
    assert len(tokenizer(prompt_text()).input_ids) == 5  # a line each
    assert renderer.prompt([pictures[0]], prompt_text()).length == 3 + 4 + 10


def test_special_tokens_are_not_part_of_an_answers_text(renderer):
    assert renderer.decode([*renderer.answer_tokens("Lima"), renderer.tokenizer.pad_token_id]) == "Lima"


# -- the tiny model ---------------------------------------------------------------------------------------------------


def test_an_untrained_model_is_the_same_every_time_and_leaves_the_rng_alone(tiny_folder, tmp_path):
    shape = {"hidden": 64, "layers": 1, "vision_hidden": 64, "vision_layers": 1}
    before = torch.get_rng_state()
    one, two, other = (save_untrained(tmp_path / n, seed=s, **shape) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert torch.equal(torch.get_rng_state(), before)
    read = [(folder / "model.safetensors").read_bytes() for folder in (one, two, other)]
    assert read[0] == read[1] != read[2]


def test_tiny_untrained_is_made_once_per_process():
    assert load_processing(TINY_UNTRAINED).folder == load_processing(TINY_UNTRAINED).folder


def test_the_tiny_models_shape_is_consistent(tokenizer):
    config = build_config(tokenizer)
    head_dim = config.text_config.hidden_size // config.text_config.num_attention_heads
    assert sum(config.text_config.rope_parameters["mrope_section"]) == head_dim // 2
    assert config.vision_config.out_hidden_size == config.text_config.hidden_size
    assert config.text_config.vocab_size == len(tokenizer)


# -- image tokens -----------------------------------------------------------------------------------------------------

SIZES = [(512, 512), (640, 480), (1024, 300), (28, 28), (100, 1000), (57, 63), (1, 30)]


@pytest.fixture(scope="module", params=["tiny_folder", "qwen_folder"])
def processing(request):
    return load_processing(request.getfixturevalue(request.param))


@pytest.mark.parametrize("width_height", SIZES)
def test_image_tokens_are_counted_as_the_image_processor_makes_them(processing, width_height):
    out = processing.image_processor(images=[np.zeros((*width_height[::-1], 3), np.uint8)], return_tensors="np")
    t, h, w = (int(n) for n in out["image_grid_thw"][0])
    assert processing.count_image_tokens(*width_height) == t * h * w // 4


def test_qwen_takes_a_token_per_28_pixels_square(qwen_folder):
    processing = load_processing(qwen_folder)
    # 512 / 28 = 18.3 -> 18 squared; 640 x 480 -> 23 x 17; below 56 x 56 pixels a picture is enlarged to that
    assert [processing.count_image_tokens(*size) for size in ((512, 512), (640, 480), (28, 28))] == [324, 391, 4]


# -- the real architecture --------------------------------------------------------------------------------------------


def test_qwen_is_loaded_sampled_and_trained_like_the_tiny_model(service, qwen_folder):
    renderer = Renderer(load_processing(qwen_folder))
    # 140 x 252 pixels: 5 x 9 tokens, more than one window of 4 x 4
    prompts = [renderer.prompt([jpeg(1, 252, 140)], "Where?"), renderer.prompt([jpeg(2, 60, 60)], "Where was this?")]
    assert [p.chunks[1].expected_tokens for p in prompts] == [45, 4]
    training = service.create_lora_training_client(qwen_folder, rank=8, seed=0).result()
    # q, k, v, o of 32, 16, 16, 32 outputs on 32 inputs, gate and up of 64, down back to 32, two layers
    assert training.n_parameters() == 2 * 8 * (2 * (32 + 32) + 2 * (32 + 16) + 2 * (32 + 64) + (64 + 32))
    data = [datum(p, renderer.answer_tokens("Lima"), weights=1.0) for p in prompts]
    losses = []
    for _ in range(3):
        losses.append(training.forward_backward(data, "cross_entropy").result().metrics["loss:sum"])
        training.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    assert losses[2] < losses[1] < losses[0]

    sampler = training.save_weights_and_get_sampling_client().result()
    futures = [sampler.sample(p, 2, params(max_tokens=5, stop=renderer.stop_token_ids)) for p in prompts]
    answers = [(p, s) for p, f in zip(prompts, futures, strict=True) for s in f.result().sequences]
    trainer = training.forward([datum(p, s.tokens, logprobs=s.logprobs, advantages=1.0) for p, s in answers], "ppo")
    reference = load_reference(qwen_folder, training.save_state("step").result().path)
    for i, (prompt, s) in enumerate(answers):
        with torch.no_grad():
            expected = gather(reference_logprobs(reference, renderer.processing, prompt, s.tokens), s.tokens)
        np.testing.assert_allclose(s.logprobs, expected, atol=1e-4)
        np.testing.assert_allclose(logprobs_of(trainer.result(), i, len(s.tokens)), expected, atol=1e-4)
        renderer.decode(s.tokens)  # the model has more rows than the tokenizer has words


def test_the_linear_patch_embedding_is_the_convolution(processing):
    inputs = processing.image_processor(images=[decode_image(jpeg(3, 200, 120))], return_tensors="pt")
    with torch.no_grad():
        ours = load_model(processing).get_image_features(**inputs, return_dict=True).pooler_output[0]
        theirs = load_reference(processing.folder).get_image_features(**inputs, return_dict=True).pooler_output[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_model_comes_frozen_and_in_the_precision_asked_for(qwen_folder):
    for dtype in ("float32", "bfloat16"):
        model = load_model(load_processing(qwen_folder), dtype=dtype)
        assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
        assert not any(p.requires_grad for p in model.parameters())
        assert not model.training


# -- folders that lack something --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model's folder to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def load(folder):
    processing = load_processing(str(folder))
    return load_model(processing)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("model.safetensors", "weights"),
    ],
)
def test_a_missing_file_is_named(folder, file, named):
    (folder / file).unlink()
    with pytest.raises(ModelError, match=rf"model_name='{folder}': the folder lacks .*{named}"):
        load(folder)


def test_a_missing_shard_is_named(folder):
    model = load(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="1MB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    load(folder)
    shards[1].unlink()
    with pytest.raises(ModelError, match=f"the folder lacks {shards[1].name}"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer"),
        ("preprocessor_config.json", "image processor"),
        ("model.safetensors", "model"),
    ],
)
def test_a_file_cut_short_is_named(folder, file, named):
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=rf"model_name='{folder}': .*{named}"):
        load(folder)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "mlp.down_proj" in name and "visual" not in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"weights lack 1 of the model's tensors \(.*mlp.down_proj"):
        load(folder)


def test_a_text_only_model_is_refused(tmp_path, tokenizer):
    from transformers import Qwen2Config

    folder = tmp_path / "text"
    Qwen2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=300).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="a qwen2 model takes no pictures; take a vision-language model"):
        load(folder)


def test_a_tokenizer_without_a_chat_template_is_refused(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="its tokenizer has no chat template; take an instruct model"):
        load(folder)


def test_an_unknown_hub_name_says_what_to_do():
    with pytest.raises(ModelError, match=r"model_name='nobody/no-such-model': its config cannot be loaded .*network"):
        load_processing("nobody/no-such-model")


@pytest.mark.parametrize("name", ["./missing", "missing", "/missing/model", "a/b/c"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(ModelError, match=rf"model_name='{name}': no such folder.*geospot/tiny"):
        load_processing(name)


def test_the_engine_passes_the_reason_on(service, folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"lacks preprocessor_config.json"):
        service.create_lora_training_client(str(folder), rank=4).result()
    with pytest.raises(ModelError, match=r"lacks preprocessor_config.json"):
        service.create_sampling_client(base_model=str(folder)).result()


# -- pictures ---------------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, image_format: str) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_every_mode_become_rgb(mode):
    image = Image.new("RGB", (20, 10), (200, 30, 40)).convert(mode)
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    assert image_size(data) == (20, 10)
    pixels = decode_image(data)
    assert (pixels.shape, pixels.dtype) == ((10, 20, 3), np.uint8)


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", jpeg(0)[:-200], encoded(Image.new("RGB", (64, 64)), "PNG")[:-30]]
)
def test_unreadable_pictures_are_a_value_error(data):
    for read in (image_size, decode_image):
        with pytest.raises(ValueError, match="unreadable image"):
            read(data)


def test_a_decompression_bomb_is_a_value_error(monkeypatch):
    monkeypatch.setattr("geospot.pictures.reading.MAX_STORED_PIXELS", 100)
    for read in (image_size, decode_image):
        with pytest.raises(ValueError, match=r"picture too large: \d+x\d+"):
            read(jpeg(0))


def test_the_small_qwen_folder_has_the_hubs_files(qwen_folder):
    files = {path.name for path in Path(qwen_folder).iterdir()}
    assert {"config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"} <= files
    assert "text_config" not in json.loads((Path(qwen_folder) / "config.json").read_text())
