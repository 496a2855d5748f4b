"""What makes the engine fast changes nothing: against transformers' forward, unmerged weights, and plain batches."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from engine_reference import (
    assert_same_draws,
    bfloat16_cosine,
    bfloat16_errors,
    load_reference,
    params,
    train_a_little,
)
from scipy.stats import chisquare
from tinker import types

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


@dataclass
class Answers:
    """To each prompt, of a client a few steps from its start; rows of each step; transformers' model of its weights."""

    sequences: list[list[types.SampledSequence]]
    wanted: list[types.SamplingParams]
    rows: list[int]
    reference: torch.nn.Module


def answers_of(folder, checkpoints, prompts, n=3, max_tokens=(6, 6, 6), **options) -> Answers:
    with LocalServiceClient(LocalOptions(threads=1, checkpoint_dir=str(checkpoints), **options)) as service:
        training = service.create_lora_training_client(folder, rank=4, seed=1).result()
        train_a_little(training, prompts)
        sampler = training.save_weights_and_get_sampling_client().result()
        [network] = service._networks.values()
        rows, logits = [], network.logits
        network.logits = lambda hidden: (rows.append(len(hidden)), logits(hidden))[1]
        wanted = [params(max_tokens=m, seed=i) for i, m in enumerate(max_tokens)]
        futures = [sampler.sample(p, n, w) for p, w in zip(prompts, wanted, strict=True)]
        sequences = [f.result().sequences for f in futures]
        reference = load_reference(folder, training.save_state("sampled", overwrite=True).result().path)
    return Answers(sequences, wanted, rows, reference)


def assert_same(a: Answers, b: Answers, prompts, renderer):
    for one, two, prompt, wanted in zip(a.sequences, b.sequences, prompts, a.wanted, strict=True):
        assert_same_draws(one, two, prompt, wanted, a.reference, renderer.processing)


@pytest.fixture(scope="module")
def plain(tiny_folder, prompts, tmp_path_factory) -> Answers:
    return answers_of(tiny_folder, tmp_path_factory.mktemp("plain"), prompts)


LENGTHS = (5, 40, 21)


@pytest.fixture(scope="module")
def together(tiny_folder, prompts, tmp_path_factory) -> Answers:
    """Of unequal lengths, in one batch."""
    return answers_of(tiny_folder, tmp_path_factory.mktemp("together"), prompts, n=4, max_tokens=LENGTHS)


@pytest.mark.parametrize(
    "options",
    [{"merge_lora": False}, {"fused_decoder": False}, {"max_sample_tokens": 90}, {"batch_invariant": True}],
    ids=str,
)
def test_each_option_leaves_the_answers_as_they_are(tiny_folder, prompts, renderer, plain, tmp_path, options):
    assert_same(plain, answers_of(tiny_folder, tmp_path, prompts, **options), prompts, renderer)


def test_finished_sequences_leave_and_waiting_ones_join(tiny_folder, prompts, renderer, together, tmp_path):
    # Two of the three requests fit at a time: the third joins while the longest is still running.
    split = answers_of(tiny_folder, tmp_path, prompts, n=4, max_tokens=LENGTHS, max_sample_tokens=400)
    assert_same(together, split, prompts, renderer)
    assert max(split.rows) == 8
    assert 4 in split.rows
    assert len(split.rows) < 2 * max(LENGTHS)  # not one request after the other


def test_a_request_larger_than_the_caches_runs_in_parts(tiny_folder, prompts, renderer, tmp_path):
    one = {"n": 12, "max_tokens": (5,)}
    whole = answers_of(tiny_folder, tmp_path, prompts[:1], **one)
    parts = answers_of(tiny_folder, tmp_path, prompts[:1], **one, max_sample_tokens=60)
    assert_same(whole, parts, prompts[:1], renderer)
    assert max(parts.rows) < 12


def test_the_decoding_step_is_compiled_for_all_shapes(one_layer_folder, prompts, renderer, tmp_path, monkeypatch):
    """Answers end one by one and others join: no new program for each new shape of the batch."""
    together = answers_of(one_layer_folder, tmp_path, prompts, n=4, max_tokens=LENGTHS)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    options = {"max_sample_tokens": 200, "compile": True}
    compiled = answers_of(one_layer_folder, tmp_path, prompts, n=4, max_tokens=LENGTHS, **options)
    assert_same(together, compiled, prompts, renderer)
    assert len(set(compiled.rows)) >= 3
    assert 1 <= len(graphs) <= 4  # with and without prompts of different lengths; in torch 2.8 one more


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
