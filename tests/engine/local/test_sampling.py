"""What the local engine samples: the distribution, its log-probabilities, seeds, stops, and what is computed once."""

import numpy as np
import pytest
import torch
from engine_reference import (
    assert_same_draws,
    datum,
    forward_inputs,
    gather,
    load_reference,
    logprobs_of,
    params,
    reference_logprobs,
    train_a_little,
)
from made import jpeg
from scipy.stats import chisquare
from tinker import types

from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    options = LocalOptions(checkpoint_dir=str(tmp_path_factory.mktemp("checkpoints")), threads=1)
    with LocalServiceClient(options) as service:
        yield service


@pytest.fixture(scope="module")
def prompts(renderer, pictures):
    """Different lengths, pictures of different sizes, two pictures, none."""
    return [
        renderer.prompt([pictures[0]], "Where?"),
        renderer.prompt([pictures[2]], "Where was this picture taken, and how do you know?"),
        renderer.prompt([pictures[3], pictures[4]], "Both?"),
        renderer.prompt([], "Name a city."),
    ]


@pytest.fixture(scope="module", params=[8, 0], ids=["rank8", "rank0"])
def trained(request, engine, tiny_folder, prompts):
    """A training client some steps away from the base model, a sampler of it, and transformers' model with both's
    weights."""
    training = engine.create_lora_training_client(tiny_folder, rank=request.param, seed=1).result()
    train_a_little(training, prompts)
    path = training.save_state(f"rank{request.param}").result().path
    return training, training.save_weights_and_get_sampling_client().result(), load_reference(tiny_folder, path)


@pytest.fixture(scope="module")
def sampler(engine, tiny_folder, prompts):
    """A sampler whose next token is one of a few: made by training on eight different answers to one prompt."""
    training = engine.create_lora_training_client(tiny_folder, rank=0).result()
    data = [datum(prompts[0], [500 + i, 600 + i], weights=1.0) for i in range(8)]
    for _ in range(12):
        training.forward_backward(data, "cross_entropy")
        training.optim_step(types.AdamParams(learning_rate=3e-3)).result()
    sampler = training.save_weights_and_get_sampling_client().result()
    sampler.reference = load_reference(tiny_folder, training.save_state("peaked").result().path)
    return sampler


def next_token_probabilities(sampler, processing, prompt, temperature=1.0) -> np.ndarray:
    with torch.no_grad():
        logprobs = reference_logprobs(sampler.reference, processing, prompt, [0])[0]
    return (logprobs.double() / temperature).softmax(-1).numpy()


# -- log-probabilities ------------------------------------------------------------------------------------------------


def test_sampler_trainer_and_transformers_agree_on_every_logprob(trained, prompts, renderer):
    training, sampler, reference = trained
    futures = [sampler.sample(p, 3, params(max_tokens=4 + i, seed=i)) for i, p in enumerate(prompts)]
    answers = [(p, s) for p, f in zip(prompts, futures, strict=True) for s in f.result().sequences]
    data = [datum(p, s.tokens, logprobs=s.logprobs, advantages=1.0) for p, s in answers]
    trainer = training.forward(data, "ppo").result()
    for i, (prompt, sequence) in enumerate(answers):
        with torch.no_grad():
            expected = gather(
                reference_logprobs(reference, renderer.processing, prompt, sequence.tokens), sequence.tokens
            )
        np.testing.assert_allclose(sequence.logprobs, expected, atol=1e-4)
        np.testing.assert_allclose(logprobs_of(trainer, i, len(sequence.tokens)), sequence.logprobs, atol=1e-4)


