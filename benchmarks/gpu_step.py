"""A GRPO step of the real shape on a GPU: sampling against the memory bandwidth, training against the peak, TRL beside.

    uv run python benchmarks/gpu_step.py [--batch 32] [--group 16] [--tokens 64] [--peer-python peer/bin/python]

The model is Qwen2.5-VL-3B's shape with random weights in bfloat16 and LoRA 32, the pictures are 512 x 512. Without a
GPU it runs at a tiny size (`--size tiny`, chosen by itself), which shows that the script works and nothing else.

    decode     tokens a second, and the share of the bound by bandwidth: each step reads the weights once, each prefix's
               cache once a group and each row's own cache
    training   model FLOPs utilisation: operations that the pass cannot do without, over the GPU's dense bf16 peak
    step       sampling and update together; against TRL with transformers' generate where --peer-python is given
"""

import argparse
import io
import json
import platform
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tinker import types

from geospot.engine.local.memory import shape_of
from geospot.engine.local.options import LocalOptions
from geospot.engine.local.service import LocalServiceClient
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.models.tiny import SPECIAL_TOKENS, build_tokenizer
from geospot.progress import table
from geospot.training.datums import policy_datum

QUESTION = "Where was this photo taken? Answer with the city, the country, the latitude and the longitude."
# Dense bf16 peak (10^12 operations a second) and memory bandwidth (10^9 bytes a second), by a part of the GPU's name.
GPUS = {"H200": (989, 4800), "H100": (989, 3350), "A100": (312, 2039), "L40S": (362, 864), "4090": (165, 1008)}
SIZES = {
    # hidden, MLP, layers, heads, kv heads, head width, vocabulary; vision: depth, hidden, MLP, heads; picture side
    "3b": (2048, 11_008, 36, 16, 2, 128, 151_936, 32, 1280, 3420, 16, 512),
    "tiny": (128, 512, 4, 4, 2, 32, 2048, 4, 128, 256, 4, 112),
}


def save_model(folder: str, size: str) -> int:
    """Write a model of this size with random weights; returns the pictures' side, pixels."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    hidden, inner, layers, heads, kv_heads, width, vocabulary, depth, seen, seen_inner, seen_heads, side = SIZES[size]
    tokenizer = build_tokenizer()
    ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    sections = [width // 8, width * 3 // 16, width * 3 // 16]
    text = {
        "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6},
        "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {
        "depth": depth, "hidden_size": seen, "intermediate_size": seen_inner, "num_heads": seen_heads,
        "out_hidden_size": hidden, "patch_size": 14, "spatial_merge_size": 2, "window_size": 112,
        "fullatt_block_indexes": [i for i in range(depth) if i % 8 == 7] or [depth - 1], "in_channels": 3,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pixels = {"shortest_edge": 56 * 56, "longest_edge": side * side}
    Qwen2VLImageProcessorPil(size=pixels, patch_size=14, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    return side


def picture(seed: int, side: int) -> bytes:
    """A JPEG of soft blotches."""
    small = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def measure(args, folder: str, side: int, device: str) -> tuple[list[dict], dict]:
    """Seconds of sampling and update for each step, and the counts that the bounds follow from."""
    dtype = "bfloat16" if device == "cuda" else "float32"
    options = LocalOptions(
        device=device, dtype=dtype, max_batch_tokens=args.max_batch_tokens, compile=args.compile,
        gradient_checkpointing=args.checkpointing, max_sample_tokens=1 << 20,
    )  # fmt: skip
    rng, rows = np.random.default_rng(0), []
    with LocalServiceClient(options) as service:
        training = service.create_lora_training_client(folder, rank=32, seed=0).result()
        renderer = Renderer(load_processing(folder))
        for step in range(args.steps + 1):
            prompts = [renderer.prompt([picture(1000 * step + i, side)], QUESTION) for i in range(args.batch)]
            started = time.perf_counter()
            sampler = training.save_weights_and_get_sampling_client().result()
            asked = [
                sampler.sample(p, args.group, types.SamplingParams(max_tokens=args.tokens, seed=i, stop=[]))
                for i, p in enumerate(prompts)
            ]
            groups = [future.result().sequences for future in asked]
            sampled = time.perf_counter()
            data = []
            for prompt, group in zip(prompts, groups, strict=True):
                for sequence, advantage in zip(group, rng.normal(size=len(group)), strict=True):
                    data.append(policy_datum(prompt, list(sequence.tokens), np.asarray(sequence.logprobs), advantage))
            built = time.perf_counter()
            passed, taken = training.forward_backward(data, "ppo"), training.optim_step(types.AdamParams())
            outputs = passed.result().loss_fn_outputs
            taken.result()
            done = time.perf_counter()
            here = np.concatenate([o["logprobs"].to_numpy()[-args.tokens :] for o in outputs])
            there = np.concatenate([s.logprobs for group in groups for s in group])
            ratio = np.exp(here - there)
            rows.append({
                "sample": sampled - started, "build": built - sampled, "update": done - built, "step": done - started,
                "mismatch_kl": float((ratio - 1 - np.log(ratio)).mean()),
            })  # fmt: skip
            print({key: round(value, 4) for key, value in rows[-1].items()}, flush=True)
        [network] = service._networks.values()
        shape = shape_of(network)
        vision = sum(p.numel() for name, p in network.model.named_parameters() if "visual" in name)
        counts = {
            "prompt": prompts[0].length, "decoder": shape.decoder, "layers": shape.layers, "hidden": shape.hidden,
            "kv": 2 * shape.layers * shape.kv_heads * shape.head_dim, "width": shape.heads * shape.head_dim,
            "head": shape.hidden * shape.vocabulary, "bytes": 2 if dtype == "bfloat16" else 4, "vision": vision,
        }  # fmt: skip
    return rows[1:], counts


def decode_bytes(args, c: dict) -> float:
    """Bytes that sampling reads at least: weights and caches, token by token."""
    own = args.batch * args.group * c["kv"] * args.tokens / 2
    return args.tokens * c["bytes"] * (c["decoder"] + c["head"] + args.batch * c["prompt"] * c["kv"] + own)


def train_flop(args, c: dict) -> float:
    """Operations of an update at least: forward and the gradient of the layers' inputs, prefixes once a group."""
    answers, prefixes = args.batch * args.group * args.tokens, args.batch * c["prompt"]
    attention = 4 * c["layers"] * c["width"] * (answers * (c["prompt"] + args.tokens / 2) + prefixes * c["prompt"] / 2)
    return 2 * (2 * (answers + prefixes) * c["decoder"] + 2 * answers * c["head"]) + 3 * attention


