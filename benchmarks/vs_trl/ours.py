"""Our side: a GRPO step as `geospot train` does it, with its run folder, metrics and stored answers, on the peer's task
(mode grpo); or sampling alone (mode sample)."""

import tempfile
from functools import partial

import numpy as np
import task
import torch

from geospot.asking.requests import Asked, request_seed
from geospot.config import TrainConfig
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.engine.open import open_engine
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.runs.folder import RunFolder
from geospot.training.advantages import group_advantages
from geospot.training.rollout import log_rows
from geospot.training.update import update


def step_of(args, config, training, renderer, run, samples, known, step: int) -> dict:
    """One GRPO step on some of the pictures; seconds by phase and the reward."""
    watch = task.Stopwatch()
    chosen = np.random.default_rng([args.seed, step]).choice(len(samples), args.prompts, replace=False)
    sampler = training.save_weights_and_get_sampling_client().result()
    rollouts = Asked(
        sampler, renderer, [samples[i] for i in chosen], task.PROMPT, num_samples=args.group,
        seeds=[request_seed(args.seed, step, i) for i in range(args.prompts)], max_tokens=args.new_tokens,
    ).collect()  # fmt: skip
    sampled = watch.read("sample")
    if args.mode == "sample":
        return sampled
    truths = [known[chosen[i // args.group]] for i in range(len(rollouts.texts))]
    rewards = np.array([task.reward(text, e["lat"], e["lon"]) for text, e in zip(rollouts.texts, truths, strict=True)])
    advantages = group_advantages(rewards.reshape(-1, args.group), divide_by_std=True).ravel()
    per_token = [np.full(len(s.tokens), a) for s, a in zip(rollouts.sequences, advantages, strict=True)]
    rate = args.lr * (1 - step / args.steps)  # the peer's default: linear, to 0
    updated = update(training, rollouts, per_token, step, rate, config)
    length = float(np.mean([len(s.tokens) for s in rollouts.sequences]))
    run.add_rollouts(step, log_rows(rollouts, "train", None, advantages))
    metrics = updated | {"reward": float(rewards.mean()), "answer_tokens": length}
    run.log(step, metrics)
    done = {key: metrics[key] for key in ("reward", "grad_norm", "mismatch_kl") if key in metrics}
    return sampled | watch.read("step") | done | {"length": length}


def main(args) -> None:
    """Wait for each turn, do a step, say how long it took."""
    config = TrainConfig(
        model_name=args.model, lora_rank=task.RANK, batch_size=args.prompts, group_size=args.group, seed=args.seed,
        max_tokens=args.new_tokens, threads=args.threads, loss="ppo", device="cpu",
    )  # fmt: skip
    renderer = Renderer(load_processing(args.model))
    if args.fixed_length:
        renderer.stop_token_ids = []  # the end of the turn ends nothing
    known = task.examples()
    samples = [Sample(str(i), (task.png(e["image"]),), Place(e["lat"], e["lon"])) for i, e in enumerate(known)]
    folder = tempfile.mkdtemp()
    with (
        open_engine(config, checkpoint_dir=f"{folder}/checkpoints") as service,
        RunFolder.create(f"{folder}/run", {"command": "benchmark"}) as run,
    ):
        training = service.create_lora_training_client(args.model, rank=task.RANK, seed=args.seed).result()
        one = partial(step_of, args, config, training, renderer, run, samples, known)
        for step in range(args.steps):
            task.wait_for_turn()
            task.say(**one(step))


if __name__ == "__main__":
    given = task.worker_arguments().parse_args()
    torch.set_num_threads(given.threads)
    main(given)
