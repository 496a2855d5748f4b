"""`geospot serve` with several clients: how long one waits for another, how soon a cancelled request is over, and what
taking turns costs a client that is alone. With a small untrained model and the real SDK.

uv run python benchmarks/serve_fairness.py [--rounds 5] [--long 1500] [--out FILE]

Two servers, processes of their own: one takes turns, the other runs each request to its end, in order, as the server
did before. Of the first: requests alone, then while another client samples 8 answers of `--long` tokens. Of both, in
turn: one client alone, sampling and training. The two kinds of measurement are never made at the same time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path

import httpx
import tinker
from tinker import types

from geospot.progress import table
from geospot.runs.config import git_commit

RESULTS = Path(__file__).parent / "results" / "serve_fairness-cpu2.json"
# What is promised, in seconds: at most so much longer than alone, over within so much; turns cost at most so much.
LIMITS = {"forward_backward": 2.0, "sample, same weights": 1.0, "sample, other weights": 1.0, "cancel": 0.5}
MOST_COST = 0.05
GROUP, N_DATA, SHORT = 8, 8, 4
PROMPT = types.ModelInput.from_ints(list(range(20, 60)))


def serve(folder: str, kind: str) -> None:
    """A server in this process, until it is ended; prints where it is."""
    from geospot.engine.local.options import MAX_CONTEXT
    from geospot.engine.local.service import LocalOptions, LocalServiceClient
    from geospot.engine.serve.app import ServeOptions, make_app
    from geospot.engine.serve.listening import listener

    options = LocalOptions(
        checkpoint_dir=f"{folder}/{kind}", threads=1, max_context=MAX_CONTEXT, takes_turns=kind == "turns"
    )
    server = listener(make_app(LocalServiceClient(options), ServeOptions(f"{folder}/model")), "127.0.0.1", 0)
    started = server.startup

    async def startup(*args: object, **kwargs: object) -> None:
        await started(*args, **kwargs)
        print(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)

    server.startup = startup
    server.run()


@contextmanager
def served(folder: str, kind: str):
    """The URL of a server in a process of its own."""
    command = [sys.executable, __file__, "--serve", kind, "--folder", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


class Client:
    """One client: a model in training, and a sampler on its weights or on the model as it is."""

    def __init__(self, url: str, model: str):
        self.url = url
        self.sdk = tinker.ServiceClient(base_url=url, api_key="tml-fairness")
        self.training = self.sdk.create_lora_training_client(model, rank=8, seed=0, train_unembed=False).result()
        self.base = self.sdk.create_sampling_client(base_model=model).result()
        self.own = self.training.save_weights_and_get_sampling_client().result()
        tokens = list(range(20, 120))
        inputs = {"target_tokens": [*tokens[1:], 20], "weights": [1.0] * len(tokens)}
        model_input = types.ModelInput.from_ints(tokens)
        self.data = [types.Datum(model_input=model_input, loss_fn_inputs=inputs) for _ in range(N_DATA)]

    def sample(self, sampler: tinker.SamplingClient, n: int, tokens: int):
        params = types.SamplingParams(max_tokens=tokens, seed=0, stop=[])
        return sampler.sample(PROMPT, n, params)

    def train(self) -> None:
        self.training.forward_backward(self.data, "cross_entropy").result()

    def step(self) -> None:
        forward = self.training.forward_backward(self.data, "cross_entropy")
        self.training.optim_step(types.AdamParams(learning_rate=1e-4)).result()
        forward.result()

    def metric(self, name: str) -> float:
        """A value of the server's /metrics."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])

    def sampled_now(self) -> float:
        """How many requests are being sampled, by the server's own count."""
        return self.metric('geospot_queue{state="sampled"}')

    def cpu_s(self) -> float:
        """Seconds of CPU that the server has used."""
        return self.metric("process_cpu_seconds_total")


def seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def waits(client: Client, other: Client, rounds: int, long: int) -> list[dict]:
    """How long requests take alone, and while another client samples."""
    asked = {
        "forward_backward": client.train,
        "sample, same weights": lambda: client.sample(client.base, 1, SHORT).result(),
        "sample, other weights": lambda: client.sample(client.own, 1, SHORT).result(),
    }
    for work in asked.values():
        work()
    alone = {name: [seconds(work) for _ in range(rounds)] for name, work in asked.items()}
    beside: dict[str, list[float]] = {name: [] for name in asked}
    while min(map(len, beside.values())) < rounds:
        future = other.sample(other.base, GROUP, long)
        while not client.sampled_now() and not future.future().done():
            time.sleep(0.01)
        while not future.future().done() and min(map(len, beside.values())) < rounds:
            for name, work in asked.items():
                took = seconds(work)
                if not future.future().done():  # else it was alone for a part
                    beside[name].append(took)
        future.result()
    rows = []
    for name in asked:
        more = max(beside[name]) - statistics.median(alone[name])
        row = {"what": name, "alone_s": statistics.median(alone[name]), "beside_s": statistics.median(beside[name])}
        row |= {"worst_s": max(beside[name]), "n": len(beside[name]), "more_s": more, "at_most_s": LIMITS[name]}
        rows.append({**row, "holds": more <= LIMITS[name]})
    return rows


