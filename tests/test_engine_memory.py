"""The model of memory against what torch really allocates, and its advice."""

from dataclasses import replace

import pytest
import torch
from engine_reference import datum

from geospot.engine.local import memory
from geospot.engine.local.options import LocalOptions
from geospot.engine.local.service import LocalServiceClient

# Qwen2.5-VL-3B, LoRA 32 on the decoder.
SHAPE = memory.Shape(
    parameters=3_750_000_000, decoder=2_774_000_000, trained=59_900_000, trains_base=False, hidden=2048, inner=11_008,
    layers=36, heads=16, kv_heads=2, head_dim=128, vocabulary=151_936,
)  # fmt: skip


def test_three_billion_parameters_by_hand():
    need = memory.needs(SHAPE, LocalOptions(max_sample_tokens=131_072, max_batch_tokens=16_384), dtype="bfloat16")
    assert need.weights == pytest.approx(7.5e9)
    assert need.sampling_weights == pytest.approx(5.548e9)
    assert need.kv_cache == 2 * 2 * 36 * 2 * 128 * 131_072  # keys and values, two bytes, layers, heads, width: 4.8 GB
    assert need.optimizer == 8 * 59_900_000


def test_kept_activations_are_what_autograd_keeps(service, tiny_folder, renderer, pictures):
    """The bytes that a pass over one batch saves for its gradient, against the model's figure for its tokens."""
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    [network] = service._networks.values()
    prompt = renderer.prompt([pictures[0]], "Where?")
    data = [datum(prompt, range(300 + i, 400 + i), logprobs=-7.0, advantages=1.0) for i in range(8)]
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def run():
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            training._forward(data, "ppo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}, backward=True)

    service.scheduler.submit(run).result()
    weights = sum(p.numel() * 4 for p in network.model.parameters())
    tokens = prompt.length + 8 * 99
    options = replace(network.options, max_batch_tokens=tokens)
    model = memory.needs(memory.shape_of(network), options, dtype="float32").activations - 12 * (1 << 24)
    measured = sum(kept.values())
    assert 0.6 * model < measured < 1.2 * model + weights


def test_advice_makes_it_fit_and_names_the_settings():
    options = LocalOptions()
    need = memory.needs(SHAPE, options, dtype="bfloat16").peak
    assert memory.advice(SHAPE, options, dtype="bfloat16", available=need) == []
    changes = memory.advice(SHAPE, options, dtype="bfloat16", available=24 * memory.GIB)
    assert any(change.startswith("max_batch_tokens=") for change in changes)
    assert not any("smaller model" in change for change in changes)
    hopeless = memory.advice(SHAPE, options, dtype="float32", available=memory.GIB)
    assert hopeless[-1].startswith("dtype=bfloat16")


def test_each_mend_lowers_the_need():
    base = LocalOptions()
    peak = memory.needs(SHAPE, base, dtype="bfloat16")
    less = {
        "gradient_checkpointing": replace(base, gradient_checkpointing=True),
        "merge_lora": replace(base, merge_lora=False),
        "max_batch_tokens": replace(base, max_batch_tokens=2048),
    }
    for name, options in less.items():
        assert memory.needs(SHAPE, options, dtype="bfloat16").training < peak.training, name


def test_it_is_said_before_the_start(tiny_folder, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 20)
    with LocalServiceClient(LocalOptions(threads=1)) as service:
        service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    out = capsys.readouterr().out
    assert "memory, GiB:" in out
    assert "WARNING" in out
    assert "gradient_checkpointing=true" in out
