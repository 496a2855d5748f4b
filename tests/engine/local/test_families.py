"""The engine against transformers' plain forward for other families of models: logprobs, gradients, samples."""

import numpy as np
import pytest
import torch
import vlm_families
from engine_reference import (
    bfloat16_cosine,
    bfloat16_errors,
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

from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer


@pytest.fixture(scope="module", params=list(vlm_families.FAMILIES))
def family(request, tmp_path_factory):
    """Name, folder and prompts: one picture, two of different sizes, none."""
    folder = vlm_families.saved(tmp_path_factory, request.param)
    renderer = Renderer(load_processing(folder))
    prompts = [
        renderer.prompt([jpeg(0)], "Where?"),
        renderer.prompt([jpeg(1, 112, 84), jpeg(2, 56, 112)], "Where were these two taken?"),
        renderer.prompt([], "Name a city."),
    ]
    return request.param, folder, renderer.processing, prompts


@pytest.fixture(scope="module")
def trained(family, tmp_path_factory):
    """A service and a client some steps away from its start."""
    _, folder, _, prompts = family
    options = LocalOptions(threads=1, checkpoint_dir=str(tmp_path_factory.mktemp("checkpoints")))
    with LocalServiceClient(options) as service:
        training = service.create_lora_training_client(folder, rank=4, seed=1).result()
        train_a_little(training, prompts)
        yield service, training


def test_which_decoders_are_run_here(family, trained):
    [network] = trained[0]._networks.values()
    assert (network.decoder is not None) == (family[0] != "gemma3")


def test_sampler_and_trainer_agree_with_transformers(family, trained):
    _, folder, processing, prompts = family
    _, training = trained
    sampler = training.save_weights_and_get_sampling_client().result()
    futures = [sampler.sample(p, 3, params(max_tokens=5 + i, seed=i)) for i, p in enumerate(prompts)]
    answers = [(p, s) for p, f in zip(prompts, futures, strict=True) for s in f.result().sequences]
    data = [datum(p, s.tokens, logprobs=s.logprobs, advantages=1.0) for p, s in answers]
    trainer = training.forward(data, "ppo").result()
    reference = load_reference(folder, training.save_state("agree", overwrite=True).result().path)
    for i, (prompt, sequence) in enumerate(answers):
        with torch.no_grad():
            expected = gather(reference_logprobs(reference, processing, prompt, sequence.tokens), sequence.tokens)
        np.testing.assert_allclose(sequence.logprobs, expected, atol=1e-4)
        np.testing.assert_allclose(logprobs_of(trainer, i, len(sequence.tokens)), expected, atol=1e-4)


def test_gradients_are_those_of_transformers(family, trained):
    _, folder, processing, prompts = family
    _, training = trained
    rng = np.random.default_rng(0)
    answers = [
        (p, rng.integers(300, 900, n), rng.normal(-7, 1, n), rng.normal(size=n)) for p in prompts for n in (4, 2)
    ]
    training.forward_backward(
        [datum(p, t, logprobs=q, advantages=a) for p, t, q, a in answers], "importance_sampling"
    ).result()
    got = {name: w.grad for name, w in training._weights.items() if w.grad is not None}
    expected = plain_gradients(folder, processing, training, answers)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(got[name], value, rtol=0, atol=1e-4 * scale + 1e-7)


def test_bfloat16_is_no_further_off_than_transformers_own(family):
    _, folder, processing, prompts = family
    trainer, sampler, own = bfloat16_errors(folder, processing, prompts)
    assert trainer < 1.5 * own + 0.01
    assert sampler < 1.5 * own + 0.01


def test_bfloat16_gradients_point_where_those_of_float32_do(family):
    _, folder, _, prompts = family
    assert bfloat16_cosine(folder, prompts) > 0.98