def peer_seconds(args, folder: str, side: int) -> float | None:
    """TRL's step on the same model, pictures' size, group and length, where a python with it was given."""
    if not args.peer_python:
        return None
    words = {
        "model": folder, "mode": "grpo", "prompts": args.batch, "group": args.group, "new-tokens": args.tokens,
        "threads": torch.get_num_threads(), "steps": args.steps + 1, "seed": 0, "lr": 1e-5,
        "fixed-length": 1, "pixels": side,
    }  # fmt: skip
    peer = Path(__file__).parent / "vs_trl" / "peer.py"
    command = [args.peer_python, str(peer), *(f"--{key}={value}" for key, value in words.items())]
    done = subprocess.run(command, input="go\n" * (args.steps + 2), capture_output=True, text=True, check=True)
    rows = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    return float(np.median([row["step"] for row in rows if "step" in row][1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=list(SIZES), default="3b" if has_gpu else "tiny")
    parser.add_argument("--batch", type=int, default=32 if has_gpu else 4)
    parser.add_argument("--group", type=int, default=16 if has_gpu else 4)
    parser.add_argument("--tokens", type=int, default=64 if has_gpu else 16)
    parser.add_argument("--steps", type=int, default=5 if has_gpu else 2)
    parser.add_argument("--max-batch-tokens", type=int, default=16_384)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--compile", action="store_true", help="torch.compile the decoding step (CUDA graphs)")
    parser.add_argument("--peer-python", help="a python that has trl, peft and datasets")
    parser.add_argument("--out", help="file for the JSON line")
    args = parser.parse_args()
    device = "cuda" if has_gpu else "cpu"
    name = torch.cuda.get_device_name() if has_gpu else platform.machine()
    with tempfile.TemporaryDirectory() as folder:
        side = save_model(folder, args.size)
        rows, counts = measure(args, folder, side, device)
        peer = peer_seconds(args, folder, side)
    median = {key: float(np.median([row[key] for row in rows])) for key in rows[0]}
    answers = args.batch * args.group * args.tokens
    out = {
        "benchmark": "gpu_step", "date": date.today().isoformat(), "device": name, "torch": torch.__version__,
        **vars(args), "median_s": median, "tokens_per_s": answers / median["sample"], "peer_step_s": peer,
        "step_ratio": peer and peer / median["step"], "counts": counts,
    }  # fmt: skip
    known = next((figures for part, figures in GPUS.items() if part in name), None)
    if known:
        peak, bandwidth = known
        out["decode_bound_share"] = decode_bytes(args, counts) / (bandwidth * 1e9) / median["sample"]
        out["training_mfu"] = train_flop(args, counts) / (peak * 1e12) / median["update"]
    print(table([{
        "size": args.size, "device": name, "sample s": f"{median['sample']:.3f}", "update s": f"{median['update']:.3f}",
        "tokens/s": f"{out['tokens_per_s']:.0f}",
        "of decode bound": f"{out['decode_bound_share']:.0%}" if known else "no GPU: open",
        "training MFU": f"{out['training_mfu']:.0%}" if known else "no GPU: open",
        "TRL's step": f"{out['step_ratio']:.1f} x ours" if peer else "not run",
    }]))  # fmt: skip
    line = json.dumps({key: value for key, value in out.items() if key not in ("out", "peer_python")})
    if args.out:
        Path(args.out).write_text(line + "\n")
    print("\n" + line)


if __name__ == "__main__":
    main()
