"""What happens where the memory runs out: smaller parts, the same results, and a word of what to set."""

import weakref

import numpy as np
import pytest
import torch
from engine_reference import assert_same_draws, load_reference, params, train_a_little

from geospot.engine.local import decoding
from geospot.engine.local.fitting import TokenBudget
from geospot.engine.local.inputs import Row, Tokens, padded_tokens
from geospot.engine.local.options import LocalOptions
from geospot.engine.local.service import LocalServiceClient


def row(n: int, *, prefix: int, scored: int = 2) -> Row:
    """A row of n tokens of which the last `scored` count; rows of one `prefix` and length share all before those."""
    ids = np.full(n, prefix, dtype=np.int64)
    where = np.zeros(n, dtype=bool)
    where[-scored:] = True
    return Row(Tokens(ids, np.zeros(n, dtype=bool), (), 0), ids, where)


class Memory:
    """Work that fits while a batch counts at most `fits` tokens; a larger one fails as torch's allocator does."""

    def __init__(self, rows, fits: int, error=None):
        self.rows, self.fits, self.done, self.failures, self.error = rows, fits, [], 0, error

    def __call__(self, batch):
        if padded_tokens([self.rows[i] for i in batch]) > self.fits:
            self.failures += 1
            if self.error is not None:
                raise self.error
            torch.empty(1 << 60)
        self.done.append(batch)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), None])
def test_one_failure_makes_all_that_is_left_smaller(error):
    """Ten batches of 1,600 tokens where 800 fit: all would fail in turn. None: what torch raises on a CPU."""
    rows = [row(100, prefix=i) for i in range(160)]
    budget, work = TokenBudget(1600), Memory(rows, 800, error)
    budget.run(rows, range(160), work)
    assert (work.failures, budget.max_tokens) == (1, 800)
    assert sorted(i for batch in work.done for i in batch) == list(range(160))


def test_it_ends_near_what_fits():
    rows = [row(100, prefix=i) for i in range(160)]
    budget, work = TokenBudget(1600), Memory(rows, 500)
    budget.run(rows, range(160), work)
    assert (work.failures, budget.max_tokens) == (2, 400)


def test_a_shared_prefix_counts_once():
    """16 members of a prompt of 1,000 tokens are no pass of 16,000."""
    rows = [row(1010, prefix=i // 16, scored=10) for i in range(64)]
    assert padded_tokens(rows[:16]) == 1001 + 16 * 9
    budget, work = TokenBudget(16_384), Memory(rows, 3000)
    budget.run(rows, range(64), work)
    assert (work.failures, budget.max_tokens) == (1, padded_tokens(rows) // 2)


def test_another_error_is_no_lack_of_memory():
    rows = [row(100, prefix=i) for i in range(4)]
    with pytest.raises(RuntimeError, match="shapes differ"):
        TokenBudget(1600).run(rows, range(4), Memory(rows, 10, RuntimeError("shapes differ")))


def test_a_sequence_that_does_not_fit_alone_is_named_and_its_tensors_let_go():
    rows, held = [row(100, prefix=1)], []

    def work(_):
        tensor = torch.zeros(10)
        held.append(weakref.ref(tensor))
        torch.empty(1 << 60)

    with pytest.raises(MemoryError, match=r"one sequence of 100 tokens .*gradient_checkpointing=true") as error:
        TokenBudget(1600).run(rows, [0], work)
    assert "allocate" in str(error.value.__cause__)
    assert held[0]() is None  # though the error is kept, as a future keeps it


# -- sampling ---------------------------------------------------------------------------------------------------------


def answers_of(folder, checkpoints, prompts, n=4, max_tokens=6, **options):
    """Answers of a client a few steps from its start, its network, and transformers' model of its weights."""
    with LocalServiceClient(LocalOptions(threads=1, checkpoint_dir=str(checkpoints), **options)) as service:
        training = service.create_lora_training_client(folder, rank=4, seed=1).result()
        train_a_little(training, prompts)
        sampler = training.save_weights_and_get_sampling_client().result()
        futures = [sampler.sample(p, n, params(max_tokens=max_tokens, seed=i)) for i, p in enumerate(prompts)]
        reference = load_reference(folder, training.save_state("sampled", overwrite=True).result().path)
        return [future.result().sequences for future in futures], service.network(training._spec), reference


@pytest.fixture(scope="module")
def prompts(renderer, pictures):
    return [renderer.prompt([pictures[0]], "Where?"), renderer.prompt([], "Name a city.")]


@pytest.mark.parametrize("fused", [True, False])
def test_sampling_that_runs_out_of_memory_goes_on_with_fewer_at_once(
    tiny_folder, prompts, renderer, tmp_path, monkeypatch, capsys, fused
):
    want, _, reference = answers_of(tiny_folder, tmp_path, prompts, fused_decoder=fused)
    kind = decoding.FusedDecoding if fused else decoding.CachedDecoding
    real, failed = kind.step, []

    def small_memory(self, ids):
        if len(ids) > 2:
            failed.append(weakref.ref(self))
            torch.empty(1 << 60)
        assert all(decoding() is None for decoding in failed)  # its caches were let go before the next try
        return real(self, ids)

    monkeypatch.setattr(kind, "step", small_memory)
    got, network, _ = answers_of(tiny_folder, tmp_path, prompts, fused_decoder=fused)
    for i, prompt in enumerate(prompts):
        wanted = params(max_tokens=6, seed=i)
        assert_same_draws(got[i], want[i], prompt, wanted, reference, renderer.processing, atol=1e-5)
    held = 8 * (max(p.length for p in prompts) + 6)
    assert len(failed) <= 4  # not all the way down from max_sample_tokens
    assert network.max_sample_tokens < held
    assert f"max_sample_tokens={network.max_sample_tokens}" in capsys.readouterr().out


def test_the_next_batch_starts_that_small(tiny_folder, prompts, monkeypatch):
    real, failed = decoding.FusedDecoding.step, []

    def small_memory(self, ids):
        if len(ids) > 4:
            failed.append(len(ids))
            torch.empty(1 << 60)
        return real(self, ids)

    monkeypatch.setattr(decoding.FusedDecoding, "step", small_memory)
    with LocalServiceClient(LocalOptions(threads=1)) as service:
        sampler = service.create_sampling_client(base_model=tiny_folder).result()
        for _ in range(3):
            sampler.sample(prompts[0], 8, params(max_tokens=6)).result()
    assert len(failed) == 1


def test_an_answer_that_does_not_fit_alone_names_the_settings(tiny_folder, prompts, monkeypatch):
    monkeypatch.setattr(decoding.FusedDecoding, "step", lambda self, ids: torch.empty(1 << 60))
    with LocalServiceClient(LocalOptions(threads=1)) as service:
        sampler = service.create_sampling_client(base_model=tiny_folder).result()
        with pytest.raises(MemoryError, match=r"max_sample_tokens=.*max_tokens, group_size"):
            sampler.sample(prompts[0], 4, params(max_tokens=6)).result()
        monkeypatch.undo()
        assert sampler.sample(prompts[0], 4, params(max_tokens=6)).result().sequences  # and the engine goes on
