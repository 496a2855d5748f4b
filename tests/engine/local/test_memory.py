"""The model of memory against what torch really allocates, and its advice."""

import json
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

FULL = replace(SHAPE, trained=SHAPE.parameters, trains_base=True)


def test_three_billion_parameters_by_hand():
    need = memory.needs(SHAPE, LocalOptions(max_sample_tokens=131_072, max_batch_tokens=16_384), dtype="bfloat16")
    assert need.weights == pytest.approx(7.5e9)
    assert (need.training_weights, need.sampling_weights) == (0, pytest.approx(5.548e9))
    # Keys and values, two bytes, layers, heads, width: 4.8 GB, and a quarter for copies while the batch changes.
    assert need.kv_cache == 2 * 2 * 36 * 2 * 128 * 131_072 * 5 // 4
    assert need.logits == 2048 * 151_936 * (2 + 4)  # of the head, and in float32
    assert (need.trained, need.optimizer, need.gradients) == tuple(n * 59_900_000 for n in (8, 8, 8))
    assert need.training == need.weights + need.pictures + 24 * 59_900_000 + need.activations
    assert need.sampling == (
        need.weights + need.pictures + 16 * 59_900_000 + need.sampling_weights + need.kv_cache + need.logits
    )


def test_in_float32_the_adapter_is_merged_for_training_too():
    merged = 4 * SHAPE.decoder
    for merge in (True, False):  # without merge_lora it is that copy which is sampled with
        need = memory.needs(SHAPE, LocalOptions(merge_lora=merge), dtype="float32")
        assert (need.training_weights, need.sampling_weights) == (merged, merged)


def test_training_all_weights_by_hand():
    """Float32: the base, the client's, a snapshot's, two moments, and gradients twice: seven times 4 bytes each."""
    need = memory.needs(FULL, LocalOptions(), dtype="float32")
    of_parameters = (need.weights, need.trained, need.optimizer, need.gradients)
    assert of_parameters == tuple(4 * n * FULL.parameters for n in (1, 2, 2, 2))
    assert (need.training_weights, need.pictures) == (0, 0)  # nothing is merged, and no picture kept
    adapter = memory.needs(SHAPE, LocalOptions(), dtype="float32")
    logits = 4 << 26  # kept up to 256 MiB, for the head is trained
    fused = 4 * 36 * 2048 * ((16 + 2 * 2) * 128 + 2 * 11_008)  # q, k, v and gate, up side by side in every layer
    assert need.activations - adapter.activations == logits + fused


@pytest.mark.parametrize("rank", [4, 0])
def test_kept_activations_are_what_autograd_keeps(service, tiny_folder, renderer, pictures, rank):
    """The bytes that a pass over one batch saves for its gradient, against the model's figure for its tokens."""
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
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
    for p in network.model.parameters():
        kept.pop(p.untyped_storage().data_ptr(), None)
    measured = sum(n for n in kept.values() if n != 4 * 8 * 100 * network.vocabulary)
    tokens = prompt.length + 8 * 99
    options = replace(network.options, max_batch_tokens=tokens)
    logits = (12 << 24) + (4 << 26 if rank == 0 else 0)
    model = memory.needs(memory.shape_of(network), options, dtype="float32").activations - logits
    assert 0.6 * model < measured < 1.2 * model


def applied(options: LocalOptions, changes: list[str]) -> LocalOptions:
    """The options with each `key=value` set."""
    for key, value in (change.split("=") for change in changes):
        if key == "picture_cache_mb":
            options = replace(options, picture_cache_bytes=int(value) << 20)
        else:
            options = replace(options, **{key: json.loads(value)})
    return options


@pytest.mark.parametrize(
    ("shape", "dtype", "gib"),
    [
        (SHAPE, "bfloat16", 24),
        (SHAPE, "bfloat16", 16),
        (SHAPE, "bfloat16", 12),
        (SHAPE, "float32", 32),
        (FULL, "float32", 120),
    ],
)
def test_advice_makes_it_fit(shape, dtype, gib):
    options = LocalOptions()
    assert memory.needs(shape, options, dtype=dtype).peak > gib * memory.GIB
    changes = memory.advice(shape, options, dtype=dtype, available=gib * memory.GIB)
    assert memory.needs(shape, applied(options, changes), dtype=dtype).peak <= gib * memory.GIB