def test_a_model_that_wants_to_write_image_tokens_never_does(tiny_folder, prompts, renderer, tmp_path, service):
    wanted = load_reference(tiny_folder)
    pad = renderer.processing.image_token_id
    with torch.no_grad():
        out = wanted(**forward_inputs(renderer.processing, prompts[0]), output_hidden_states=True, use_cache=False)
        towards = out.hidden_states[-1][0, -1]
        # The embeddings of image tokens are replaced by features, so with tied weights only the output changes.
        wanted.lm_head.weight[pad] = 30 * towards / towards.norm()
        unbanned = wanted(**forward_inputs(renderer.processing, prompts[0])).logits[0, -1].softmax(-1)
    assert unbanned[pad] > 0.99
    folder = tmp_path / "model"
    wanted.save_pretrained(folder)
    renderer.tokenizer.save_pretrained(folder)
    renderer.processing.image_processor.save_pretrained(folder)

    training = service.create_lora_training_client(str(folder), rank=8, seed=0).result()
    sampler = training.save_weights_and_get_sampling_client().result()
    for temperature in (0.0, 1.0):
        sequences = sampler.sample(prompts[0], 16, params(max_tokens=6, temperature=temperature)).result().sequences
        assert not {t for s in sequences for t in s.tokens} & set(renderer.processing.banned_token_ids)
        data = [datum(prompts[0], s.tokens, logprobs=s.logprobs, advantages=1.0) for s in sequences]
        trainer = training.forward_backward(data, "ppo").result()
        for i, s in enumerate(sequences):
            np.testing.assert_allclose(np.exp(logprobs_of(trainer, i, 6) - s.logprobs), 1.0, atol=1e-4)


def test_compute_logprobs_are_those_of_transformers(trained, prompts, renderer):
    _, sampler, reference = trained
    futures = [sampler.compute_logprobs(p) for p in prompts]
    banned = renderer.processing.banned_token_ids
    for prompt, future in zip(prompts, futures, strict=True):
        got, inputs = future.result(), forward_inputs(renderer.processing, prompt)
        ids = inputs["input_ids"][0]
        with torch.no_grad():
            logits = reference(**inputs, use_cache=False).logits[0]
        logits[:, list(banned)] = -torch.inf
        expected = gather(logits[:-1].log_softmax(-1), ids[1:])
        assert got[0] is None
        for token, have, want in zip(ids[1:].tolist(), got[1:], expected.tolist(), strict=True):
            assert (have is None) == (token in banned)
            assert have is None or have == pytest.approx(want, abs=1e-4)


def test_compute_logprobs_of_a_single_token(trained):
    assert trained[1].compute_logprobs(types.ModelInput.from_ints([300])).result() == [None]


# -- the distribution -------------------------------------------------------------------------------------------------


def test_temperature_zero_takes_the_likeliest_token_each_time(sampler, prompts, renderer):
    [sequence] = sampler.sample(prompts[0], 1, params(max_tokens=6, temperature=0.0)).result().sequences
    answer: list[int] = []
    with torch.no_grad():
        for _ in range(6):
            logprobs = reference_logprobs(sampler.reference, renderer.processing, prompts[0], [*answer, 0])
            answer.append(int(logprobs[-1].argmax()))
    assert list(sequence.tokens) == answer


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_many_samples_follow_the_softmax(sampler, prompts, renderer, temperature):
    n = 4000
    drawn = sampler.sample(prompts[0], n, params(max_tokens=1, seed=3, temperature=temperature)).result()
    p = next_token_probabilities(sampler, renderer.processing, prompts[0], temperature)
    counts = np.bincount([s.tokens[0] for s in drawn.sequences], minlength=len(p))
    often = n * p >= 5
    assert often.sum() >= 6
    observed, expected = np.append(counts[often], counts[~often].sum()), np.append(p[often], p[~often].sum()) * n
    assert chisquare(observed, expected).pvalue > 1e-3


def test_reported_logprobs_are_the_models_own_whatever_the_temperature(sampler, prompts, renderer):
    drawn = sampler.sample(prompts[0], 50, params(max_tokens=1, temperature=0.5, top_k=5)).result()
    p = next_token_probabilities(sampler, renderer.processing, prompts[0])
    for s in drawn.sequences:
        assert s.logprobs[0] == pytest.approx(np.log(p[s.tokens[0]]), abs=1e-4)


