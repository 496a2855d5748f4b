"""Batches by step: read in order, asked for as often as one likes, each with the position behind it."""

import pytest

from geospot.data.fields import Columns
from geospot.data.sources import open_source
from geospot.data.stream import SampleStream
from geospot.training.batches import Batches


@pytest.fixture
def make(shards, renderer):
    """Makes batches of 4 over the three places."""

    def batches(first_step=0, start=None) -> Batches:
        stream = SampleStream(open_source(str(shards / "train.tar"), Columns()), seed=1, buffer=8, start=start)
        return Batches(stream, renderer, 4, first_step)

    return batches


def keys(samples) -> list[str]:
    return [sample.key for sample in samples]


def test_a_step_has_one_batch_however_often_it_is_asked_for(make):
    with make() as batches:
        first = keys(batches.of(0))
        assert batches.readable(1)
        second = keys(batches.of(1))
        assert not set(first) & set(second)
        assert keys(batches.of(1)) == second
        for wrong in (0, 3):
            with pytest.raises(ValueError, match="read in order"):
                batches.of(wrong)


def test_a_position_is_that_of_its_step_whatever_was_read_ahead(make):
    with make() as batches:
        batches.of(0)
        batches.of(1)
        position = batches.position(2).stream
        expected = keys(batches.of(2))
    with make(first_step=2, start=position) as again:
        assert again.position(2).stream == position
        assert keys(again.of(2)) == expected


def test_an_error_of_the_reader_stays_and_leaves_the_position_of_the_step(make, monkeypatch):
    with make() as batches:
        batches.of(0)
        position = batches.position(1)
        batches._next.result()  # the batch behind it is read
        monkeypatch.setattr(SampleStream, "take", lambda stream, n: (_ for _ in ()).throw(OSError("gone")))
        batches.of(1)
        behind = batches.position(2)
        for _ in range(2):
            assert not batches.readable(2)
            with pytest.raises(OSError, match="gone"):
                batches.of(2)
        assert batches.position(2) is behind is not position
