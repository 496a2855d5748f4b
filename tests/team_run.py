"""What test_team runs in one process and under torchrun in two: some steps, their numbers into a file."""

import os
import signal
from pathlib import Path

import numpy as np
from engine_reference import datum, params
from made import jpeg
from tinker import types

from geospot.config import SftConfig
from geospot.engine.local.options import is_follower, team_size
from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.engine.local.team import Team
from geospot.engine.open import follow
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer

MEMBERS = 3


def prompts(renderer: Renderer) -> list[types.ModelInput]:
    """Of different lengths."""
    return [renderer.prompt([jpeg(i)], "Where?" * (i + 1)) for i in range(3)]


def drawn(step: int) -> types.SamplingParams:
    """Behind the first step the weights differ in their last bits, and a number may lie on a border: the likeliest."""
    return params(max_tokens=4, seed=step, temperature=0.0 if step else 1.0)


def main(folder: str, out: str) -> None:
    """Train three steps on answers of unequal length, sample and score in between."""
    if is_follower():
        Path(f"{out}.pid").write_text(str(os.getpid()))
        follow(SftConfig(device="cpu", threads=1))
        return
    service = LocalServiceClient(LocalOptions(threads=1))
    renderer, rng, found = Renderer(load_processing(folder)), np.random.default_rng(0), {}
    asked = prompts(renderer)
    with service:
        training = service.create_lora_training_client(folder, rank=4, seed=1).result()
        for step in range(3):
            sampler = training.save_weights_and_get_sampling_client().result()
            futures = [sampler.sample(p, MEMBERS, drawn(step)) for p in asked]
            sequences = [s for f in futures for s in f.result().sequences]
            found[f"sampled{step}"] = [s.logprobs for s in sequences]
            found[f"tokens{step}"] = [s.tokens for s in sequences]
            answers = [(p, rng.integers(300, 900, n), rng.normal(size=n)) for p in asked for n in (5, 3, 1)]
            data = [datum(p, t, logprobs=-7.0, advantages=a) for p, t, a in answers]
            passed = training.forward_backward(data, "importance_sampling")
            stepped = training.optim_step(types.AdamParams(learning_rate=1e-2)).result()
            found[f"loss{step}"] = passed.result().metrics["loss:sum"]
            found[f"norm{step}"] = stepped.metrics["grad_norm"]
            found["signals"] = signals_to_follower(f"{out}.pid")
        try:
            training.forward_backward([datum(asked[0], [400], weights=1.0)], "ppo").result()
        except ValueError as error:
            found["error"] = str(error)  # and nobody hangs
        found |= {name: w.detach().numpy() for name, w in training._weights.items()}
        found["world"] = service.team.size if service.team else 1
    np.savez(out, **found)


def signals_to_follower(pid_file: str) -> int:
    """What Ctrl-C and a scheduler send to all processes; how many of them, 0 where there is no follower."""
    pids = [int(Path(pid_file).read_text())] if team_size() > 1 else []
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    return 2 * len(pids)


def in_a_team(folder: str, out: str) -> None:
    """`main` in a fork, which ends without what `atexit` keeps: the first process lets the others go."""
    main(folder, out)
    if not is_follower() and (team := Team.of("cpu")):
        team.close()