@pytest.mark.parametrize("truncation", [{"top_k": 4}, {"top_p": 0.6}, {"top_p": 0.6, "top_k": 2}, {"top_k": 1}])
def test_truncation_keeps_exactly_the_nucleus(sampler, prompts, renderer, truncation):
    p = next_token_probabilities(sampler, renderer.processing, prompts[0])
    nucleus, mass = set(), 0.0
    for token in np.argsort(-p):
        if mass >= truncation.get("top_p", 1.0) or len(nucleus) == truncation.get("top_k", len(p)):
            break
        nucleus.add(int(token))
        mass += p[token]
    # An untruncated request in the same batch must neither lend nor lose anything.
    free = sampler.sample(prompts[0], 600, params(max_tokens=1, seed=5))
    drawn = sampler.sample(prompts[0], 600, params(max_tokens=1, seed=5, **truncation)).result()
    assert {s.tokens[0] for s in drawn.sequences} == nucleus
    assert {s.tokens[0] for s in free.result().sequences} > nucleus


# -- seeds ------------------------------------------------------------------------------------------------------------


def company(sampler, prompts, n: int, wanted: list[types.SamplingParams]):
    """The sequences of each request asked for alone, and of each in one batch with the others and with a stranger."""
    alone = [sampler.sample(p, n, w).result().sequences for p, w in zip(prompts, wanted, strict=True)]
    stranger = sampler.sample(prompts[0], 2, params(max_tokens=9, seed=99, temperature=0.5, top_p=0.9))
    futures = [sampler.sample(p, n, w) for p, w in zip(prompts, wanted, strict=True)]
    stranger.result()
    return alone, [f.result().sequences for f in futures]


def test_a_seed_gives_the_same_tokens_alone_and_in_company(trained, prompts, renderer):
    """But for a number that was drawn within rounding of the border between two tokens: over many seeds."""
    for seed in range(0, 40, 8):
        wanted = [params(max_tokens=5 + 2 * i, seed=seed + i, temperature=1 - 0.2 * i) for i in range(len(prompts))]
        alone, together = company(trained[1], prompts, 9, wanted)
        for one, two, prompt, w in zip(alone, together, prompts, wanted, strict=True):
            assert_same_draws(one, two, prompt, w, trained[2], renderer.processing)
        assert len({tuple(s.tokens) for s in alone[0]}) > 4  # the members of a group differ


def test_draws_that_differ_by_more_than_rounding_are_told_from_those_that_do_not(trained, prompts, renderer):
    wanted = [params(max_tokens=4, seed=seed) for seed in (0, 1)]
    one, two = (trained[1].sample(prompts[0], 3, w).result().sequences for w in wanted)
    with pytest.raises(AssertionError, match="from where they meet"):
        assert_same_draws(one, two, prompts[0], wanted[0], trained[2], renderer.processing, atol=np.inf)


@pytest.mark.parametrize("rank", [4, 0])
def test_batch_invariant_answers_are_the_same_to_the_bit_in_any_company(make_service, tiny_folder, prompts, rank):
    service = make_service(batch_invariant=True)
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
    train_a_little(training, prompts)
    sampler = training.save_weights_and_get_sampling_client().result()
    for seed in range(0, 12, 4):
        alone, together = company(sampler, prompts, 2, [params(max_tokens=12, seed=seed + i) for i in range(4)])
        for one, two in zip(alone, together, strict=True):
            assert [s.tokens for s in one] == [s.tokens for s in two]
            assert [s.logprobs for s in one] == [s.logprobs for s in two]
        # What is scored, too: a KL penalty asks for all answers of a step at once.
        texts = [answered(p, a[0].tokens) for p, a in zip(prompts * 2, alone, strict=False)]
        by_itself = [sampler.compute_logprobs(text).result() for text in texts]
        futures = [sampler.compute_logprobs(text) for text in texts]
        assert [f.result() for f in futures] == by_itself


def answered(prompt: types.ModelInput, tokens: list[int]) -> types.ModelInput:
    return types.ModelInput(chunks=[*prompt.chunks, types.EncodedTextChunk(tokens=list(tokens))])


