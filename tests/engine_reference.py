"""Plain references for the engine's tests: one sequence at a time through transformers' own forward, and datums."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from tinker import types
from transformers import AutoModelForImageTextToText

from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.models.loading import Processing

LORA_ALPHA = 32
BORDER = 1e-4  # rounding moves a cumulative probability by less


def params(**kwargs) -> types.SamplingParams:
    """Sampling parameters that stop at nothing unless told to."""
    return types.SamplingParams(**{"stop": [], "seed": 0, **kwargs})


def datum(prompt: types.ModelInput, answer, **inputs) -> types.Datum:
    """A datum that predicts `answer` after `prompt`; `inputs` give one value per answer token (or one for all)."""
    answer = [int(token) for token in answer]
    chunks = [*prompt.chunks, types.EncodedTextChunk(tokens=answer[:-1])] if len(answer) > 1 else prompt.chunks
    model_input = types.ModelInput(chunks=chunks)
    arrays = {"target_tokens": np.zeros(model_input.length, np.int64)}
    arrays["target_tokens"][prompt.length - 1 :] = answer
    for key, values in inputs.items():
        arrays[key] = np.zeros(model_input.length, np.float32)
        arrays[key][prompt.length - 1 :] = values
    return types.Datum(model_input=model_input, loss_fn_inputs=arrays)


def logprobs_of(output: types.ForwardBackwardOutput, i: int, n_answer: int) -> np.ndarray:
    """The trainer's log-probabilities of the answer tokens of datum i."""
    return output.loss_fn_outputs[i]["logprobs"].to_numpy()[-n_answer:]


def train_a_little(training, prompts, steps: int = 3, learning_rate: float = 3e-3) -> None:
    """A few steps of supervised training, so that LoRA's B is not zero and the distribution not flat."""
    rng = np.random.default_rng(7)
    data = [datum(prompt, rng.integers(300, 900, 5), weights=1.0) for prompt in prompts]
    for _ in range(steps):
        training.forward_backward(data, "cross_entropy")
        training.optim_step(types.AdamParams(learning_rate=learning_rate)).result()


def load_reference(folder: str, checkpoint: str | None = None) -> torch.nn.Module:
    """Transformers' model of a folder, with a checkpoint's weights: LoRA merged by hand, full weights put in."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    if checkpoint is not None:
        saved = load_file(Path(checkpoint) / "weights.safetensors")
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in saved.items():
                if ".lora_A." in name:
                    b = saved[name.replace(".lora_A.", ".lora_B.")]
                    own[name.split(".lora_A.")[0] + ".weight"] += LORA_ALPHA / len(value) * b @ value
                elif ".lora_B." not in name:
                    own[name].copy_(value)
    return model.eval()


def forward_inputs(processing, prompt: types.ModelInput, answer=()) -> dict[str, torch.Tensor]:
    """What transformers' forward takes for one sequence."""
    kinds_name = "token_type_ids" if "Gemma" in type(processing.image_processor).__name__ else "mm_token_type_ids"
    ids, kinds, images = [], [], []
    for chunk in prompt.chunks:
        if isinstance(chunk, types.ImageChunk):
            ids += [processing.image_token_id] * chunk.expected_tokens
            kinds += [1] * chunk.expected_tokens
            images.append(Image.open(io.BytesIO(chunk.data)).convert("RGB"))
        else:
            ids += chunk.tokens
            kinds += [0] * len(chunk.tokens)
    ids, kinds = [*ids, *map(int, answer)], kinds + [0] * len(answer)
    out = {"input_ids": torch.tensor([ids]), kinds_name: torch.tensor([kinds])}
    out["attention_mask"] = torch.ones_like(out["input_ids"])
    if images:
        processed = processing.image_processor(images=images, return_tensors="pt")
        out |= {key: processed[key] for key in ("pixel_values", "image_grid_thw") if key in processed}
    return out


def reference_logprobs(forward, processing, prompt: types.ModelInput, answer) -> torch.Tensor:
    """(T, V) log-probabilities at the answer's positions; `forward` is a model or a function with its arguments."""
    logits = forward(**forward_inputs(processing, prompt, answer), use_cache=False).logits[0]
    logits = logits[prompt.length - 1 : prompt.length - 1 + len(answer)]
    ban = torch.zeros(logits.shape[-1])
    ban[list(processing.banned_token_ids)] = -torch.inf
    return (logits + ban).log_softmax(-1)


def gather(logprobs: torch.Tensor, tokens) -> torch.Tensor:
    """The log-probabilities of the tokens themselves, (T,)."""
    return logprobs.gather(-1, torch.tensor([int(t) for t in tokens])[:, None])[:, 0]