def test_advice_names_what_it_takes_and_no_more():
    options = LocalOptions()
    need = memory.needs(SHAPE, options, dtype="bfloat16").peak
    assert memory.advice(SHAPE, options, dtype="bfloat16", available=need) == []
    assert memory.advice(SHAPE, options, dtype="bfloat16", available=need - 1) == ["picture_cache_mb=256"]
    # Not 4096, though that was tried before merge_lora=false: nothing is asked for that a later setting made needless.
    assert "max_sample_tokens=32768" in memory.advice(SHAPE, options, dtype="bfloat16", available=10 * memory.GIB)
    assert memory.advice(SHAPE, options, dtype="float32", available=memory.GIB)[-1].startswith("dtype=bfloat16")
    assert memory.advice(SHAPE, options, dtype="bfloat16", available=memory.GIB)[-1] == "a smaller model"


def test_without_an_adapter_the_advice_is_an_adapter():
    """dtype is ignored there: weights that are trained stay in float32."""
    changes = memory.advice(FULL, LocalOptions(), dtype="float32", available=memory.GIB)
    assert changes[-1].startswith("lora_rank=32")
    assert not any("dtype" in change for change in changes)


def test_each_mend_lowers_the_need():
    base = LocalOptions()
    peak = memory.needs(SHAPE, base, dtype="bfloat16")
    less = {
        "gradient_checkpointing": replace(base, gradient_checkpointing=True),
        "max_batch_tokens": replace(base, max_batch_tokens=2048),
    }
    for name, options in less.items():
        assert memory.needs(SHAPE, options, dtype="bfloat16").training < peak.training, name
    for options in (replace(base, merge_lora=False), replace(base, max_sample_tokens=4096)):
        assert memory.needs(SHAPE, options, dtype="bfloat16").sampling < peak.sampling


def test_it_is_said_before_the_start(tiny_folder, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 20)
    with LocalServiceClient(LocalOptions(threads=1)) as service:
        service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    out = capsys.readouterr().out
    assert "memory, GiB:" in out
    assert "WARNING" in out
    assert "gradient_checkpointing=true" in out


def test_what_other_networks_have_loaded_is_counted(make_service, tiny_folder, capsys):
    """A base model in bfloat16 beside weights that are trained in float32."""
    service = make_service(dtype="bfloat16")
    service.create_sampling_client(base_model=tiny_folder).result()
    service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    service.create_lora_training_client(tiny_folder, rank=0).result()
    [network] = [n for n in service._networks.values() if n.spec.lora_rank == 0 and n.spec.parts]
    numbers = sum(p.numel() for p in network.model.parameters())
    assert memory.needs(memory.shape_of(network), network.options, dtype="float32", beside=7).weights == 4 * numbers + 7
    assert [base.n_bytes for base in service._bases.values()] == [2 * numbers, 4 * numbers]
    assert capsys.readouterr().out.count("memory, GiB:") == 2


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(tmp_path, version):
    folder = tmp_path if version == 2 else tmp_path / "memory"
    folder.mkdir(exist_ok=True)
    limit, used, files = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    assert memory.free_in_cgroup(tmp_path) is None  # no limits here
    (folder / limit).write_text("8000000000\n")
    (folder / used).write_text("3000000000\n")
    (folder / "memory.stat").write_text(f"anon 2500000000\n{files} 400000000\n")
    assert memory.free_in_cgroup(tmp_path) == 5_400_000_000  # what files take is given back
    (folder / limit).write_text("max\n")
    assert memory.free_in_cgroup(tmp_path) is None


def test_a_computer_has_what_is_free_within_its_limits(monkeypatch):
    monkeypatch.setattr(memory, "free_in_cgroup", lambda: 1 << 20)
    assert memory.available_bytes("cpu") == 1 << 20
    monkeypatch.setattr(memory, "free_in_cgroup", lambda: 1 << 60)
    assert 1 << 20 < memory.available_bytes("cpu") < 1 << 60
