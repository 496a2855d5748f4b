"""What makes the engine fast changes nothing: against transformers' forward, unmerged weights, and plain batches."""

from functools import partial

import numpy as np
import pytest
import torch
from engine_reference import bfloat16_cosine, bfloat16_errors, params, train_a_little
from scipy.stats import chisquare

from geospot.engine.local.drawing import draw
from geospot.engine.local.options import LocalOptions
from geospot.engine.local.service import LocalServiceClient


@pytest.fixture(scope="module")
def prompts(renderer, pictures):
    return [
        renderer.prompt([pictures[0]], "Where?"),
        renderer.prompt([pictures[3], pictures[4]], "Where were these two taken?"),
        renderer.prompt([], "Name a city."),
    ]


def answers_of(folder, prompts, n=3, max_tokens=(6, 6, 6), **options):
    """Sequences of a client a few steps from its start, and the rows of each step of the batch."""
    with LocalServiceClient(LocalOptions(threads=1, **options)) as service:
        training = service.create_lora_training_client(folder, rank=4, seed=1).result()
        train_a_little(training, prompts)
        sampler = training.save_weights_and_get_sampling_client().result()
        [network] = service._networks.values()
        rows, logits = [], network.logits
        network.logits = lambda hidden: (rows.append(len(hidden)), logits(hidden))[1]
        futures = [
            sampler.sample(p, n, params(max_tokens=m, seed=i))
            for i, (p, m) in enumerate(zip(prompts, max_tokens, strict=True))
        ]
        return [s for f in futures for s in f.result().sequences], rows


def assert_same(a, b, atol=1e-4):
    for one, two in zip(a, b, strict=True):
        assert list(one.tokens) == list(two.tokens)
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=atol)


@pytest.mark.parametrize("options", [{"merge_lora": False}, {"fused_decoder": False}, {"max_sample_tokens": 90}])
def test_each_shortcut_leaves_the_answers_as_they_are(tiny_folder, prompts, options):
    assert_same(answers_of(tiny_folder, prompts)[0], answers_of(tiny_folder, prompts, **options)[0])


def test_finished_sequences_leave_and_waiting_ones_join(tiny_folder, prompts):
    lengths = (3, 12, 9)
    together, _ = answers_of(tiny_folder, prompts, n=4, max_tokens=lengths)
    # Two of the three requests fit at a time: the third joins while the longest is still running.
    split, rows = answers_of(tiny_folder, prompts, n=4, max_tokens=lengths, max_sample_tokens=110)
    assert_same(together, split)
    assert max(rows) == 8
    assert 4 in rows
    assert len(rows) < 2 * max(lengths)  # not one request after the other


def test_a_request_larger_than_the_caches_runs_in_parts(tiny_folder, prompts):
    whole, _ = answers_of(tiny_folder, prompts[:1], n=12, max_tokens=(5,))
    parts, rows = answers_of(tiny_folder, prompts[:1], n=12, max_tokens=(5,), max_sample_tokens=60)
    assert_same(whole, parts)
    assert max(rows) < 12


def test_the_decoding_step_is_compiled_for_all_shapes(tiny_folder, prompts, monkeypatch):
    """Answers end one by one and others join: no new program for each new shape of the batch."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    lengths = (5, 40, 21)
    compiled, rows = answers_of(tiny_folder, prompts, n=4, max_tokens=lengths, max_sample_tokens=200, compile=True)
    assert_same(answers_of(tiny_folder, prompts, n=4, max_tokens=lengths)[0], compiled)
    assert len(set(rows)) >= 3
    assert 1 <= len(graphs) <= 3  # with and without prompts of different lengths


def test_bfloat16_is_no_further_off_than_transformers_own(tiny_folder, prompts, renderer):
    trainer, sampler, own = bfloat16_errors(tiny_folder, renderer.processing, prompts)
    assert trainer < 1.5 * own + 0.01
    assert sampler < 1.5 * own + 0.01
    assert own < 0.2  # of logits with a spread of about 8


def test_bfloat16_gradients_point_where_those_of_float32_do(tiny_folder, prompts):
    assert bfloat16_cosine(tiny_folder, prompts) > 0.98


@pytest.mark.parametrize("size", [50, 5000])
def test_tokens_are_drawn_in_proportion(size):
    rng = np.random.default_rng(0)
    weights = rng.gamma(0.3, size=size)
    weights[rng.random(size) < 0.5] = 0
    n = 40_000
    drawn = draw(torch.from_numpy(weights.astype(np.float32)).expand(n, -1), torch.from_numpy(rng.random(n)))[0].numpy()
    assert (weights[drawn] > 0).all()
    expected = weights / weights.sum() * n
    common = expected > 5
    counts = np.append(np.bincount(drawn, minlength=size)[common], (~common[drawn]).sum())
    wanted = np.append(expected[common], expected[~common].sum())
    assert chisquare(counts[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3


@pytest.mark.parametrize("size", [50, 5000])
def test_the_ends_of_the_distribution_are_drawn_from(size):
    weights = torch.zeros(3, size)
    weights[0, [7, size - 9]] = 1.0
    weights[1, 3] = 1e-30
    weights[2, size - 1] = 1.0
    for u, want in ((0.0, [7, 3, size - 1]), (np.nextafter(1, 0), [size - 9, 3, size - 1])):
        assert draw(weights, torch.full((3,), u, dtype=torch.float64))[0].tolist() == want
