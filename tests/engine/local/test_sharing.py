"""What is in memory once: base weights, whoever uses them, and the copies that sampling and training merge."""

import weakref

import pytest
import torch
from engine_reference import assert_same_draws, datum, load_reference, params, train_a_little


@pytest.fixture(scope="module")
def prompts(renderer, pictures):
    return [renderer.prompt([pictures[0]], "Where?"), renderer.prompt([pictures[2]], "Where was this?")]


def held_bytes(service) -> int:
    """Of all parameters of all loaded models but the adapters, each storage once."""
    storages = {}
    for network in service._networks.values():
        for name, p in network.model.named_parameters():
            if "lora_" not in name:
                storages[p.untyped_storage().data_ptr()] = p.untyped_storage().nbytes()
    return sum(storages.values())


def answers(sampler, prompts):
    """Asked together, in one batch: tokens and log-probabilities of each answer."""
    return [(list(s.tokens), list(s.logprobs)) for group in groups(sampler, prompts) for s in group]


def groups(sampler, prompts):
    """The same, as sequences of each prompt."""
    futures = [sampler.sample(p, 3, params(max_tokens=5, seed=i)) for i, p in enumerate(prompts)]
    return [f.result().sequences for f in futures]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_of_different_ranks_and_the_base_share_one_copy(make_service, tiny_folder, prompts, dtype):
    service = make_service(dtype=dtype)
    base = service.create_sampling_client(base_model=tiny_folder).result()  # as `geospot serve` starts
    before, alone = answers(base, prompts), held_bytes(service)
    for rank in (2, 4):
        training = service.create_lora_training_client(tiny_folder, rank=rank, seed=0).result()
        train_a_little(training, prompts, steps=1)
        trained = training.save_weights_and_get_sampling_client().result()
        assert answers(trained, prompts) != before
    assert held_bytes(service) == alone
    assert answers(base, prompts) == before
    if dtype == "bfloat16":  # weights that are trained themselves are in float32: a copy of their own
        service.create_lora_training_client(tiny_folder, rank=0).result()
        assert held_bytes(service) == 3 * alone


def test_training_all_weights_starts_from_the_copy_that_is_there_and_leaves_it(
    make_service, tiny_folder, prompts, renderer
):
    service = make_service()
    base = service.create_sampling_client(base_model=tiny_folder).result()
    before, alone = answers(base, prompts), held_bytes(service)
    training = service.create_lora_training_client(tiny_folder, rank=0).result()
    assert held_bytes(service) == alone
    train_a_little(training, prompts, steps=1)
    assert held_bytes(service) == 2 * alone  # and those in training
    assert answers(training.save_weights_and_get_sampling_client().result(), prompts) != before
    assert answers(base, prompts) == before
    adapter = service.create_lora_training_client(tiny_folder, rank=4, seed=0).result()
    fresh = groups(adapter.save_weights_and_get_sampling_client().result(), prompts)
    reference = load_reference(tiny_folder)
    for i, (prompt, one, two) in enumerate(zip(prompts, fresh, groups(base, prompts), strict=True)):
        assert_same_draws(one, two, prompt, params(max_tokens=5, seed=i), reference, renderer.processing)


def test_a_picture_is_encoded_once_for_adapters_of_all_ranks(make_service, tiny_folder, prompts):
    service = make_service()
    for rank in (2, 4):
        training = service.create_lora_training_client(tiny_folder, rank=rank, seed=0).result()
        answers(training.save_weights_and_get_sampling_client().result(), prompts)
    caches = {id(n.pictures): n.pictures for n in service._networks.values()}
    assert sum(pictures.encoded for pictures in caches.values()) == len(prompts)


@pytest.mark.parametrize("rank", [4, 0])
def test_what_was_merged_for_sampling_is_let_go_for_training(make_service, tiny_folder, prompts, rank):
    """And sampling in between training passes, from the present and from earlier weights, gives what it gave."""
    service = make_service()
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
    train_a_little(training, prompts, steps=1)
    old = training.save_weights_and_get_sampling_client().result()
    want_old, network = answers(old, prompts), service.network(training._spec)
    merged = weakref.ref(network._sampling_weights[0].gate_up.matrix)
    data = [datum(p, [400, 401], weights=1.0) for p in prompts]
    training.forward(data, "cross_entropy").result()
    assert merged() is None
    train_a_little(training, prompts, steps=1)
    new = training.save_weights_and_get_sampling_client().result()
    want_new = answers(new, prompts)
    assert want_new != want_old
    for _ in range(2):
        loss = training.forward(data, "cross_entropy")
        assert (answers(old, prompts), answers(new, prompts)) == (want_old, want_new)
        assert training.forward(data, "cross_entropy").result().metrics == loss.result().metrics


def test_one_of_several_models_holds_merged_weights(make_service, tiny_folder, prompts):
    service = make_service()
    samplers = [
        service.create_lora_training_client(tiny_folder, rank=r, seed=1).result().save_weights_and_get_sampling_client()
        for r in (2, 4)
    ]
    for sampler in samplers:
        answers(sampler.result(), prompts)
    assert sum(bool(n._sampling_weights) for n in service._networks.values()) == 1


def test_gradients_of_several_calls_add_up_in_place(make_service, tiny_folder, prompts):
    """A third copy of all gradients would be the most that a run without adapter holds."""
    training = make_service().create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    data = [datum(p, [400, 401], weights=1.0) for p in prompts]
    training.forward_backward(data, "cross_entropy").result()
    first = {name: (w.grad.data_ptr(), w.grad.clone()) for name, w in training._weights.items()}
    training.forward_backward(data, "cross_entropy").result()
    for name, (address, once) in first.items():
        assert training._weights[name].grad.data_ptr() == address
        torch.testing.assert_close(training._weights[name].grad, 2 * once)
