"""Pretrain `geospot/tiny` to caption Blue Marble pictures: what it knows of the Earth before anyone asks it a question.

    uv run python scripts/pretrain_tiny.py --minutes 60 --out src/geospot/models/tiny_base

Places are drawn from the world's `pretrain` stream, which keeps clear of both held-out sets. The caption
("Lyon, France (45.7, 4.8)") is not the answer format: the base model can place a picture, but it cannot play.
The folder holds the hub's own format, weights in float16, and `pretraining.json` with the command and its figures.
"""

import argparse
import json
import math
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from geospot.data.world.mosaic import BlueMarble, WorldConfig
from geospot.earth.anchors import country_names, nearest_anchor, nearest_country
from geospot.earth.distance import haversine_km
from geospot.models import tiny
from geospot.models.loading import use_linear_patch_embed

WORLD: BlueMarble | None = None


def caption(city: str, country: str, lat: float, lon: float) -> str:
    return f"{city}, {country} ({lat:.1f}, {lon:.1f})"


def captions(places: np.ndarray) -> list[str]:
    codes, names = nearest_country(*places.T), country_names()
    cities = nearest_anchor(*places.T, codes)
    return [caption(city, names[code], *place) for city, code, place in zip(cities, codes, places, strict=True)]


def pixel_values(pictures: np.ndarray) -> np.ndarray:
    """What the image processor gives for (N, 112, 112, 3) uint8 pictures: (N, patches, values) float32."""
    n, p, m = len(pictures), tiny.PATCH_PIXELS, 2
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    x = ((pictures / 255.0 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)  # (N, 3, H, W)
    grid = pictures.shape[1] // p
    x = x.reshape(n, 3, grid // m, m, p, grid // m, m, p).transpose(0, 2, 5, 3, 6, 1, 4, 7)
    x = np.repeat(x[:, :, :, :, :, :, None], 2, axis=6)  # the second frame of a still picture is the first
    return np.ascontiguousarray(x.reshape(n, grid * grid, -1))


def init_worker(config: WorldConfig) -> None:
    global WORLD
    torch.set_num_threads(1)
    WORLD = BlueMarble(config)


def render(places: np.ndarray) -> tuple[np.ndarray, list[str]]:
    return np.stack([WORLD.picture(*place) for place in places]), captions(places)


class Batches:
    """Token ids, positions and pictures of a batch; the prompt is the picture alone."""

    def __init__(self, tokenizer, model):
        self.tokenizer, self.config = tokenizer, model.config
        pad, n = self.config.image_token_id, (tiny.PIXELS // tiny.PATCH_PIXELS // 2) ** 2
        start, end = self.config.vision_start_token_id, self.config.vision_end_token_id
        self.prompt = [start, *[pad] * n, end]
        self.grid = torch.tensor([1, tiny.PIXELS // tiny.PATCH_PIXELS, tiny.PIXELS // tiny.PATCH_PIXELS])

    def __call__(self, pictures, texts):
        eos = self.tokenizer.eos_token_id
        answers = [[*self.tokenizer(text, add_special_tokens=False).input_ids, eos] for text in texts]
        length = len(self.prompt) + max(map(len, answers))
        ids = torch.full((len(texts), length), self.tokenizer.pad_token_id)
        labels = torch.full((len(texts), length), -100)
        for row, answer in enumerate(answers):
            ids[row, : len(self.prompt) + len(answer)] = torch.tensor(self.prompt + answer)
            labels[row, len(self.prompt) : len(self.prompt) + len(answer)] = torch.tensor(answer)
        return {
            "input_ids": ids,
            "mm_token_type_ids": (ids == self.config.image_token_id).long(),
            "attention_mask": (ids != self.tokenizer.pad_token_id).long(),
            "pixel_values": torch.from_numpy(pixel_values(pictures)).flatten(0, 1),
            "image_grid_thw": self.grid.repeat(len(texts), 1),
        }, labels


def loss_of(model, batch, labels):
    """Mean cross-entropy of the caption tokens; only they reach the vocabulary projection."""
    hidden = model.model(**batch).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    keep = targets != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]).float(), targets[keep])


@torch.no_grad()
def guess_km(model, batches, to_device, pictures, places, max_tokens=10):
    """Greedy captions' distances from the truth, km; half the circumference where no coordinates came out."""
    inputs, _ = batches(pictures, [""] * len(pictures))
    n = len(batches.prompt)
    inputs = {k: v[:, :n] if v.ndim == 2 and v.shape[1] == n + 1 else v for k, v in inputs.items()}
    out = model.generate(**to_device(inputs), max_new_tokens=max_tokens, do_sample=False)
    km = []
    for text, (lat, lon) in zip(
        batches.tokenizer.batch_decode(out[:, n:], skip_special_tokens=True), places, strict=True
    ):
        try:
            guess = [float(x) for x in text.rsplit("(", 1)[1].rstrip(")").split(",")]
            km.append(float(haversine_km(guess[0], guess[1], lat, lon)))
        except (IndexError, ValueError):
            km.append(20_015.0)
    return np.array(km)


def learning_rate(progress: float, peak: float, warmup: float = 0.02) -> float:
    if progress < warmup:
        return peak * progress / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))))


