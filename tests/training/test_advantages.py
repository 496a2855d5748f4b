"""Advantages and datums against values worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinker import types

from geospot.training.advantages import group_advantages, groups_to_learn_from
from geospot.training.datums import policy_datum, policy_diagnostics, supervised_datum


def test_centred_in_the_group():
    np.testing.assert_allclose(group_advantages([[1.0, 0.0, 0.5], [2.0, 2.0, 5.0]]), [[0.5, -0.5, 0], [-1, -1, 2]])


def test_leave_one_out_is_the_distance_to_the_mean_of_the_others():
    # 1 - (0 + 0.5) / 2 = 0.75; 0 - (1 + 0.5) / 2 = -0.75; 0.5 - 0.5 = 0
    np.testing.assert_allclose(group_advantages([[1.0, 0.0, 0.5]], leave_one_out=True), [[0.75, -0.75, 0.0]])


def test_division_by_the_standard_deviation():
    out = group_advantages([[1.0, 3.0]], divide_by_std=True)  # mean 2, standard deviation 1
    np.testing.assert_allclose(out, [[-1.0, 1.0]], rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"divide_by_std": True}, {"leave_one_out": True}])
def test_a_group_of_equal_rewards_has_no_advantage_at_all(options):
    assert not group_advantages([[0.1 + 0.2] * 7, [0.3] * 7], **options).any()


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=6), st.floats(-5, 5))
def test_advantages_sum_to_zero_and_ignore_a_shift(rewards, shift):
    out = group_advantages(rewards)
    np.testing.assert_allclose(out.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(group_advantages(np.array(rewards) + shift), out, atol=1e-6)


@pytest.fixture
def prompt():
    return types.ModelInput(chunks=[types.EncodedTextChunk(tokens=[5, 6, 7])])


def test_targets_are_shifted_and_only_the_answer_counts(prompt):
    datum = supervised_datum(prompt, [10, 11, 12], weight=0.5)
    assert [t for c in datum.model_input.chunks for t in c.tokens] == [5, 6, 7, 10, 11]
    np.testing.assert_array_equal(datum.loss_fn_inputs["target_tokens"].to_numpy(), [0, 0, 10, 11, 12])
    np.testing.assert_array_equal(datum.loss_fn_inputs["weights"].to_numpy(), [0, 0, 0.5, 0.5, 0.5])


def test_an_answer_of_one_token_adds_no_empty_chunk(prompt):
    datum = policy_datum(prompt, [10], [-0.5], 2.0)
    assert len(datum.model_input.chunks) == 1
    np.testing.assert_array_equal(datum.loss_fn_inputs["advantages"].to_numpy(), [0, 0, 2.0])
    np.testing.assert_array_equal(datum.loss_fn_inputs["logprobs"].to_numpy(), [0, 0, -0.5])


def test_diagnostics_by_hand(prompt):
    data = [policy_datum(prompt, [10, 11], [-1.0, -1.0], [1.0, -1.0]), policy_datum(prompt, [10], [-1.0], 0.0)]
    now = [np.array([0, 0, -1.0 + np.log(1.5), -1.0 + np.log(0.5)]), np.array([0, 0, 5.0])]
    out = [{"logprobs": types.TensorData(data=a.astype(np.float32), dtype="float32", shape=[len(a)])} for a in now]
    have = policy_diagnostics(data, out, 0.8, 1.2)
    # Ratios 1.5 (advantage above 0) and 0.5 (below 0) are both out of bounds; the third token has no advantage.
    assert have["clip_fraction"] == 1.0
    assert have["log_ratio_max"] == pytest.approx(np.log(2), rel=1e-5)
    assert have["kl"] == pytest.approx(((0.5 - np.log(1.5)) + (-0.5 - np.log(0.5))) / 2, rel=1e-5)


def test_groups_without_signal_make_room_for_those_with_one():
    advantages = np.array([[0.0, 0.0], [0.5, -0.5], [0.0, 0.0], [0.1, -0.1], [1.0, -1.0]])
    assert groups_to_learn_from(advantages, 2).tolist() == [1, 3]  # in order, not by their spread
    assert groups_to_learn_from(advantages, 9).tolist() == [1, 3, 4]
    assert groups_to_learn_from(advantages, 2, held=True).tolist() == [1, 3]
    assert groups_to_learn_from(np.zeros((3, 2)), 2).tolist() == []
    assert groups_to_learn_from(np.zeros((3, 2)), 2, held=True).tolist() == [0, 1]  # for the KL term alone