def test_seeds_differ(trained, prompts):
    flat = [params(max_tokens=12, seed=seed, temperature=2.0) for seed in (0, 1, None, None)]
    answers = [f.result().sequences[0] for f in [trained[1].sample(prompts[0], 1, one) for one in flat]]
    assert len({tuple(answer.tokens) for answer in answers}) == 4
    # What makes it certain: the model alone repeats one of them once in a million times at most.
    assert all(sum(answer.logprobs or ()) < -14 for answer in answers)


# -- where an answer ends ---------------------------------------------------------------------------------------------


def test_an_answer_ends_with_the_stop_token_or_at_max_tokens(trained, prompts):
    sampler = trained[1]
    [free] = sampler.sample(prompts[1], 1, params(max_tokens=8, seed=2)).result().sequences
    assert (len(free.tokens), free.stop_reason) == (8, "length")
    where = list(free.tokens).index(free.tokens[3])
    stopping = sampler.sample(prompts[1], 1, params(max_tokens=8, seed=2, stop=[int(free.tokens[3]), 5]))
    other = sampler.sample(prompts[1], 1, params(max_tokens=8, seed=2, stop=[5]))  # its neighbour's stop is not its own
    [stopped] = stopping.result().sequences
    assert (list(stopped.tokens), stopped.stop_reason) == (list(free.tokens[: where + 1]), "stop")
    assert len(stopped.logprobs) == where + 1
    assert list(other.result().sequences[0].tokens) == list(free.tokens)


def test_an_answer_ends_where_its_text_holds_a_stop_string(trained, prompts, renderer):
    sampler = trained[1]
    [free] = sampler.sample(prompts[1], 1, params(max_tokens=8, seed=2)).result().sequences
    text = renderer.tokenizer.decode(free.tokens)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    expected = next(k for k in range(1, 9) if stop in renderer.tokenizer.decode(free.tokens[:k]))
    for given in (stop, ["never", stop]):
        [stopped] = sampler.sample(prompts[1], 1, params(max_tokens=8, seed=2, stop=given)).result().sequences
        assert (list(stopped.tokens), stopped.stop_reason) == (list(free.tokens[:expected]), "stop")


def test_without_stops_the_end_of_the_turn_ends_an_answer(service, tiny_folder, prompts, renderer):
    training = service.create_lora_training_client(tiny_folder, rank=0).result()
    answer = renderer.answer_tokens("Lima")
    for _ in range(8):
        training.forward_backward([datum(prompts[0], answer, weights=1.0)], "cross_entropy")
        training.optim_step(types.AdamParams(learning_rate=3e-3)).result()
    sampler = training.save_weights_and_get_sampling_client().result()
    [s] = sampler.sample(prompts[0], 1, types.SamplingParams(max_tokens=20, temperature=0.0)).result().sequences
    assert (list(s.tokens), s.stop_reason) == (answer, "stop")
    assert renderer.decode(s.tokens) == "Lima"


# -- what is computed once --------------------------------------------------------------------------------------------


def count_passes(network) -> list[int]:
    """A list that grows by the rows of logits at every step of a sampling batch."""
    seen: list[int] = []
    logits = network.logits
    network.logits = lambda hidden: (seen.append(len(hidden)), logits(hidden))[1]
    return seen


def test_requests_asked_together_run_as_one_batch_whoever_made_them(service, tiny_folder, prompts):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=0).result()
    one = training.save_weights_and_get_sampling_client().result()
    two = training.save_weights_and_get_sampling_client().result()
    base = service.create_sampling_client(base_model=tiny_folder).result()
    [network] = service._networks.values()  # the base model needs no copy of its own
    passes, embed, prefixes = count_passes(network), network.embed, []
    network.embed = lambda prompts, ends: (prefixes.extend(prompts), embed(prompts, ends))[1]
    futures = [s.sample(p, 5, params(max_tokens=1)) for s in (one, two) for p in prompts]
    futures[0].result()
    assert len(prefixes) == len(prompts)  # each once, for the ten answers of two clients
    assert passes == [10 * len(prompts)]
    for future in [s.sample(prompts[0], 2, params(max_tokens=1)) for s in (one, base)]:
        future.result()
    assert passes == [10 * len(prompts), 2, 2]  # other weights, another batch


