"""The task of the side-by-side benchmark, without geospot: a tiny Qwen2.5-VL, pictures whose colours tell their
position, and a reward for naming it. Both sides import it, each in its own python."""

import argparse
import io
import json
import math
import re
import sys
import time

import numpy as np

PROMPT = "Where was this photo taken?\nAnswer as\nLatitude: x\nLongitude: y"
PIXELS, PATCH = 112, 14
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
TEMPLATE = (
    "{%- for m in messages -%}<|im_start|>{{ m['role'] + '\\n' }}"
    "{%- if m['content'] is string -%}{{ m['content'] }}{%- else -%}{%- for part in m['content'] -%}"
    "{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- else -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}{%- endif -%}<|im_end|>{{ '\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>{{ 'assistant\\n' }}{%- endif -%}"
)
LORA = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
RANK, ALPHA = 8, 32


def worker_arguments() -> argparse.ArgumentParser:
    """What a side is started with."""
    parser = argparse.ArgumentParser()
    for name, kind in (("model", str), ("mode", str), ("prompts", int), ("group", int), ("new-tokens", int),
                       ("threads", int), ("steps", int), ("seed", int), ("lr", float),
                       ("fixed-length", int)):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--pixels", type=int, default=PIXELS, help="side of a picture")
    return parser


def say(**row) -> None:
    """One line to the benchmark that started this side."""
    print("ROW " + json.dumps(row), flush=True)


def wait_for_turn() -> None:
    """Block until the benchmark lets this side go; leave when it has gone away."""
    say(ready=True)
    if not sys.stdin.readline():
        sys.exit(0)


def tokenizer():
    """One token a byte."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        extra_special_tokens=list(SPECIAL[1:]), chat_template=TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def image_processor():
    """Qwen2.5-VL's, for pictures of 112 x 112 pixels."""
    from transformers import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 56 * 56, "longest_edge": PIXELS * PIXELS}
    return Qwen2VLImageProcessorPil(size=size, patch_size=PATCH, merge_size=2, temporal_patch_size=2)


def processor(folder: str):
    """Tokenizer and image processor as one; the video processor needs torchvision and is left out."""
    from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil

    class Processor(Qwen2_5_VLProcessor):
        @classmethod
        def get_attributes(cls):
            return ["image_processor", "tokenizer"]

        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **_):
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id, self.video_token_id = tokenizer.convert_tokens_to_ids(
                ["<|image_pad|>", "<|video_pad|>"]
            )
            super(Qwen2_5_VLProcessor, self).__init__(image_processor, tokenizer, chat_template=chat_template)

    own = AutoTokenizer.from_pretrained(folder, padding_side="left")
    pictures = Qwen2VLImageProcessorPil.from_pretrained(folder)
    return Processor(image_processor=pictures, tokenizer=own, chat_template=TEMPLATE)


def save_model(folder: str, vocabulary: int = 0, warm_steps: int = 0) -> None:
    """Write the model, random or warmed up by supervised steps on all weights, in hub format."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    words = tokenizer()
    ids = dict(zip(SPECIAL, words.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    text = {
        "vocab_size": max(vocabulary, len(words)), "hidden_size": 128, "intermediate_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
        "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
    }  # fmt: skip
    vision = {
        "depth": 4, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 128,
        "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": PIXELS,
        "fullatt_block_indexes": [3], "in_channels": 3,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    words.save_pretrained(folder)
    image_processor().save_pretrained(folder)
    if warm_steps:
        _warm_up(model, processor(folder), warm_steps)
    model.save_pretrained(folder)


def _warm_up(model, both, steps: int) -> None:
    import torch

    words, known, rng = both.tokenizer, examples(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    words.padding_side = "right"
    for step in range(steps):
        chosen = [known[i] for i in rng.integers(0, len(known), 16)]
        prompt = both.apply_chat_template(messages(), add_generation_prompt=True, tokenize=False)
        answers = [f"Latitude: {e['lat']:.1f}\nLongitude: {e['lon']:.1f}<|im_end|>" for e in chosen]
        batch = both(
            text=[prompt + a for a in answers], images=[e["image"] for e in chosen], padding=True, return_tensors="pt"
        )
        batch.pop("token_type_ids", None)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        starts = batch["attention_mask"].sum(1) - torch.tensor([len(words(a)["input_ids"]) for a in answers])
        labels[torch.arange(labels.shape[1]) < starts[:, None]] = -100
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(f"  warm start, step {step}: loss {loss.item():.3f}", flush=True)


def messages() -> list[dict]:
    """The question, in the form of chat templates."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]


def examples(n: int = 64, seed: int = 0, pixels: int = PIXELS) -> list[dict]:
    """Pictures whose red and green are the latitude and the longitude, with a little noise."""
    from PIL import Image

    rng, out = np.random.default_rng(seed), []
    rows, columns = np.mgrid[:pixels, :pixels] / pixels
    for _ in range(n):
        lat, lon = float(rng.uniform(-60, 70)), float(rng.uniform(-180, 180))
        flat = np.ones((pixels, pixels))
        colours = np.stack([flat * (lat + 90) / 180, flat * (lon + 180) / 360, (rows + columns) / 2], -1)
        noisy = np.clip(colours + rng.normal(0, 0.03, colours.shape), 0, 1)
        out.append({"image": Image.fromarray((noisy * 255).astype(np.uint8)), "lat": lat, "lon": lon})
    return out


def png(image) -> bytes:
    """The picture's bytes, without loss."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


_ANSWER = re.compile(r"Latitude:\s*(-?\d+(?:\.\d+)?)\s*[\n/]\s*Longitude:\s*(-?\d+(?:\.\d+)?)")


def reward(text: str, lat: float, lon: float) -> float:
    """0.1 for the form and up to 0.9 for being near; where the form is missing, a little for digits and variety, so
    that no group is without signal (we skip those, the peer does not)."""
    found = _ANSWER.search(text)
    if not found:
        digits, different = sum(char.isdigit() for char in text), len(set(text))
        return (0.01 * digits + 0.001 * different) / max(1, len(text))
    a, b = float(found[1]), float(found[2])
    if abs(a) > 90 or abs(b) > 180:
        return 0.05
    p, q, r, s = map(math.radians, (lat, lon, a, b))
    h = math.sin((r - p) / 2) ** 2 + math.cos(p) * math.cos(r) * math.sin((s - q) / 2) ** 2
    return 0.1 + 0.9 * math.exp(-12_742 * math.asin(min(1.0, math.sqrt(h))) / 2000)


class Stopwatch:
    """Seconds of wall clock and of CPU time since it was started."""

    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, name: str) -> dict[str, float]:
        """{name: seconds, name_cpu: seconds}."""
        return {name: time.perf_counter() - self.wall, f"{name}_cpu": time.process_time() - self.cpu}
