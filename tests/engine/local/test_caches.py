"""What a sampling batch holds in its caches never exceeds what it was allowed."""

import numpy as np
import pytest
from engine_reference import params
from hypothesis import given
from hypothesis import strategies as st

from geospot.engine.local.caches import Group, Layout
from geospot.engine.local.decoding import FusedDecoding
from geospot.engine.local.options import LocalOptions
from geospot.engine.local.service import LocalServiceClient

groups = st.lists(
    st.builds(Group, st.integers(1, 400), st.integers(1, 40), st.integers(1, 200)), min_size=1, max_size=9
)


@given(groups, st.integers(1, 20_000))
def test_blocks_hold_all_rows_within_the_limit(groups, limit):
    largest = max(g.members for g in groups)
    layout = Layout(groups, largest)
    size = layout.best_size(limit)
    blocks = sum(-(-g.members // size) for g in groups)
    positions = blocks * (max(g.prompt for g in groups) + size * max(g.room for g in groups))
    assert all(-(-g.members // size) * size >= g.members for g in groups)
    assert positions <= max(limit, layout.positions().min())


def test_a_long_prefix_is_not_copied_for_few_idle_slots_where_memory_is_short():
    left = [Group(1400, n, 64) for n in (8, 9, 11, 12, 13, 15, 16)]  # of groups of 16, when a half has ended
    held_at_first = 7 * (1400 + 16 * 64)
    layout = Layout(left, 16)
    assert layout.positions()[layout.best_size(held_at_first) - 1] <= held_at_first
    assert layout.positions()[layout.best_size(10**9) - 1] > held_at_first  # what it would rather take


@pytest.fixture
def held(monkeypatch):
    """Positions in the caches of a layer after each change of the batch."""
    positions = []

    def lay_out(self, *args, original=FusedDecoding._lay_out):
        original(self, *args)
        cache = self.caches[0]
        numbers = cache.prefix_v.numel() + cache.own_v.numel()
        positions.append(numbers // (self.decoder.kv_heads * self.decoder.head_dim))
        assert all(c.own_k.shape[0] == cache.own_k.shape[0] for c in self.caches)

    monkeypatch.setattr(FusedDecoding, "_lay_out", lay_out)
    return positions


def test_short_answers_beside_a_long_one_stay_within_max_sample_tokens(tiny_folder, renderer, pictures, held):
    prompts = [renderer.prompt([pictures[i]], "Where?") for i in range(4)]
    limit = 4 * prompts[0].length + 400
    with LocalServiceClient(LocalOptions(threads=1, max_sample_tokens=limit)) as service:
        sampler = service.create_sampling_client(base_model=tiny_folder).result()
        lengths, members = (4, 4, 4, 60), (9, 8, 7, 2)
        asked = [
            sampler.sample(p, n, params(max_tokens=m, seed=i))
            for i, (p, n, m) in enumerate(zip(prompts, members, lengths, strict=True))
        ]
        answers = [f.result().sequences for f in asked]
    assert [len(a) for a in answers] == list(members)
    assert held
    assert max(held) <= limit


def test_answers_that_end_one_by_one_stay_within_max_sample_tokens(tiny_folder, renderer, pictures, held):
    rng = np.random.default_rng(0)
    prompts = [renderer.prompt([pictures[i], pictures[i + 1]], "Where?") for i in range(4)]
    limit = sum(p.length for p in prompts) + 4 * 12 * 24
    with LocalServiceClient(LocalOptions(threads=1, max_sample_tokens=limit)) as service:
        sampler = service.create_sampling_client(base_model=tiny_folder).result()
        stops = [int(token) for token in rng.choice(250, 60, replace=False)]
        asked = [sampler.sample(p, 12, params(max_tokens=24, seed=i, stop=stops)) for i, p in enumerate(prompts)]
        lengths = {len(s.tokens) for f in asked for s in f.result().sequences}
    assert len(lengths) > 4
    assert len(held) > 2
    assert max(held) <= limit