def save(model, tokenizer, out: Path, figures: dict) -> None:
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.to(torch.float16).save_pretrained(temporary)
    model.to(torch.float32)
    tokenizer.save_pretrained(temporary)
    tiny.build_image_processor().save_pretrained(temporary)
    (temporary / "pretraining.json").write_text(json.dumps(figures, indent=1) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--vision-hidden", type=int, default=160)
    parser.add_argument("--vision-layers", type=int, default=5)
    parser.add_argument("--eval-every", type=float, default=120, help="seconds")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = tiny.build_tokenizer()
    shape = {k: getattr(args, k) for k in ("hidden", "layers", "vision_hidden", "vision_layers")}
    model = use_linear_patch_embed(tiny.build_model(tokenizer, args.seed, **shape)).to(args.device)
    batches, world = Batches(tokenizer, model), BlueMarble()
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters / 1e6:.2f} M parameters, vocabulary {len(tokenizer)}", flush=True)
    places = world.places("pretrain", 4_000_000)
    check = places[-512:]
    check_pictures = np.stack([world.picture(*place) for place in check])
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=args.lr,
        betas=(0.9, 0.98),
    )

    def to_device(inputs):
        return {key: value.to(args.device) for key, value in inputs.items()}

    def check_median_km() -> float:
        model.eval()
        km = [
            guess_km(model, batches, to_device, check_pictures[i : i + 128], check[i : i + 128])
            for i in range(0, len(check), 128)
        ]
        model.train()
        return float(np.median(np.concatenate(km)))

    start, step, losses, last_eval = time.monotonic(), 0, [], time.monotonic()
    with ProcessPoolExecutor(args.workers, initializer=init_worker, initargs=(world.config,)) as pool:
        chunks = [places[i : i + args.batch] for i in range(0, len(places) - 512, args.batch)]
        pending = [pool.submit(render, chunk) for chunk in chunks[:16]]
        while True:
            elapsed = time.monotonic() - start
            progress = elapsed / (60 * args.minutes)
            if progress >= 1:
                break
            pictures, texts = pending.pop(0).result()
            pending.append(pool.submit(render, chunks[(step + 16) % len(chunks)]))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(progress, args.lr)
            inputs, labels = batches(pictures, texts)
            loss = loss_of(model, to_device(inputs), labels.to(args.device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            step += 1
            if time.monotonic() - last_eval > args.eval_every:
                last_eval = time.monotonic()
                print(
                    f"{elapsed / 60:5.1f} min  step {step}  pictures {step * args.batch}"
                    f"  loss {np.mean(losses[-100:]):.3f}  median {check_median_km():.0f} km",
                    flush=True,
                )
                save(model, tokenizer, args.out, {"unfinished": True})
        for future in pending:
            future.cancel()
    median = check_median_km()
    save(
        model,
        tokenizer,
        args.out,
        {
            "command": "python scripts/pretrain_tiny.py " + " ".join(sys.argv[1:]),
            "minutes": args.minutes,
            "device": args.device,
            "threads": args.threads,
            "torch": torch.__version__,
            "pictures": step * args.batch,
            "parameters": n_parameters,
            "final_loss": float(np.mean(losses[-100:])),
            "check_median_km": median,
        },
    )
    print(
        f"done: {step} steps, {step * args.batch} pictures, median {median:.0f} km on 512 unseen places of its stream"
    )


if __name__ == "__main__":
    main()
