"""Which parts of a model learn: adapters on each, weights of each, a projector behind a frozen tower, stages."""

import numpy as np
import pytest
import torch
import vlm_families
from engine_reference import (
    datum,
    gather,
    load_reference,
    logprobs_of,
    params,
    plain_gradients,
    reference_logprobs,
    train_a_little,
)
from made import jpeg
from tinker import types
from transformers import AutoModelForImageTextToText

from geospot.engine.local.options import ALL, PARTS
from geospot.engine.local.parts import part_of
from geospot.engine.weights import weights_info, write_adapter, write_merged
from geospot.errors import ModelError
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer


@pytest.fixture(scope="module")
def model(request, tiny_folder, tmp_path_factory):
    """Folder, processing and prompts of a model of each family."""
    folder = tiny_folder
    if request.param in vlm_families.FAMILIES:
        folder = vlm_families.saved(tmp_path_factory, request.param)
    renderer = Renderer(load_processing(folder))
    prompts = [
        renderer.prompt([jpeg(0)], "Where?"),
        renderer.prompt([jpeg(1, 112, 84), jpeg(2, 56, 112)], "Where were these two taken?"),
    ]
    return folder, renderer.processing, prompts


def learned(training) -> set[str]:
    return {part_of(name) for name, w in training._weights.items() if w.grad is not None and w.grad.any()}


EVERYWHERE = (4, tuple(part for part in PARTS if part != "head"))
FROZEN_TOWER = (0, tuple(part for part in ALL if part != "vision"))
CASES = {
    "qwen2_5_vl": [EVERYWHERE, FROZEN_TOWER, (0, ("projector",)), (0, ("attention",)), (4, ("vision", "mlp"))],
    "qwen3_vl": [EVERYWHERE, FROZEN_TOWER],
    "llava": [EVERYWHERE, FROZEN_TOWER],
    "gemma3": [FROZEN_TOWER],  # its projector is no linear layer
}


@pytest.mark.parametrize(
    ("model", "rank", "parts"),
    [
        pytest.param(family, rank, parts, id=f"{family}-{rank}-{'+'.join(parts)}")
        for family, cases in CASES.items()
        for rank, parts in cases
    ],
    indirect=["model"],
)
def test_gradients_and_logprobs_are_those_of_transformers(model, make_service, tmp_path, rank, parts):
    folder, processing, prompts = model
    service = make_service(checkpoint_dir=str(tmp_path))
    training = service.create_lora_training_client(folder, rank=rank, seed=1, parts=parts).result()
    train_a_little(training, prompts, steps=2)
    rng = np.random.default_rng(0)
    answers = [(p, rng.integers(300, 900, 3), rng.normal(-7, 1, 3), rng.normal(size=3)) for p in prompts]
    data = [datum(p, t, logprobs=q, advantages=a) for p, t, q, a in answers]
    training.forward_backward(data, "importance_sampling").result()
    expected = plain_gradients(folder, processing, training, answers)
    got = {name: w.grad for name, w in training._weights.items() if w.grad is not None}
    assert {part_of(name) for name in got} <= {*parts}
    for name, value in expected.items():
        scale = value.abs().max().item()
        found = got.get(name, torch.zeros_like(value))
        torch.testing.assert_close(found, value, rtol=0, atol=2e-5 * scale + 1e-6, msg=lambda m, n=name: f"{n}: {m}")
    sampler = training.save_weights_and_get_sampling_client().result()
    sampled = sampler.sample(prompts[1], 2, params(max_tokens=4)).result().sequences
    data = [datum(prompts[1], s.tokens, logprobs=s.logprobs, advantages=1.0) for s in sampled]
    trainer = training.forward(data, "ppo").result()
    reference = load_reference(folder, training.save_state("now").result().path)
    for i, s in enumerate(sampled):
        np.testing.assert_allclose(logprobs_of(trainer, i, len(s.tokens)), s.logprobs, atol=1e-4)
        with torch.no_grad():
            wanted = gather(reference_logprobs(reference, processing, prompts[1], s.tokens), s.tokens)
        np.testing.assert_allclose(s.logprobs, wanted, atol=1e-4)


@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl", "llava"], indirect=True)
def test_a_frozen_tower_sees_a_picture_once_while_the_projector_learns(model, make_service):
    folder, _, prompts = model
    service = make_service()
    training = service.create_lora_training_client(folder, rank=0, parts=("projector",)).result()
    [network] = service._networks.values()
    answer = [400, 401]
    losses = []
    for _ in range(3):
        losses.append(training.forward_backward([datum(p, answer, weights=1.0) for p in prompts], "cross_entropy"))
        training.optim_step(types.AdamParams(learning_rate=1e-3)).result()
    assert len({loss.result().metrics["loss:sum"] for loss in losses}) == 3, "features did not follow the projector"
    assert network.pictures.encoded == 3
    assert network.pictures.tower.is_known
    # Bounded: with room for one picture alone the tower sees them again, and the numbers are the same.
    tight = make_service(picture_cache_bytes=1)
    other = tight.create_lora_training_client(folder, rank=0, parts=("projector",)).result()
    for loss in losses:
        again = other.forward_backward([datum(p, answer, weights=1.0) for p in prompts], "cross_entropy").result()
        other.optim_step(types.AdamParams(learning_rate=1e-3)).result()
        assert again.metrics["loss:sum"] == pytest.approx(loss.result().metrics["loss:sum"], rel=1e-5)
    assert next(iter(tight._networks.values())).pictures.encoded > 3


