"""A step's answers from a service that takes a fixed time: 128 pictures x 16, all in flight, against one by one.

uv run python benchmarks/tinker_rollouts.py

The service is a process of its own that speaks the protocol, holds each request for `latency` seconds and works on
`concurrency` of them at a time: no model is in it, so what is measured is the client. Ideal is latency x rounds.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import resource
import socket
import subprocess
import sys
import time
import uuid
from datetime import date
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "tinker_rollouts-cpu2.json"
PICTURE_PIXELS = 512
ANSWER_TOKENS = 30


def serve(port: int, latency_s: float, concurrency: int) -> None:
    """The service: sampling after a fixed time, training at once; counts what it is sent."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from tinker import types

    from geospot.engine.serve.wire import decompress, pack_forward_backward, pack_sample, read_forward_backward
    from geospot.engine.serve.wire import read_json as parse

    slots, tasks, sent = asyncio.Semaphore(concurrency), {}, {}
    rng = np.random.default_rng(0)

    async def read(request) -> bytes:
        body = await request.body()
        headers = sum(len(key) + len(value) + 4 for key, value in request.headers.raw)
        name = request.url.path.rsplit("/", 1)[-1]
        sent[name] = sent.get(name, 0) + len(body) + headers + len(request.url.path) + 20
        return decompress(body, request.headers.get("content-encoding", ""))

    def answers(n: int) -> bytes:
        lengths = rng.integers(ANSWER_TOKENS - 6, ANSWER_TOKENS + 6, n)
        return pack_sample([
            types.SampledSequence("stop", "x", rng.integers(0, 200, k).astype(np.int32), np.zeros(k, np.float32))
            for k in lengths
        ])  # fmt: skip

    def promise(work, **extra) -> JSONResponse:
        request_id = uuid.uuid4().hex
        tasks[request_id] = asyncio.ensure_future(work)
        return JSONResponse({"request_id": request_id, **extra})

    async def asample(request):
        n = parse(await read(request))["num_samples"]

        async def work():
            async with slots:
                await asyncio.sleep(latency_s)
            return answers(n)

        return promise(work(), sample_sequence_ids=["s"] * n)

    async def forward_backward(request):
        _, data, _ = read_forward_backward(await read(request))

        async def work():
            zeros = [{"logprobs": datum.loss_fn_inputs["advantages"]} for datum in data]
            return pack_forward_backward(types.ForwardBackwardOutput("ArrayRecord", zeros, {"loss:sum": 0.0}))

        return promise(work())

    async def create_model(request):
        await read(request)
        return promise(asyncio.sleep(0, {"type": "create_model", "model_id": "s:train:0"}))

    async def optim_step(request):
        await read(request)
        return promise(asyncio.sleep(0, {"metrics": {}}))

    async def retrieve(request):
        result = await asyncio.shield(tasks[parse(await read(request))["request_id"]])
        is_bytes = isinstance(result, bytes)
        return Response(result, media_type="application/x-protobuf") if is_bytes else JSONResponse(result)

    async def stats(request):
        out, _ = dict(sent), sent.clear()
        return JSONResponse(out)

    def fixed(value, **headers):
        async def handler(request):
            await read(request)
            return JSONResponse(value, headers=headers)

        return handler

    config = {"pjwt_auth_enabled": False, "parallel_fwdbwd_chunks": False, "proto_compress_fwdbwd": True}
    info = {"model_data": {"model_name": "m"}, "model_id": "s:train:0", "lora_rank": 32, "is_lora": True}
    handlers = {
        "healthz": fixed({"status": "ok"}, **{"Accept-Encoding": "zstd"}),
        "client/config": fixed(config),
        "client/dynamic_config": fixed({}),
        "create_session": fixed({"session_id": "s"}),
        "session_heartbeat": fixed({}),
        "sessions/s/finish": fixed({}),
        "telemetry": fixed({"status": "accepted"}),
        "create_sampling_session": fixed({"sampling_session_id": "p"}),
        "samplers/p": fixed({"sampler_id": "p", "base_model": "m"}),
        "create_model": create_model,
        "get_info": fixed(info),
        "asample": asample,
        "forward_backward": forward_backward,
        "optim_step": optim_step,
        "retrieve_future": retrieve,
        "stats": stats,
    }

    routes = [Route(f"/api/v1/{path}", handler, methods=["GET", "POST"]) for path, handler in handlers.items()]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")


def picture(seed: int) -> bytes:
    """A JPEG of a photo's size in bytes: blotches with some grain."""
    import io

    from PIL import Image

    rng = np.random.default_rng(seed)
    side = PICTURE_PIXELS
    smooth = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC)
    grain = np.asarray(smooth, dtype=np.int16) + rng.integers(-10, 11, (side, side, 1))
    out = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


