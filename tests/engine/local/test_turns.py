"""A server's engine takes turns: what is short or another client's does not wait for what is long."""

import threading

import numpy as np
import pytest
from engine_reference import datum, params
from tinker import types

from geospot.errors import Cancelled

LONG = 1500


@pytest.fixture
def engine(make_service, tiny_folder, tmp_path):
    service = make_service(takes_turns=True, checkpoint_dir=str(tmp_path))
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    base = service.create_sampling_client(base_model=tiny_folder).result()
    return service, training, base


@pytest.fixture
def prompts(renderer, pictures):
    return [renderer.prompt([picture], "Where?") for picture in pictures[:2]]


def order(**futures) -> list[str]:
    """The names of futures in the order in which they are done."""
    done: list[str] = []
    for name, future in futures.items():
        future.future().add_done_callback(lambda _, name=name: done.append(name))
    for future in futures.values():
        future.result(timeout=600)
    return done


def test_short_requests_and_training_do_not_wait_for_a_long_one(engine, prompts):
    _, training, base = engine
    own = training.save_weights_and_get_sampling_client().result()
    long = base.sample(prompts[0], 8, params(max_tokens=LONG))
    long.future()
    short = base.sample(prompts[1], 1, params(max_tokens=4))
    other = own.sample(prompts[1], 2, params(max_tokens=4))
    step = training.forward_backward([datum(p, [400, 401], weights=1.0) for p in prompts], "cross_entropy")
    assert order(long=long, short=short, other=other, step=step)[-1] == "long"
    assert len(long.result().sequences[0].tokens) == LONG


def test_answers_are_the_same_whoever_joins(engine, make_service, tiny_folder, prompts):
    _, training, base = engine
    alone = make_service().create_sampling_client(base_model=tiny_folder).result()
    wanted = [params(max_tokens=n, seed=n, temperature=0.0) for n in (60, 9, 30)]
    asked = [alone.sample(prompts[n % 2], 3, p).result() for n, p in enumerate(wanted)]
    futures = []
    for n, p in enumerate(wanted):
        futures.append(base.sample(prompts[n % 2], 3, p))
        futures[-1].future()
        training.forward_backward([datum(prompts[0], [400, 401], weights=1.0)], "cross_entropy").result()
    for future, answer in zip(futures, asked, strict=True):
        for a, b in zip(future.result().sequences, answer.sequences, strict=True):
            assert a.tokens == b.tokens
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_who_listens_hears_each_token_when_it_is_drawn(engine, prompts):
    _, _, base = engine
    heard: dict[int, list[list[int]]] = {0: [], 1: []}
    asked = params(max_tokens=12, seed=1, stop=[])
    answer = base.sample(prompts[0], 2, asked, lambda member, tokens: heard[member].append(tokens)).result()
    for member, sequence in enumerate(answer.sequences):
        assert heard[member] == [list(sequence.tokens[:n]) for n in range(1, 12)]
    assert [s.tokens for s in answer.sequences] == [
        s.tokens for s in base.sample(prompts[0], 2, asked).result().sequences
    ]


def test_a_long_training_pass_lets_sampling_in_and_has_the_same_gradient(make_service, tiny_folder, prompts):
    data = [datum(p, np.arange(300, 300 + n), weights=1.0) for p in prompts for n in (30, 31, 32, 33)]
    seen, gradients = [], []
    for takes_turns in (False, True):
        service = make_service(takes_turns=takes_turns, max_batch_tokens=40)
        training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
        base = service.create_sampling_client(base_model=tiny_folder).result()
        training.optim_step(types.AdamParams(learning_rate=1e-3)).result()
        step = training.forward_backward(data, "cross_entropy")
        short = base.sample(prompts[0], 1, params(max_tokens=4))
        short.future().add_done_callback(lambda _, s=step: seen.append(s.is_done))
        short.result(), step.result()
        gradients.append({name: w.grad for name, w in training._weights.items() if w.grad is not None})
    assert seen == [True, False], "the sample came in between"
    for name, value in gradients[0].items():
        np.testing.assert_allclose(value, gradients[1][name], atol=1e-6 * float(value.abs().max()) + 1e-8)


def test_what_is_cancelled_frees_the_engine(engine, prompts):
    service, training, base = engine
    long = base.sample(prompts[0], 8, params(max_tokens=30_000))
    begun = threading.Event()
    long.future()
    training.forward_backward([datum(prompts[0], [400, 401], weights=1.0)], "cross_entropy").future().add_done_callback(
        lambda _: begun.set()
    )
    begun.wait()
    waits = training.optim_step(types.AdamParams(learning_rate=1e-3))
    service.turns.cancel(long)
    with pytest.raises(Cancelled):
        long.result(timeout=600)
    waits.result(timeout=600)
    assert service.turns.depth == {"operations": 0, "samples": 0, "sampled": 0}
    assert base.sample(prompts[0], 1, params(max_tokens=4)).result(timeout=600).sequences


def test_one_bad_prompt_fails_alone(engine, prompts):
    _, _, base = engine
    bad = base.sample(types.ModelInput.from_ints([10**6]), 1, params(max_tokens=4))
    good = base.sample(prompts[0], 1, params(max_tokens=4))
    assert good.result().sequences
    with pytest.raises(ValueError, match="outside the vocabulary"):
        bad.result()
