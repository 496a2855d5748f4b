"""Where the time of one GRPO step goes, phase by phase, on the tiny model.

    uv run python benchmarks/grpo_step.py [--batch 32] [--group 16] [--lora-rank 0] [--steps 6] [--threads 0]

Prints a table for people (median and least of the steps after the first, which warms up) and one JSON line last. The
named peer in the same run is plain `transformers.generate` on the same prompts, each answer with its own copy of the
prompt and picture, as a trainer without prefix sharing asks for them; the trivial baseline is the floor by the rate of
a matrix product on this machine for the floating-point operations of the step.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tinker import types

from geospot.answer import prompt_text
from geospot.asking.requests import Asked
from geospot.config import TrainConfig
from geospot.data.samples import Sample
from geospot.data.world.bluemarble import encode_jpeg, label_places
from geospot.data.world.mosaic import BlueMarble
from geospot.engine.open import open_engine
from geospot.models.loading import TINY, load_model, load_processing
from geospot.models.prompt import Renderer
from geospot.pictures import decode_image
from geospot.progress import table
from geospot.training.advantages import group_advantages
from geospot.training.loop import Clock
from geospot.training.optim import adam
from geospot.training.rollout import score
from geospot.training.update import update


def samples_of(n: int, first: int) -> list[Sample]:
    """Fresh pictures for every step: nothing comes out of the picture cache."""
    world = BlueMarble()
    places = label_places(world.places("train", first + n)[first:])
    return [Sample(str(i), (encode_jpeg(world.picture(p.lat, p.lon)),), p) for i, p in enumerate(places)]


def one_step(training, renderer: Renderer, config: TrainConfig, samples: list[Sample], step: int, scramble) -> dict:
    """Seconds by phase; `reward` holds reading and scoring the answers, `update` forward, backward and Adam."""
    clock = Clock()
    sampler = training.save_weights_and_get_sampling_client().result()
    clock.lap("snapshot")
    rollouts = Asked(
        sampler, renderer, samples, prompt_text(), num_samples=config.group_size,
        seeds=[1000 * step + i for i in range(len(samples))], max_tokens=config.max_tokens,
    ).collect()  # fmt: skip
    clock.lap("sample")
    rewards = score(rollouts, config.reward_config().at(0.5)).total.reshape(-1, config.group_size)
    advantages = group_advantages(rewards + scramble.normal(0, 1e-3, rewards.shape))  # no group may drop out
    clock.lap("reward")
    per_token = [np.full(len(s.tokens), a) for s, a in zip(rollouts.sequences, advantages.ravel(), strict=True)]
    update(training, rollouts, per_token, step, 1e-6, config)
    clock.lap("update")
    n_tokens = sum(len(s.tokens) for s in rollouts.sequences)
    return {k.removeprefix("time/"): v for k, v in clock.metrics().items()} | {"answer_tokens": n_tokens}


def generate_seconds(config: TrainConfig, samples: list[Sample], length: int) -> float:
    """transformers.generate for the same number of answers, of the same length, with nothing shared."""
    processing = load_processing(config.model_name)
    model, renderer = load_model(processing), Renderer(processing)
    prompt = renderer.prompt(samples[0].pictures, prompt_text())
    ids = []
    for chunk in prompt.chunks:
        is_text = isinstance(chunk, types.EncodedTextChunk)
        ids += chunk.tokens if is_text else [processing.image_token_id] * chunk.expected_tokens
    pictures = [decode_image(s.pictures[0]) for s in samples for _ in range(config.group_size)]
    started = time.monotonic()
    pixels = processing.image_processor(images=pictures, return_tensors="pt")
    rows = torch.tensor([ids] * len(pictures))
    model.generate(
        input_ids=rows, attention_mask=torch.ones_like(rows),
        mm_token_type_ids=(rows == processing.image_token_id).long(), **pixels,
        max_new_tokens=length, min_new_tokens=length, do_sample=True,
        suppress_tokens=list(processing.banned_token_ids),
    )  # fmt: skip
    return time.monotonic() - started


def matmul_gflops() -> float:
    """What this machine's matrix product reaches at the model's shapes, 10^9 operations a second."""
    a, b = torch.randn(4096, 192), torch.randn(192, 576)
    a @ b
    started = time.monotonic()
    for _ in range(50):
        a @ b
    return 50 * 2 * 4096 * 192 * 576 / (time.monotonic() - started) / 1e9


def step_gflop(model, n_prompts: int, n_answers_tokens: int, prompt_tokens: int, patches: int) -> float:
    """Operations that a step cannot do without: 2 a weight and token forward, 4 more backward, prompts once a group."""
    vision = sum(p.numel() for n, p in model.named_parameters() if "visual" in n)
    head = model.lm_head.weight.numel()
    text = sum(p.numel() for n, p in model.named_parameters() if "visual" not in n) - head
    prefill = n_prompts * (prompt_tokens * text + patches * vision)
    answers = n_answers_tokens * (text + head)
    return 2 * (prefill + answers) * (1 + 3) / 1e9  # sampling is one forward, training three times that


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-name", default=TINY)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = TrainConfig(
        model_name=args.model_name, batch_size=args.batch, group_size=args.group, lora_rank=args.lora_rank,
        max_tokens=24, threads=args.threads,
    )  # fmt: skip
    renderer, scramble, rows = Renderer(load_processing(args.model_name)), np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder, open_engine(config, checkpoint_dir=folder) as service:
        training = service.create_lora_training_client(args.model_name, rank=args.lora_rank, seed=0).result()
        # The base has not learned the answer's form: a short warm start gives answers of the usual length.
        warm_up(training, renderer, config)
        for step in range(args.steps + 1):
            batch = samples_of(args.batch, 10_000 + step * args.batch)
            rows.append(one_step(training, renderer, config, batch, step, scramble))
    length = round(float(np.mean([r["answer_tokens"] for r in rows[1:]])) / (args.batch * args.group))
    peer = generate_seconds(config, batch, length)
    report(args, config, rows[1:], peer)


def warm_up(training, renderer: Renderer, config: TrainConfig) -> None:
    """Forty supervised steps."""
    from geospot.config import SftConfig
    from geospot.sft import supervised_batch

    sft = SftConfig(model_name=config.model_name, lora_rank=config.lora_rank)
    samples = samples_of(640, 0)
    for step in range(40):
        data, _ = supervised_batch(renderer, samples[16 * step : 16 * step + 16], sft)
        training.forward_backward(data, "cross_entropy")
        training.optim_step(adam(sft, 1e-3)).result()


def report(args, config: TrainConfig, rows: list[dict], peer_s: float) -> None:
    """The table and the JSON line."""
    phases = ["snapshot", "sample", "reward", "update", "step"]
    median = {p: float(np.median([r[p] for r in rows])) for p in phases}
    least = {p: min(r[p] for r in rows) for p in phases}
    tokens = float(np.median([r["answer_tokens"] for r in rows]))
    model = load_model(load_processing(args.model_name))
    floor = step_gflop(model, args.batch, tokens, 22, 16) / matmul_gflops()
    print(f"{args.batch} pictures x {args.group} answers, {tokens:.0f} answer tokens, lora_rank={args.lora_rank}\n")
    print(table(
        {"phase": p, "median s": f"{median[p]:.3f}", "least s": f"{least[p]:.3f}",
         "share": f"{100 * median[p] / median['step']:.0f}%"}
        for p in phases
    ))  # fmt: skip
    print(f"\nsampling: {peer_s / median['sample']:.1f} times as fast as transformers.generate ({peer_s:.2f} s)")
    print(f"step: {median['step'] / floor:.1f} times the floor by matrix-product rate ({floor:.2f} s)")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    print(json.dumps({
        "benchmark": "grpo_step", "commit": commit, "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "batch": args.batch, "group": args.group,
        "lora_rank": args.lora_rank, "answer_tokens": tokens, "n": len(rows), "median_s": median, "least_s": least,
        "peer": "transformers.generate", "peer_s": peer_s, "sample_ratio": peer_s / median["sample"], "floor_s": floor,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
