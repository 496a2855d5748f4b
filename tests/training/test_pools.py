"""Pictures are drawn by their own past results, and a run that goes on draws what the unbroken one does."""

import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from geospot.data.fields import Columns
from geospot.data.samples import Sample
from geospot.data.sources import open_source
from geospot.data.stream import SampleStream
from geospot.earth.place import Place
from geospot.training import pools as pools_module
from geospot.training.batches import Batches
from geospot.training.pools import Pools, picture_id, pool


def picture(i: int) -> Sample:
    return Sample(f"p{i}", (b"",), Place(float(i % 90), float(i % 180)))


def epochs(n: int, seed: int = 0) -> Callable[[int], list[Sample]]:
    """What offers n pictures in a new order each epoch."""
    order, rng = [], random.Random(seed)

    def take(m: int) -> list[Sample]:
        while len(order) < m:
            order.extend(rng.sample(range(n), n))
        taken = order[:m]
        del order[:m]
        return [picture(i) for i in taken]

    return take


def number(sample: Sample) -> int:
    return int(sample.key[1:])


def has_signal(sample: Sample) -> bool:
    """Of ten pictures four are solved, three hopeless; the others have a signal."""
    return number(sample) % 10 >= 7


def reward(sample: Sample) -> float:
    return 1.0 if number(sample) % 10 < 4 else 0.0


def wasted(pools: Pools | None, steps: int, size: int = 20) -> float:
    """The share of groups without signal in so many steps of a toy problem of 100 pictures."""
    take, without = epochs(100), 0
    for step in range(steps):
        if pools:
            pools.settle(step)
        samples = pools.choose(take, size) if pools else take(size)
        without += sum(not has_signal(sample) for sample in samples)
        if pools:
            pools.learn(step, samples, np.array([*map(has_signal, samples)]), np.array([*map(reward, samples)]))
    return without / (steps * size)


def test_pools_waste_fewer_groups_than_uniform_draws_for_as_many_answers():
    assert wasted(None, 30) == pytest.approx(0.7)
    assert wasted(Pools(seed=1, lag=2), 30) < 0.55
    assert wasted(Pools(seed=1, lag=2), 5) == pytest.approx(0.7)  # one epoch: there is nothing to go by


def test_a_result_moves_a_picture_between_the_pools_by_hand():
    pools, sample = Pools(seed=0, lag=1), picture(1)
    seen = []
    for step, (signal, earned) in enumerate([(0, 0.9), (0, 0.1), (1, 0.4), (1, 0.4)]):
        pools.learn(step, [sample], np.array([bool(signal)]), np.array([earned]))
        seen.append(pools.settle(step + 1).pictures[picture_id(sample)])
    assert seen == [(0.5, 0.9), (0.25, 0.5), (0.625, 0.45), (0.8125, 0.425)]
    assert [pool(*result) for result in seen] == ["easy", "easy", "normal", "normal"]
    assert pool(0.25, 0.49) == "hard"


def test_a_picture_without_signal_is_drawn_one_time_in_four_and_always_again():
    pools, sample = Pools(seed=3, lag=1), picture(1)
    for step in range(9):
        pools.learn(step, [sample], np.array([False]), np.array([0.0]))
        pools.settle(step + 1)
    assert len(pools.choose(lambda n: [sample] * n, 500)) == 500
    assert pools.standing.offered == pytest.approx(2000, rel=0.15)
    assert pools.standing.passed == pools.standing.offered - 500
    assert pools.standing.metrics()["pool_hard"] == 1


def test_data_whose_pictures_come_once_are_read_as_they_are_and_it_says_so():
    pools = Pools(seed=0, lag=2)
    for step in range(4):
        pools.settle(step)
        samples = pools.choose(lambda n, step=step: [picture(10 * step + i) for i in range(n)], 10)
        assert [number(s) for s in samples] == list(range(10 * step, 10 * step + 10))
        pools.learn(step, samples, np.zeros(10, bool), np.zeros(10))
    assert "each of 40 pictures came once" in pools.standing.report()
    assert pools.standing.metrics()["pool_known"] == 0


def test_shards_that_number_their_pictures_alike_are_not_taken_for_one_another():
    here, there = Sample("000001", (b"",), Place(1.0, 2.0)), Sample("000001", (b"",), Place(2.0, 1.0))
    assert picture_id(here) != picture_id(there)


def test_the_oldest_results_are_forgotten_first(monkeypatch):
    monkeypatch.setattr(pools_module, "MOST", 3)
    pools = Pools(seed=0, lag=1)
    for step in range(4):
        pools.learn(step, [picture(0), picture(step)], np.array([True, True]), np.zeros(2))
        pools.settle(step + 1)
    assert set(pools.standing.pictures) == {picture_id(picture(i)) for i in (0, 2, 3)}


@pytest.mark.parametrize(("lag", "ahead"), [(2, 0), (3, 1)])
def test_a_run_that_goes_on_in_the_middle_draws_the_same_pictures(shards, renderer, lag, ahead):
    """`ahead`: with overlap, a step's pictures are asked for before the step before it has its results."""

    def signal(key: str) -> bool:
        return int(key.rpartition("-")[2]) % 3 == 0

    def go(first: int, last: int, state: dict | None) -> tuple[dict[int, list[str]], dict[int, str]]:
        state = state or {}
        stream = SampleStream(
            open_source(str(shards / "train.tar"), Columns()), seed=1, buffer=8, start=state.get("stream")
        )
        drawn, states = {}, {}
        with Batches(stream, renderer, 6, first, Pools(7, lag, state.get("pools"))) as batches:
            asked = {first: batches.of(first)}
            for step in range(first, last):
                for next_step in range(step, step + 1 + ahead):
                    if next_step not in asked:
                        asked[next_step] = batches.of(next_step)
                samples = asked[step]
                drawn[step] = [sample.key for sample in samples]
                rewards = np.array([[0.0, float(signal(sample.key))] for sample in samples])
                batches.learn(step, samples, rewards, rewards - rewards.mean(axis=1, keepdims=True))
                states[step + 1] = json.dumps(batches.state(step + 1))
            assert batches.metrics(last)["pool_passed"] > 0
        return drawn, states

    whole, states = go(0, 16, None)
    for middle in (1, 9, 12):
        again, later = go(middle, 16, json.loads(states[middle]))
        assert again == {step: keys for step, keys in whole.items() if step >= middle}
        assert later[16] == states[16]
    batch = [key for step in range(8, 16) for key in whole[step]]
    assert np.mean([signal(key) for key in batch]) > 0.4  # a third of the pictures have a signal