class Meter:
    """Wall-clock time, CPU time of this process and bytes sent, between start and end."""

    def __init__(self, stats):
        self._stats = stats

    def __enter__(self):
        self._stats()
        self._cpu, self._wall = self._cpu_s(), time.monotonic()
        return self

    def __exit__(self, *exc):
        self.wall_s, self.cpu_s = time.monotonic() - self._wall, self._cpu_s() - self._cpu
        self.sent = self._stats()

    @staticmethod
    def _cpu_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


def measure(args, url: str) -> dict:
    """The step against the service at `url`."""
    import httpx

    from geospot.asking.requests import Asked
    from geospot.config import TrainConfig
    from geospot.data.samples import Sample
    from geospot.earth.place import Place
    from geospot.engine.tinker.checks import Server
    from geospot.engine.tinker.service import TinkerOptions, TinkerServiceClient
    from geospot.models.loading import load_processing
    from geospot.models.prompt import Renderer
    from geospot.training.datums import policy_datum
    from geospot.training.optim import adam

    samples = [Sample(str(i), (picture(i),), Place(1.0, 2.0)) for i in range(args.pictures)]
    total = sum(len(sample.pictures[0]) for sample in samples)
    renderer = Renderer(load_processing("geospot/tiny"))
    how = {"num_samples": args.group, "max_tokens": 64}

    def meter() -> Meter:
        return Meter(lambda: httpx.get(f"{url}/api/v1/stats").json())

    def ask(some) -> Asked:  # with the renderer of the moment
        return Asked(sampler, renderer, some, "Where was this taken?", seeds=range(len(some)), **how)

    with TinkerServiceClient(TinkerOptions(Server.find(url))) as service:
        sampler = service.create_sampling_client(base_model="m").result()
        training = service.create_lora_training_client("m", rank=32).result()
        ask(samples[:2]).collect()  # connections are open, modules are loaded
        steps = []
        for _ in range(args.repeats):
            renderer = Renderer(renderer.processing)  # one that has not seen the pictures yet
            with meter() as step:
                rollouts = ask(samples).collect()
            steps.append(step)
        with meter() as one_by_one:
            for sample in samples[: args.one_by_one]:
                ask([sample]).collect()
        sent = sum(step.sent["asample"] + step.sent["retrieve_future"] for step in steps) / len(steps)
        with meter() as update:
            data = [
                policy_datum(rollouts.prompts[i // args.group], s.tokens, s.logprobs, 0.1)
                for i, s in enumerate(rollouts.sequences)
            ]
            forward = training.forward_backward(data, "importance_sampling")
            taken = training.optim_step(adam(TrainConfig(), 1e-4))
            forward.result(), taken.result()
    rounds = math.ceil(args.pictures / args.concurrency)
    wall_s = float(np.median([step.wall_s for step in steps]))
    slow_s = one_by_one.wall_s / args.one_by_one * args.pictures
    return {
        "answers": len(rollouts.sequences), "ideal_s": rounds * args.latency, "sample_s": wall_s,
        "ratio_to_ideal": wall_s / (rounds * args.latency), "one_by_one_s": slow_s,
        "one_by_one_measured_on": args.one_by_one, "speedup": slow_s / wall_s, "jpeg_mb": total / 1e6,
        "sent_ratio": sent / total, "sample_cpu_s": float(np.median([step.cpu_s for step in steps])),
        "datums": len(data), "update_s": update.wall_s, "update_cpu_s": update.cpu_s,
        "update_sent_ratio": update.sent["forward_backward"] / total,
        "max_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds a request takes")
    parser.add_argument("--concurrency", type=int, default=32, help="requests that the service works on at a time")
    parser.add_argument("--one-by-one", type=int, default=8, help="requests measured one after another")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--server", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.server:
        return serve(args.server, args.latency, args.concurrency)
    import httpx
    import tinker

    from geospot.progress import table

    os.environ.setdefault("TINKER_TELEMETRY", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--server", str(port), "--latency", str(args.latency), "--concurrency", str(args.concurrency)]
    process = subprocess.Popen([sys.executable, __file__, *words])
    try:
        for _ in range(300):
            try:
                httpx.get(f"http://127.0.0.1:{port}/api/v1/healthz")
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        row = measure(args, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()
    print(table({"what": key, "value": value} for key, value in row.items()))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    facts = {
        "benchmark": "tinker_rollouts",
        "date": date.today().isoformat(),
        "commit": commit,
        "sdk": tinker.__version__,
    }
    facts |= {"machine": f"{os.cpu_count()} cores", "device": platform.machine(), "peer": "one request after another"}
    facts |= {"pictures": args.pictures, "group": args.group, "latency_s": args.latency, "n": args.repeats}
    line = json.dumps(facts | {"concurrency": args.concurrency} | row)
    print(line)
    if args.write:
        RESULTS.write_text(line + "\n")
    return None


if __name__ == "__main__":
    main()
