"""The model of memory against what torch really allocates, and its advice."""

import json
from dataclasses import replace

import pytest
import torch
from engine_reference import datum

from geospot.engine.local import machine, memory
from geospot.engine.local.options import LocalOptions
from geospot.engine.workload import Batch, Workload

# Qwen2.5-VL-3B, LoRA 32 on the decoder.
SHAPE = memory.Shape(
    parameters=3_750_000_000, decoder=2_774_000_000, trained=59_900_000, trains_base=False, hidden=2048, inner=11_008,
    layers=36, heads=16, kv_heads=2, head_dim=128, vocabulary=151_936, kept=2048,
)  # fmt: skip

FULL = replace(SHAPE, trained=SHAPE.parameters, trains_base=True, kept=0)
# A step of batch 4 and group 16 with a picture of 324 tokens, and the evaluation of 512 places.
GRPO = Workload(
    (Batch(4, 400, 64, 16), Batch(512, 400, 64, greedy=True)), Batch(4, 400, 64, 16), 1000, 324,
    keeps_sampler=True, saves=True,
)  # fmt: skip
SFT = Workload((), Batch(1, 400, 40), 2, 324, saves=True)
GUESS = Workload((Batch(1, 400, 64, greedy=True),), None, 1, 324)


def test_three_billion_parameters_by_hand():
    need = memory.needs(SHAPE, LocalOptions(max_sample_tokens=65_536), GRPO, dtype="bfloat16", process=7)
    assert need.weights == pytest.approx(7.5e9)
    assert (need.training_weights, need.sampling_weights) == (0, pytest.approx(5.548e9))
    # Keys and values, two bytes, layers, heads, width: as many answers at once as there is room for.
    assert need.kv_cache == 2 * 2 * 36 * 2 * 128 * (65_536 // 464 * 464) * 5 // 4
    assert need.logits == 65_536 // 464 * 151_936 * (16 + 2)  # of the evaluation's greedy answers, in float32
    assert (need.trained, need.optimizer, need.gradients) == tuple(n * 59_900_000 for n in (8, 8, 8))
    assert need.pictures == 1 << 30  # the run has more of them
    assert memory.needs(SHAPE, LocalOptions(), SFT, dtype="bfloat16").pictures == 2 * 324 * 2048 * 2
    passing = need.activations * 115 // 100 + need.gradients // 2
    assert need.training == 7 + need.weights + need.pictures + 16 * 59_900_000 + passing
    assert need.sampling == (
        7 + need.weights + need.pictures + 16 * 59_900_000 + need.sampling_weights + need.kv_cache
        + need.prompts
    )  # fmt: skip


def test_a_small_work_needs_little_whatever_the_limits_are():
    """Batch 1: the limits are the same, and nothing is kept for what is not there."""
    for options in (LocalOptions(), LocalOptions(max_batch_tokens=1 << 20, max_sample_tokens=1 << 20)):
        need = memory.needs(replace(SHAPE, as_filed=True, copies=False), options, SFT, dtype="bfloat16")
        assert (need.kv_cache, need.logits, need.sampling_weights) == (0, 0, 0)
        assert need.peak < 7.6e9 + 20 * 59_900_000 + 440 * 5_000_000
        need = memory.needs(SHAPE, options, GUESS, dtype="bfloat16")
        assert (need.activations, need.optimizer, need.gradients, need.saving) == (0, 0, 0, 0)
        assert need.kv_cache == 2 * 2 * 36 * 2 * 128 * 464 * 5 // 4


def test_in_float32_the_adapter_is_merged_for_training_too():
    merged = 4 * SHAPE.decoder
    for merge in (True, False):  # without merge_lora it is that copy which is sampled with
        need = memory.needs(SHAPE, LocalOptions(merge_lora=merge), GRPO, dtype="float32")
        assert (need.training_weights, need.sampling_weights) == (merged, merged)


def test_training_all_weights_by_hand():
    """Float32: the base, the client's, a snapshot's, two moments, and gradients twice: seven times 4 bytes each."""
    need = memory.needs(FULL, LocalOptions(), GRPO, dtype="float32")
    of_parameters = (need.weights, need.trained, need.optimizer, need.gradients)
    assert of_parameters == tuple(4 * n * FULL.parameters for n in (1, 2, 2, 2))
    assert (need.training_weights, need.pictures) == (0, 0)  # nothing is merged, and no picture kept


def test_automatic_limits_follow_the_memory_and_those_given_stay():
    of = {"dtype": "bfloat16"}
    large = memory.fitted(SHAPE, LocalOptions(), GRPO, 1 << 40, **of)
    assert memory.limits(large) == (16_384, 131_072)
    small = memory.fitted(SHAPE, LocalOptions(), GRPO, 18 * memory.GIB, **of)
    assert 1024 <= small.max_batch_tokens < 16_384
    assert memory.needs(SHAPE, small, GRPO, **of).peak < 18 * memory.GIB
    given = LocalOptions(max_batch_tokens=20_000, max_sample_tokens=200_000)
    assert memory.fitted(SHAPE, given, GRPO, 18 * memory.GIB, **of) == given


def test_a_model_too_large_for_float32_is_loaded_in_bfloat16(tiny_folder, monkeypatch):
    for total, dtype in ((1 << 40, "float32"), (1 << 20, "bfloat16"), (None, "float32")):
        memory.dtype_for.cache_clear()
        monkeypatch.setattr(memory, "total_bytes", lambda device, total=total: total)
        assert memory.dtype_for(tiny_folder, "cpu") == dtype
        assert memory.dtype_for("geospot/tiny", "cpu") == "float32"
    memory.dtype_for.cache_clear()


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
    shape, work = memory.shape_of(network), Workload(training=Batch(1, prompt.length, 99, 8))
    small = replace(shape, vocabulary=1)  # without the scores of the vocabulary, and what a layer only works on
    model = memory.needs(small, network.options, work, dtype="float32").activations
    model -= (prompt.length + 8 * 99) * (8 * 2 * shape.inner + 12 * shape.hidden) + (8 << 20)
    assert 0.85 * model < measured < 1.2 * model


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
        (SHAPE, "bfloat16", 18),
        (SHAPE, "bfloat16", 12),
        (SHAPE, "float32", 32),
        (FULL, "float32", 128),
    ],
)
def test_advice_makes_it_fit(shape, dtype, gib):
    options, of = LocalOptions(max_batch_tokens=16_384, max_sample_tokens=131_072), {"dtype": dtype}
    assert memory.needs(shape, options, GRPO, **of).peak > gib * memory.GIB
    changes = memory.advice(shape, options, GRPO, available=gib * memory.GIB, **of)
    assert memory.needs(shape, applied(options, changes), GRPO, **of).peak <= gib * memory.GIB