def test_a_tower_of_another_build_is_run_whole(tiny_folder, renderer, pictures, make_service, monkeypatch):
    """What its layers hand on is not what the projector gets: seen by the numbers, before any is used."""
    prompts = [renderer.prompt([picture], "Where?") for picture in pictures[:2]]
    data = [datum(p, [400, 401], weights=1.0) for p in prompts]

    def loss(service) -> float:
        training = service.create_lora_training_client(tiny_folder, rank=0, parts=("projector",)).result()
        return training.forward(data, "cross_entropy").result().metrics["loss:sum"]

    wanted = loss(make_service())
    from geospot.engine.local import tower

    monkeypatch.setattr(tower, "_hand_on", lambda *_a, **_k: None)
    monkeypatch.setattr(tower, "projectors", lambda model: [model.model.visual.patch_embed])
    assert loss(make_service()) == pytest.approx(wanted, rel=1e-6)


# -- stages -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompt(renderer, pictures):
    return renderer.prompt([pictures[0]], "Where?")


@pytest.mark.parametrize("rank", [4, 0])
def test_a_projector_trained_before_stays_as_it_is_beside_what_learns_now(
    make_service, tiny_folder, prompt, tmp_path, rank
):
    service = make_service(checkpoint_dir=str(tmp_path))
    first = service.create_lora_training_client(tiny_folder, rank=rank, seed=1, parts=("projector",)).result()
    train_a_little(first, [prompt])
    path = first.save_state("first").result().path
    trained = {name: w.detach().clone() for name, w in first._weights.items()}
    second = service.create_training_client_from_state(path, parts=("attention", "mlp")).result()
    start = {name: w.detach().clone() for name, w in second._weights.items()}
    before = second.forward([datum(prompt, [400], weights=1.0)], "cross_entropy").result().metrics["loss:sum"]
    assert before == pytest.approx(
        first.forward([datum(prompt, [400], weights=1.0)], "cross_entropy").result().metrics["loss:sum"], rel=1e-5
    )
    train_a_little(second, [prompt])
    moved = {part_of(name) for name, w in second._weights.items() if not torch.equal(w, start[name])}
    assert moved == {"attention", "mlp"}
    assert all(torch.equal(second._weights[name], w) for name, w in trained.items())
    # Resumed, it goes on like that, to the bit.
    saved = second.save_state("second").result().path
    again = service.create_training_client_from_state_with_optimizer(saved).result()
    for training in (second, again):
        train_a_little(training, [prompt], steps=1)
    assert all(torch.equal(w, again._weights[name]) for name, w in second._weights.items())
    # All learn together from there on where nothing else is said of the first stage's checkpoint.
    beside = service.create_training_client_from_state(path, parts=("attention", "projector")).result()
    beside.forward_backward([datum(prompt, [400, 401], weights=1.0)], "cross_entropy").result()
    assert learned(beside) == {"attention", "projector"}


def test_what_is_exported_has_every_part(make_service, tiny_folder, renderer, prompt, tmp_path):
    """Tied embeddings: the output layer's adapter must not reach the input."""
    from peft import PeftModel

    service = make_service(checkpoint_dir=str(tmp_path))
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1, parts=PARTS).result()
    train_a_little(training, [prompt], learning_rate=1e-2)
    path = training.save_state("all").result().path
    info = weights_info(path)
    assert (info.train_attn, info.train_mlp, info.train_unembed, info.lora_rank) == (True, True, True, 4)
    answer = [400, 500, 600]
    ours = logprobs_of(training.forward([datum(prompt, answer, weights=1.0)], "cross_entropy").result(), 0, 3)
    adapter = write_adapter(path, tmp_path / "adapter")
    merged = write_merged(adapter, tiny_folder, tmp_path / "merged")
    base = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    with torch.no_grad():
        untrained = gather(reference_logprobs(base, renderer.processing, prompt, answer), answer)
        assert np.abs(untrained.numpy() - ours).max() > 0.05, "nothing was learned"
        for model in (PeftModel.from_pretrained(base, str(adapter)), load_reference(str(merged))):
            theirs = gather(reference_logprobs(model.eval(), renderer.processing, prompt, answer), answer)
            np.testing.assert_allclose(theirs, ours, atol=2e-4)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_parts_that_a_model_lacks_are_refused(make_service, tiny_folder, tmp_path_factory):
    service = make_service()
    with pytest.raises(ModelError, match="output layer of this qwen2_5_vl model is its input embedding"):
        service.create_lora_training_client(tiny_folder, rank=0, parts=("head",)).result()
    gemma = vlm_families.saved(tmp_path_factory, "gemma3")
    with pytest.raises(ModelError, match="lora_targets=projector: a gemma3 model has no known linear layers there"):
        service.create_lora_training_client(gemma, rank=4, parts=("projector",)).result()
    with pytest.raises(ValueError, match="part 'visoin'"):
        service.create_lora_training_client(tiny_folder, rank=4, parts=("visoin",))
