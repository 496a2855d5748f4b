"""Our side: a GRPO step as `geospot train` does it, with its run folder, metrics and stored answers, on the peer's task
(mode grpo); sampling alone (mode sample); or by kind of operation (mode profile, the last step)."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

Within = Callable[[str], AbstractContextManager[object]]  # what a part of a step runs in
INNER = 512  # width of the task's gated unit
KINDS = {  # by what an operation's name has in it; the first that is there counts
    "attention": ("attention", "bmm", "softmax"),
    "products": ("aten::mm", "addmm", "linear"),
    "gated unit": ("silu",),
    "copies": ("cat", "copy_", "clone", "index", "gather", "embedding"),
}


class Profile:
    """Seconds of a step by part and kind of operation, all threads of torch counted (`torch.profiler`)."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Profile what runs within."""
        every = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
        kinds = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(
            activities=kinds, record_shapes=True, with_flops=True, experimental_config=every
        ) as p:
            started = time.perf_counter()
            yield
            wall = time.perf_counter() - started
        found: dict[str, list[float]] = {}
        for event in p.key_averages(group_by_input_shape=True):
            row = found.setdefault(kind_of(event.key, event.input_shapes), [0.0, 0.0, 0])
            for i, more in enumerate((event.self_cpu_time_total / 1e6, (event.flops or 0) / 1e9, event.count)):
                row[i] += more
        names = ("seconds", "gflop", "calls")
        self.rows += [{"part": part, "kind": kind} | dict(zip(names, row, strict=True)) for kind, row in found.items()]
        rest = wall - sum(row[0] for row in found.values())
        self.rows.append({"part": part, "kind": "between operations", "seconds": rest, "gflop": 0.0, "calls": 0})


def kind_of(name: str, shapes: list) -> str:
    """The kind of an operation; a product with a side of at most three ranks is one of LoRA's thin ones."""
    kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "element-wise")
    if (
        kind == "products"
        and min((n for shape in shapes if len(shape) == 2 for n in shape), default=99) <= 3 * task.RANK
    ):
        return "thin products"
    if kind == "element-wise" and any(shape and shape[-1] == INNER for shape in shapes):
        return "gated unit"
    return kind


def step_of(args, config, training, renderer, run, samples, known, step: int, within: Within) -> dict:
    """One GRPO step on some of the pictures; seconds by phase and the reward."""
    watch = task.Stopwatch()
    chosen = np.random.default_rng([args.seed, step]).choice(len(samples), args.prompts, replace=False)
    with within("sampling"):
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
    with within("update"):
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
            profile = Profile() if args.mode == "profile" and step == args.steps - 1 else None
            done = one(step, profile or (lambda _: nullcontext()))
            task.say(**done | ({"profile": profile.rows} if profile else {}))


if __name__ == "__main__":
    given = task.worker_arguments().parse_args()
    torch.set_num_threads(given.threads)
    main(given)