def test_advice_names_what_it_takes_and_no_more():
    options, of = LocalOptions(max_batch_tokens=16_384, max_sample_tokens=131_072), {"dtype": "bfloat16"}
    need = memory.needs(SHAPE, options, GRPO, **of).peak
    assert memory.advice(SHAPE, options, GRPO, available=need, **of) == []
    assert memory.advice(SHAPE, options, GRPO, available=need - 1, **of) == ["picture_cache_mb=256"]
    float32 = memory.advice(SHAPE, options, GRPO, available=memory.GIB, dtype="float32")
    assert float32[-1].startswith("dtype=bfloat16")
    assert memory.advice(SHAPE, options, GRPO, available=memory.GIB, **of)[-1] == "a smaller model"


def test_without_an_adapter_the_advice_is_an_adapter():
    """dtype is ignored there: weights that are trained stay in float32."""
    changes = memory.advice(FULL, LocalOptions(), GRPO, dtype="float32", available=memory.GIB)
    assert changes[-1].startswith("lora_rank=32")
    assert not any("dtype" in change for change in changes)


def test_each_remedy_lowers_the_need():
    base = LocalOptions(max_batch_tokens=4096, max_sample_tokens=65_536)
    peak = memory.needs(SHAPE, base, GRPO, dtype="bfloat16")
    for less in ({"gradient_checkpointing": True}, {"max_batch_tokens": 2048}):
        assert memory.needs(SHAPE, replace(base, **less), GRPO, dtype="bfloat16").training < peak.training, less
    for less in ({"merge_lora": False}, {"max_sample_tokens": 4096}):
        assert memory.needs(SHAPE, replace(base, **less), GRPO, dtype="bfloat16").sampling < peak.sampling, less