def assert_same_draws(
    one: Sequence[types.SampledSequence],
    two: Sequence[types.SampledSequence],
    prompt: types.ModelInput,
    wanted: types.SamplingParams,
    reference: torch.nn.Module,
    processing: Processing,
    atol: float = 1e-4,
) -> int:
    """Two answers to one request (untruncated, temperature above 0) are equal but for rounding.

    Log-probabilities are equal to `atol`. Where two tokens differ, the number that was drawn lies within BORDER of the
    borders between them, of the cumulative distribution by `reference`; behind that place nothing is compared.
    Returns how many sequences come to differ.
    """
    uniforms, differing = np.random.default_rng(wanted.seed).random((len(one), wanted.max_tokens)), 0
    for member, (a, b) in enumerate(zip(one, two, strict=True)):
        same = next((k for k, (x, y) in enumerate(zip(a.tokens, b.tokens, strict=False)) if x != y), len(a.tokens))
        np.testing.assert_allclose(a.logprobs[:same], b.logprobs[:same], atol=atol)
        if same == len(a.tokens) == len(b.tokens):
            continue
        assert same < min(len(a.tokens), len(b.tokens)), "of equal tokens one answer has more"
        with torch.no_grad():
            logprobs = reference_logprobs(reference, processing, prompt, a.tokens[: same + 1])[same].double()
        cumulative = (logprobs / wanted.temperature).softmax(-1).cumsum(-1).numpy()
        low, high = sorted((a.tokens[same], b.tokens[same]))
        off = np.abs(cumulative[low:high] - uniforms[member, same]).max()
        assert off < BORDER, f"member {member}, token {same}: {low} and {high}, {off:.2g} from where they meet"
        differing += 1
    return differing


def plain_gradients(folder, processing, training, group_data) -> dict[str, torch.Tensor]:
    """Importance-sampling gradients, one sequence at a time, of the same tensors that `training` trains."""
    model = load_reference(folder)
    tensors = {name: w.detach().clone().requires_grad_() for name, w in training._weights.items()}
    base = dict(model.named_parameters())

    def forward(**inputs):
        used = {name: tensors.get(name, p.detach()) for name, p in base.items()}
        for name, a in tensors.items():
            if ".lora_A." in name:
                target = name.split(".lora_A.")[0] + ".weight"
                used[target] = used[target] + LORA_ALPHA / len(a) * tensors[name.replace("_A.", "_B.")] @ a
        return torch.func.functional_call(model, used, kwargs=inputs)

    for prompt, answer, q, advantages in group_data:
        lp = gather(reference_logprobs(forward, processing, prompt, answer), answer)
        ratio = (lp - torch.tensor(q, dtype=torch.float32)).exp()
        (-ratio * torch.tensor(advantages, dtype=torch.float32)).sum().backward()
    return {name: t.grad for name, t in tensors.items() if t.grad is not None}


def bfloat16_errors(folder, processing, prompts) -> tuple[float, float, float]:
    """Mean distance of log-probabilities in bfloat16 from those of transformers in float32: the engine's trainer, its
    sampler, and transformers' own forward in bfloat16."""
    with LocalServiceClient(LocalOptions(threads=1, dtype="bfloat16")) as service:
        training = service.create_lora_training_client(folder, rank=4, seed=1).result()  # the adapter is 0
        sampler = training.save_weights_and_get_sampling_client().result()
        futures = [sampler.sample(p, 4, params(max_tokens=6, seed=i)) for i, p in enumerate(prompts)]
        sampled = [(p, s) for p, f in zip(prompts, futures, strict=True) for s in f.result().sequences]
        data = [datum(p, s.tokens, logprobs=s.logprobs, advantages=1.0) for p, s in sampled]
        out = training.forward(data, "ppo").result()
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).eval()
    exact, errors = load_reference(folder), []
    for i, (prompt, s) in enumerate(sampled):
        with torch.no_grad():
            own = gather(reference_logprobs(plain, processing, prompt, s.tokens).float(), s.tokens).numpy()
            true = gather(reference_logprobs(exact, processing, prompt, s.tokens), s.tokens).numpy()
        errors.append([np.abs(x - true) for x in (logprobs_of(out, i, len(s.tokens)), s.logprobs, own)])
    return tuple(float(np.concatenate(part).mean()) for part in zip(*errors, strict=True))


def bfloat16_cosine(folder, prompts) -> float:
    """Cosine between a client's gradients in float32 and in bfloat16."""
    rng = np.random.default_rng(0)
    answers = [(p, rng.integers(300, 900, n), rng.normal(size=n)) for p in prompts for n in (4, 2)]
    data = [datum(p, t, weights=w) for p, t, w in answers]
    found = []
    for dtype in ("float32", "bfloat16"):
        with LocalServiceClient(LocalOptions(threads=1, dtype=dtype)) as service:
            training = service.create_lora_training_client(folder, rank=4, seed=1).result()
            training.forward_backward(data, "cross_entropy").result()
            found.append(torch.cat([w.grad.flatten() for w in training._weights.values() if w.grad is not None]))
    return float(torch.nn.functional.cosine_similarity(*found, dim=0))