def test_a_small_cache_budget_splits_the_batch_and_changes_nothing(tiny_folder, prompts, service, renderer):
    def answers(client):
        sampler = client.create_sampling_client(base_model=tiny_folder).result()
        passes = count_passes(client.network(sampler._snapshot.spec))
        futures = [sampler.sample(p, 2, params(max_tokens=3, seed=i)) for i, p in enumerate(prompts)]
        return [f.result().sequences for f in futures], len(passes)

    with LocalServiceClient(LocalOptions(threads=1, max_sample_tokens=100)) as small:
        split, n_split = answers(small)
    together, n_together = answers(service)
    reference = load_reference(tiny_folder)
    for i, prompt in enumerate(prompts):
        wanted = params(max_tokens=3, seed=i)
        assert_same_draws(split[i], together[i], prompt, wanted, reference, renderer.processing)
    assert (n_split, n_together) == (6, 3)  # two batches of three tokens each


def test_a_frozen_tower_sees_each_picture_once(service, tiny_folder, renderer, pictures):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=0).result()
    [network] = service._networks.values()
    prompts = [renderer.prompt([pictures[i]], q) for i, q in [(0, "Where?"), (1, "Where?"), (0, "Which city?")]]
    for _ in range(2):
        sampler = training.save_weights_and_get_sampling_client().result()
        futures = [sampler.sample(p, 4, params(max_tokens=2)) for p in prompts]
        data = [
            datum(p, s.tokens, weights=1.0) for p, f in zip(prompts, futures, strict=True) for s in f.result().sequences
        ]
        training.forward_backward(data, "cross_entropy")
        training.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    assert network.pictures.encoded == 2


def test_a_tower_in_training_sees_a_group_once_and_the_next_step_anew(service, tiny_folder, renderer, pictures):
    training = service.create_lora_training_client(tiny_folder, rank=0).result()
    [network] = service._networks.values()
    prompt = renderer.prompt([pictures[0]], "Where?")
    before = training.save_weights_and_get_sampling_client().result()
    first = before.sample(prompt, 4, params(max_tokens=2)).result()
    assert network.pictures.encoded == 1
    training.forward_backward([datum(prompt, s.tokens, weights=1.0) for s in first.sequences], "cross_entropy").result()
    assert network.pictures.encoded == 2
    training.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    after = training.save_weights_and_get_sampling_client().result()
    assert after.compute_logprobs(prompt).result() != before.compute_logprobs(prompt).result()
    assert network.pictures.encoded == 4


# -- snapshots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [8, 0])
def test_training_changes_neither_a_snapshot_nor_the_base_model(service, tiny_folder, prompts, renderer, rank):
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=0).result()
    train_a_little(training, prompts[:2], steps=1)
    snapshot = training.save_weights_and_get_sampling_client().result()
    before = snapshot.compute_logprobs(prompts[0]).result()
    train_a_little(training, prompts[:2], steps=2, learning_rate=1e-2)
    assert snapshot.compute_logprobs(prompts[0]).result() == before
    now = training.save_weights_and_get_sampling_client().result()
    assert now.compute_logprobs(prompts[0]).result() != before

    base = service.create_sampling_client(base_model=tiny_folder).result()
    [s] = base.sample(prompts[0], 1, params(max_tokens=4)).result().sequences
    with torch.no_grad():
        expected = reference_logprobs(load_reference(tiny_folder), renderer.processing, prompts[0], s.tokens)
    np.testing.assert_allclose(s.logprobs, gather(expected, s.tokens), atol=1e-5)


# -- bad requests -----------------------------------------------------------------------------------------------------