def test_it_is_said_what_will_not_fit(make_service, tiny_folder, monkeypatch):
    service = make_service()
    service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    assert "WARNING" not in service.expect(Workload(training=Batch(1, 40, 20)))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 20)
    text = service.expect(replace(GRPO, sampling=()))
    assert text.startswith("memory, GiB:")
    assert "WARNING" in text
    assert "max_batch_tokens=" in text


def test_a_server_says_it_of_each_model_that_is_trained(make_service, tiny_folder, capsys):
    service = make_service()
    service.announces = set()
    for _ in range(2):
        service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    assert capsys.readouterr().out.count("memory, GiB:") == 1


def test_what_other_networks_have_loaded_is_counted(make_service, tiny_folder):
    """A base model in bfloat16 beside weights that are trained in float32."""
    service = make_service(dtype="bfloat16")
    service.create_sampling_client(base_model=tiny_folder).result()
    service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    service.create_lora_training_client(tiny_folder, rank=0).result()
    [network] = [n for n in service._networks.values() if n.spec.lora_rank == 0 and n.spec.parts]
    numbers = sum(p.numel() for p in network.model.parameters())
    need = memory.needs(memory.shape_of(network), network.options, GRPO, dtype="float32", beside=7)
    assert need.weights == 4 * numbers + 7
    assert [base.n_bytes for base in service._bases.values()] == [2 * numbers, 4 * numbers]


@pytest.mark.parametrize(
    ("rank", "parts", "numbers"),
    [
        (4, ("attention",), "hidden"), (0, ("attention", "mlp"), "hidden"), (0, ("projector",), "tower"),
        (0, ("attention", "vision", "projector"), "nothing"),
    ],
)  # fmt: skip
def test_the_cache_of_pictures_counts_wherever_the_tower_is_frozen(make_service, tiny_folder, rank, parts, numbers):
    service = make_service()
    service.create_lora_training_client(tiny_folder, rank=rank, parts=parts).result()
    [network] = [n for n in service._networks.values() if n.spec.parts]
    shape = memory.shape_of(network)
    each = {"hidden": shape.hidden, "tower": shape.patches * shape.seen, "nothing": 0}[numbers]
    assert memory.needs(shape, LocalOptions(), SFT, dtype="float32").pictures == 2 * 324 * each * 4


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(tmp_path, version):
    folder = tmp_path if version == 2 else tmp_path / "memory"
    folder.mkdir(exist_ok=True)
    limit, used, files = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    assert machine.free_in_cgroup(tmp_path) is None  # no limits here
    (folder / limit).write_text("8000000000\n")
    (folder / used).write_text("3000000000\n")
    (folder / "memory.stat").write_text(f"anon 2500000000\n{files} 400000000\n")
    assert machine.free_in_cgroup(tmp_path) == 5_400_000_000  # what files take is given back
    (folder / limit).write_text("max\n")
    assert machine.free_in_cgroup(tmp_path) is None


def test_a_computer_has_what_is_free_within_its_limits(monkeypatch):
    """And what this process has of it already."""
    monkeypatch.setattr(machine, "free_in_cgroup", lambda: 1 << 20)
    assert 1 << 20 < machine.available_bytes("cpu") < machine.resident_bytes() + (2 << 20)
    monkeypatch.setattr(machine, "free_in_cgroup", lambda: 1 << 60)
    assert machine.resident_bytes() < machine.total_bytes("cpu") < 1 << 60
