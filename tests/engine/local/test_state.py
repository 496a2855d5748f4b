"""Saving and restoring: exactness, what is refused, and what a full disk leaves behind."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_reference import datum, params, train_a_little
from tinker import types

from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.engine.local.state import read_optimizer
from geospot.errors import ModelError, RunError
from geospot.models.tiny import save_untrained


@pytest.fixture(scope="module")
def prompts(renderer, pictures):
    return [renderer.prompt([pictures[0]], "Where?"), renderer.prompt([pictures[2]], "Where was this?")]


def one_step(training, prompts, i: int) -> dict:
    """A step whose data, learning rate and clipping depend on i; answers its metrics."""
    rng = np.random.default_rng(i)
    data = [datum(p, rng.integers(300, 900, 4), logprobs=-7.0, advantages=rng.normal(size=4)) for p in prompts * 2]
    forward = training.forward_backward(data, "ppo")
    adam = types.AdamParams(learning_rate=2e-3 / (i + 1), weight_decay=0.01, grad_clip_norm=1.0)
    return {**training.optim_step(adam).result().metrics, **forward.result().metrics}


def weights(training) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in training._weights.items()}


def answers(sampler, prompts):
    futures = [sampler.sample(p, 2, params(max_tokens=5, seed=1)) for p in prompts]
    return [(s.tokens, list(s.logprobs)) for f in futures for s in f.result().sequences]


@pytest.fixture
def saved(service, tiny_folder, prompts):
    """A checkpoint after two steps, with the client that wrote it."""
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=3).result()
    for i in range(2):
        one_step(training, prompts, i)
    return training, Path(training.save_state("000002").result().path)


@pytest.mark.parametrize("rank", [8, 0])
def test_a_resumed_run_goes_on_to_the_bit(service, tiny_folder, prompts, rank):
    unbroken = service.create_lora_training_client(tiny_folder, rank=rank, seed=3).result()
    for i in range(2):
        one_step(unbroken, prompts, i)
    path = unbroken.save_state("000002").result().path
    expected = [one_step(unbroken, prompts, i) for i in (2, 3)]
    final = answers(unbroken.save_weights_and_get_sampling_client().result(), prompts)

    with LocalServiceClient(LocalOptions(threads=1)) as another:  # as after a restart of the program
        resumed = another.create_training_client_from_state_with_optimizer(path).result()
        assert [one_step(resumed, prompts, i) for i in (2, 3)] == expected
        assert answers(resumed.save_weights_and_get_sampling_client().result(), prompts) == final
        for name, w in weights(unbroken).items():
            assert torch.equal(weights(resumed)[name], w), name


def test_adams_step_count_stays_off_the_device(saved):
    """As in an optimizer that was never saved: on a GPU each step would wait for it."""
    for moments in read_optimizer(saved[1], "meta").values():
        assert (moments["step"].item(), moments["exp_avg"].device.type) == (2, "meta")


def test_resuming_twice_gives_a_lora_that_counts_once(service, saved, prompts):
    training, path = saved
    first = service.create_training_client_from_state_with_optimizer(str(path)).result()
    second_path = first.save_state("again").result().path
    second = service.create_training_client_from_state_with_optimizer(second_path).result()
    assert one_step(second, prompts, 2) == one_step(training, prompts, 2)


def test_without_the_optimizer_training_starts_fresh_on_the_same_weights(service, saved, prompts):
    training, path = saved
    fresh = service.create_training_client_from_state(str(path)).result()
    before = weights(fresh)
    assert all(torch.equal(before[name], w) for name, w in weights(training).items())
    fresh.forward_backward([datum(prompts[0], [400, 401], weights=1.0)], "cross_entropy")
    fresh.optim_step(types.AdamParams(learning_rate=0.01)).result()
    # Adam's first step moves every weight that has a gradient by the learning rate.
    for name, w in weights(fresh).items():
        moved = (w - before[name]).abs()
        torch.testing.assert_close(moved[moved > 0], torch.full_like(moved[moved > 0], 0.01), rtol=1e-3, atol=1e-6)


def test_a_checkpoint_before_the_first_step_resumes(service, tiny_folder, prompts):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=3).result()
    path = training.save_state("start").result().path
    resumed = service.create_training_client_from_state_with_optimizer(path).result()
    assert one_step(resumed, prompts, 0) == one_step(training, prompts, 0)


@pytest.mark.parametrize("rank", [4, 0])
def test_sampler_weights_answer_as_the_live_ones_did(service, tiny_folder, prompts, rank):
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=3).result()
    train_a_little(training, prompts, steps=1)
    path = training.save_weights_for_sampler("sampler").result().path
    live = answers(training.save_weights_and_get_sampling_client().result(), prompts)
    train_a_little(training, prompts, steps=1)
    assert answers(service.create_sampling_client(model_path=path).result(), prompts) == live
    with pytest.raises(RunError, match=r"lacks optimizer.safetensors: sampler weights cannot resume training"):
        service.create_training_client_from_state_with_optimizer(path).result()


def test_saving_does_not_disturb_training(service, saved, prompts, tiny_folder):
    training, _ = saved
    other = service.create_lora_training_client(tiny_folder, rank=4, seed=3).result()
    for i in range(2):
        one_step(other, prompts, i)
    assert one_step(other, prompts, 2) == one_step(training, prompts, 2)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_missing_checkpoint_is_named(service, tmp_path):
    with pytest.raises(RunError, match=r"nowhere is not a checkpoint of the local engine: no such folder"):
        service.create_training_client_from_state(str(tmp_path / "nowhere")).result()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"empty is not a checkpoint of the local engine: it has no state.json"):
        service.create_sampling_client(model_path=str(tmp_path / "empty")).result()


@pytest.mark.parametrize("name", ["weights", "optimizer"])
def test_a_file_cut_short_is_named(service, saved, name):
    file = saved[1] / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(RunError, match=rf"{name}.safetensors cannot be read .*name an earlier checkpoint"):
        service.create_training_client_from_state_with_optimizer(str(saved[1])).result()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "sp', "state.json cannot be read"),
        ('{"format": 1}', "state.json cannot be read .*spec"),
        ('{"format": 99, "spec": {}, "n_steps": 0}', "checkpoint format 99; this version reads 1"),
    ],
)
def test_a_damaged_state_file_is_named(service, saved, text, message):
    (saved[1] / "state.json").write_text(text)
    with pytest.raises(RunError, match=message):
        service.create_training_client_from_state(str(saved[1])).result()


def edit_base_model(checkpoint: Path, name: str) -> None:
    meta = json.loads((checkpoint / "state.json").read_text())
    meta["spec"]["base_model"] = name
    (checkpoint / "state.json").write_text(json.dumps(meta))


def test_a_checkpoint_of_another_model_is_refused(service, saved, tmp_path):
    other = save_untrained(tmp_path / "other", hidden=64, layers=1, vision_hidden=64, vision_layers=1)
    edit_base_model(saved[1], str(other))
    for create in (service.create_training_client_from_state, service.create_sampling_client):
        with pytest.raises(RunError, match=r"holds other tensors than .*other has: is the model the same\?"):
            create(str(saved[1])).result()


def test_a_checkpoint_whose_model_is_gone_says_so(service, saved, tmp_path):
    edit_base_model(saved[1], str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"gone'?: no such folder"):
        service.create_training_client_from_state(str(saved[1])).result()


def test_an_existing_name_is_not_overwritten_unless_asked(service, saved, prompts):
    training, path = saved
    before = (path / "weights.safetensors").read_bytes()
    one_step(training, prompts, 2)
    with pytest.raises(FileExistsError, match="000002 exists: choose another name, or overwrite=True"):
        training.save_state("000002").result()
    with pytest.raises(FileExistsError):
        training.save_weights_for_sampler("000002").result()
    assert (path / "weights.safetensors").read_bytes() == before
    training.save_state("000002", overwrite=True).result()
    assert (path / "weights.safetensors").read_bytes() != before
    resumed = service.create_training_client_from_state_with_optimizer(str(path)).result()
    assert one_step(resumed, prompts, 3) == one_step(training, prompts, 3)


@pytest.mark.parametrize("name", ["", ".", "../elsewhere", "/tmp/elsewhere"])
def test_a_checkpoint_stays_inside_its_folder(service, saved, name):
    with pytest.raises(ValueError, match="must be a folder name inside the checkpoint folder"):
        saved[0].save_state(name, overwrite=True)
    assert saved[1].is_dir()


def test_one_source_of_weights_is_given(service, tiny_folder):
    for arguments in ({}, {"model_path": "x", "base_model": tiny_folder}):
        with pytest.raises(ValueError, match=r"one of model_path .* and base_model"):
            service.create_sampling_client(**arguments)


def test_a_full_disk_leaves_the_earlier_checkpoints_whole(service, saved, prompts):
    training, path = saved
    files = {p.name: p.read_bytes() for p in path.iterdir()}
    one_step(training, prompts, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to write more than this to any one file, halfway through the weights.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(files["weights.safetensors"]) // 2, hard))
    try:
        futures = [training.save_state("000003"), training.save_state("000002", overwrite=True)]
        for future, name in zip(futures, ("000003", "000002"), strict=True):
            with pytest.raises(OSError, match=rf"cannot write .*{name}.* free on that disk\).*make room"):
                future.result()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in path.parent.iterdir()] == ["000002"]  # no part of a checkpoint is left
    assert {p.name: p.read_bytes() for p in path.iterdir()} == files
    resumed = service.create_training_client_from_state_with_optimizer(str(path)).result()
    assert one_step(resumed, prompts, 2)["skipped"] == 0.0
    training.save_state("000003").result()  # with room again, training goes on


def test_a_checkpoint_can_be_moved(service, saved, prompts, tmp_path):
    training, path = saved
    moved = shutil.move(str(path), tmp_path / "moved")
    resumed = service.create_training_client_from_state_with_optimizer(str(moved)).result()
    assert one_step(resumed, prompts, 2) == one_step(training, prompts, 2)
