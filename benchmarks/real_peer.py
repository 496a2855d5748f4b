"""A forward, a generation and a backward on one picture, by this engine or by transformers + peft: see `real_shape.py`.

Usage: real_peer.py geospot|transformers MODEL THREADS. Prints a JSON line after each, seconds and peak memory (GiB).
"""

import io
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from tinker import types

from geospot.engine.local.machine import peak_bytes
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.training.datums import supervised_datum

QUESTION = "Where was this photo taken? Answer with the city, the country, the latitude and the longitude."
ANSWER = "City: Lyon\nCountry: France\nLatitude: 45.76\nLongitude: 4.84"
MEMBERS, TOKENS, RANK = 2, 12, 32


def timed(what: str, run: Callable[[], object]) -> None:
    """Run once and print how long it took."""
    started = time.perf_counter()
    run()
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({what: seconds, "peak": round(peak_bytes() / 2**30, 2)}), flush=True)


def picture() -> bytes:
    """A JPEG of 512 x 512 pixels."""
    small, out = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def ours(model: str, threads: int) -> None:
    """Through the engine; its picture goes through the tower once, which is timed apart."""
    from geospot.engine.local.service import LocalOptions, LocalServiceClient

    renderer, data = Renderer(load_processing(model)), picture()
    prompt = renderer.prompt([data], QUESTION)
    datums = [supervised_datum(prompt, renderer.answer_tokens(ANSWER), 1.0)]
    with LocalServiceClient(LocalOptions(dtype="bfloat16", threads=threads)) as service:
        training = service.create_lora_training_client(model, rank=RANK, seed=0).result()
        [network] = service._networks.values()
        params = types.SamplingParams(max_tokens=TOKENS, seed=0, stop=[])

        def encode() -> None:
            with torch.inference_mode():
                network.pictures.encode([data])

        def generate() -> None:
            sampler = training.save_weights_and_get_sampling_client().result()
            sampler.sample(prompt, MEMBERS, params).result()

        timed("tower", lambda: service.scheduler.submit(encode).result())
        timed("forward", lambda: training.forward(datums, "cross_entropy").result())
        timed("generation", generate)
        timed("backward", lambda: training.forward_backward(datums, "cross_entropy").result())


def theirs(model: str, threads: int) -> None:
    """Through transformers' classes and peft, as their documentation does it; the tower is part of each pass."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    torch.set_num_threads(threads)
    processing = load_processing(model)
    renderer, data = Renderer(processing), picture()
    prompt = renderer.prompt([data], QUESTION)
    ids = [t for c in prompt.chunks for t in (c.tokens if isinstance(c, types.EncodedTextChunk) else
                                              [processing.image_token_id] * c.length)]  # fmt: skip
    answer = renderer.answer_tokens(ANSWER)
    seen = processing.image_processor(images=[np.asarray(Image.open(io.BytesIO(data)))], return_tensors="pt")
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.bfloat16)
    targets = [n for n, _ in loaded.named_modules() if n.rsplit(".", 1)[-1] in names and "visual" not in n]
    net = get_peft_model(loaded, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))

    def inputs(tokens: list[int]) -> dict[str, torch.Tensor]:
        rows = torch.tensor([tokens])
        kinds = (rows == processing.image_token_id).long()
        return {"input_ids": rows, "attention_mask": torch.ones_like(rows), "mm_token_type_ids": kinds, **seen}

    def forward() -> torch.Tensor:
        whole = ids + answer
        labels = torch.tensor([[-100] * len(ids) + answer])
        return net(**inputs(whole), labels=labels).loss

    def generate() -> None:
        with torch.no_grad():
            net.generate(**inputs(ids), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=True,
                         num_return_sequences=MEMBERS)  # fmt: skip

    with torch.no_grad():
        timed("forward", forward)
    timed("generation", generate)
    timed("backward", lambda: forward().backward())


if __name__ == "__main__":
    {"geospot": ours, "transformers": theirs}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