def cancelled(client: Client, rounds: int, long: int) -> dict:
    """From the SDK's cancel to the moment at which the server samples nothing any more."""
    took = []
    for _ in range(rounds):
        future = client.sample(client.base, GROUP, long * 4)
        while not client.sampled_now() and not future.future().done():
            time.sleep(0.005)

        def until_free() -> None:
            while client.sampled_now():
                time.sleep(0.005)

        future.future().cancel()
        took.append(seconds(until_free))
    row = {"what": "cancel", "beside_s": statistics.median(took), "worst_s": max(took), "n": rounds}
    return {**row, "at_most_s": LIMITS["cancel"], "holds": max(took) <= LIMITS["cancel"]}


def cost(clients: dict[str, Client], rounds: int, tokens: int, steps: int) -> list[dict]:
    """One client alone: seconds with turns over seconds without, round by round, the order changed each time.

    The server's own CPU seconds, too, which other programs disturb less.
    """
    work = {
        f"sampling {GROUP} x {tokens} tokens": lambda c: c.sample(c.base, GROUP, tokens).result(),
        f"{steps} steps of {N_DATA} data": lambda c: [c.step() for _ in range(steps)],
    }
    rows = []
    for name, do in work.items():
        taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in clients}
        for client in clients.values():
            do(client)
        for i in range(rounds):
            for kind in list(clients)[:: 1 if i % 2 == 0 else -1]:
                before = clients[kind].cpu_s()
                took = seconds(partial(do, clients[kind]))
                taken[kind].append((took, clients[kind].cpu_s() - before))
        row: dict[str, object] = {"what": name, "n": rounds}
        for place, unit in enumerate(("s", "cpu_s")):
            turns, whole = ([pair[place] for pair in taken[kind]] for kind in ("turns", "whole"))
            ratios = [a / b for a, b in zip(turns, whole, strict=True)]
            row |= {f"turns_{unit}": statistics.median(turns), f"whole_{unit}": statistics.median(whole)}
            row |= {f"ratio_{unit}": statistics.median(ratios), f"range_{unit}": [min(ratios), max(ratios)]}
        row["holds"] = row["ratio_s"] <= 1 + MOST_COST
        rows.append(row)
    return rows


def main() -> None:
    """Print both tables, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, default=1500, help="tokens of each of the 8 answers that others are beside")
    parser.add_argument("--tokens", type=int, default=400, help="of each of the 8 answers of a client alone")
    parser.add_argument("--steps", type=int, default=20, help="of training of a client alone, per round")
    parser.add_argument("--out", type=Path, help=f"a JSON file, {RESULTS.name} among the results")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.folder, args.serve)
    from geospot.models.tiny import save_untrained

    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/model"
        save_untrained(model)
        with served(folder, "turns") as turns, served(folder, "whole") as whole:
            clients = {"turns": Client(turns, model), "whole": Client(whole, model)}
            alone = cost(clients, args.rounds, args.tokens, args.steps)
            print(table(rounded(alone)), flush=True)
            rows = waits(clients["turns"], Client(turns, model), args.rounds, args.long)
            rows.append(cancelled(clients["turns"], args.rounds, args.long))
            print(table(rounded(rows)))
    about = {"benchmark": "serve_fairness", "date": date.today().isoformat(), "commit": git_commit()}
    about |= {"sdk": tinker.__version__, "python": platform.python_version(), "machine": f"{os.cpu_count()} cores"}
    about |= {"model": "geospot/tiny", "long": f"{GROUP} x {args.long} tokens", "threads": 1}
    line = json.dumps({**about, "waits": rows, "alone": alone})
    print(line)
    if args.out:
        args.out.write_text(line + "\n")


def rounded(rows: list[dict]) -> list[dict]:
    """For the table: three digits, a range as one cell."""

    def cell(value: object) -> object:
        if isinstance(value, list):
            return " to ".join(f"{v:.3f}" for v in value)
        return round(value, 3) if isinstance(value, float) else value

    return [{key: cell(value) for key, value in row.items()} for row in rows]


if __name__ == "__main__":
    main()