def bad_prompts(renderer, pictures) -> dict[str, types.ModelInput]:
    def image(data, tokens):
        return types.ImageChunk(data=data, format="jpeg", expected_tokens=tokens)

    def text(*tokens):
        return types.EncodedTextChunk(tokens=list(tokens))

    chunks = {
        "expected_tokens=9: the picture takes 4 tokens": [image(pictures[0], 9), text(300)],
        "unreadable image": [image(pictures[0][:-200], 4), text(300)],
        "empty text chunk": [text(300), text()],
        "holds the image token": [text(300, renderer.processing.image_token_id)],
        "outside the vocabulary": [text(300, 10_000_000)],
        "an empty ModelInput": [],
        "only text and image chunks": [types.ImageAssetPointerChunk(location="x", format="png", expected_tokens=1)],
    }
    return {message: types.ModelInput(chunks=value) for message, value in chunks.items()}


def test_a_bad_prompt_fails_alone_and_says_why(sampler, renderer, pictures, prompts):
    bad = bad_prompts(renderer, pictures)
    good = sampler.sample(prompts[0], 2, params(max_tokens=3, seed=4))
    futures = {message: sampler.sample(p, 2, params(max_tokens=3)) for message, p in bad.items()}
    scores = {message: sampler.compute_logprobs(p) for message, p in bad.items()}
    last = sampler.sample(prompts[3], 2, params(max_tokens=3, seed=4))
    for message in bad:
        with pytest.raises(ValueError, match=message):
            futures[message].result()
        with pytest.raises(ValueError, match=message):
            scores[message].result()
    for prompt, answered in ((prompts[0], good), (prompts[3], last)):
        alone = sampler.sample(prompt, 2, params(max_tokens=3, seed=4)).result().sequences
        wanted = params(max_tokens=3, seed=4)
        assert_same_draws(answered.result().sequences, alone, prompt, wanted, sampler.reference, renderer.processing)


@pytest.mark.parametrize(
    ("n", "changes", "message"),
    [
        (0, {}, "num_samples=0"),
        (1, {"max_tokens": 0}, "max_tokens=0"),
        (1, {"temperature": -0.1}, "temperature=-0.1"),
        (1, {"top_p": 0.0}, r"top_p=0.0: must be above 0"),
        (1, {"top_p": 1.5}, "top_p=1.5"),
        (1, {"top_k": 0}, r"top_k=0: must be -1 \(off\)"),
        # What would fail, or take the memory of, all who share the batch.
        (1, {"seed": -1}, "seed=-1: must be 0 or above"),
        (1, {"top_k": 2**31}, "top_k=2147483648: must be .* at most 2147483647"),
        (1, {"max_tokens": 32_769}, "max_tokens=32769: must be at least 1 and at most 32768"),
        (1_000_000, {"max_tokens": 64}, "num_samples=1000000: must be at least 1 and at most 8192"),
        (1, {"stop": [5, 2**63]}, "stop=9223372036854775808: token ids are from 0 to 2147483647"),
        (1, {"temperature": float("nan")}, "temperature=nan"),
        (1, {"top_p": float("nan")}, "top_p=nan"),
    ],
)
def test_impossible_parameters_are_refused_at_once(sampler, prompts, n, changes, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(prompts[0], n, params(**changes))


def test_pictures_are_part_of_the_prompt(sampler, renderer):
    """Two prompts that differ in nothing but the picture are not taken for one."""
    one, two = (renderer.prompt([jpeg(seed)], "Where?") for seed in (40, 41))
    futures = [sampler.compute_logprobs(p) for p in (one, two)]
    assert futures[0].result() != futures[1].result()
    futures = [sampler.sample(p, 1, params(max_tokens=3)) for p in (one, two)]
    assert list(futures[0].result().sequences[0].logprobs) != list(futures[1].result().sequences[0].logprobs)


def test_the_tokenizer_is_the_models(sampler, tiny_folder):
    text = "Lima, Peru"
    assert sampler.get_tokenizer()(text).input_ids == Renderer(load_processing(tiny_folder)).tokenizer(text).input_ids
