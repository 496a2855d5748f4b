"""The losses against the formulas of the Tinker documentation, computed with numpy."""

import numpy as np
import pytest
import torch
from tinker import types

from geospot.engine.losses import check_datum, check_loss, token_losses

# Ratios exp(lp - q) of about 1.65, 0.5, 1.0, 5.5 and 1.1, each with both signs of the advantage.
LP = np.array([-0.5, -1.7, -2.0, -0.1, -0.9, -0.5, -1.7, -2.0, -0.1, -0.9])
Q = np.array([-1.0, -1.0, -2.0, -1.8, -1.0, -1.0, -1.0, -2.0, -1.8, -1.0])
A = np.array([2.0, 1.5, 0.5, 1.0, 3.0, -2.0, -1.5, -0.5, -1.0, -3.0])
RATIO = np.exp(LP - Q)


def loss_and_gradient(loss_fn, config=None):
    lp = torch.tensor(LP, requires_grad=True)
    inputs = {"weights": torch.tensor(A), "logprobs": torch.tensor(Q), "advantages": torch.tensor(A)}
    losses = token_losses(loss_fn, check_loss(loss_fn, config), lp, inputs)
    losses.sum().backward()
    return losses.detach().numpy(), lp.grad.numpy()


def test_cross_entropy():
    losses, gradient = loss_and_gradient("cross_entropy")
    np.testing.assert_allclose(losses, -A * LP)
    np.testing.assert_allclose(gradient, -A)


def test_importance_sampling():
    losses, gradient = loss_and_gradient("importance_sampling")
    np.testing.assert_allclose(losses, -RATIO * A)
    np.testing.assert_allclose(gradient, -RATIO * A)  # d exp(lp - q) = exp(lp - q) d lp


@pytest.mark.parametrize(("low", "high"), [(0.8, 1.2), (0.9, 6.0)])
def test_ppo_clips_where_the_step_has_gone_far_enough(low, high):
    config = None if (low, high) == (0.8, 1.2) else {"clip_low_threshold": low, "clip_high_threshold": high}
    losses, gradient = loss_and_gradient("ppo", config)
    np.testing.assert_allclose(losses, -np.minimum(RATIO * A, np.clip(RATIO, low, high) * A))
    # Good tokens stop pulling above `high`, bad ones stop pushing below `low`.
    done = np.where(A > 0, high < RATIO, low > RATIO)
    assert done.any()
    np.testing.assert_allclose(gradient, np.where(done, 0.0, -RATIO * A))


@pytest.mark.parametrize(("low", "high"), [(0.0, 4.0), (0.7, 1.05)])
def test_cispo_clips_the_weight_and_keeps_every_gradient(low, high):
    config = None if (low, high) == (0.0, 4.0) else {"clip_low_threshold": low, "clip_high_threshold": high}
    losses, gradient = loss_and_gradient("cispo", config)
    np.testing.assert_allclose(losses, -np.clip(RATIO, low, high) * LP * A)
    np.testing.assert_allclose(gradient, -np.clip(RATIO, low, high) * A)


def test_one_threshold_may_be_given():
    assert check_loss("ppo", {"clip_high_threshold": 1.28}) == {"clip_low_threshold": 0.8, "clip_high_threshold": 1.28}


@pytest.mark.parametrize(
    ("loss_fn", "config", "message"),
    [
        ("pppo", None, "'pppo': one of cross_entropy, importance_sampling, ppo, cispo"),
        ("ppo", {"clip_low": 0.8}, "'clip_low'.*clip_low_threshold, clip_high_threshold"),
        ("cross_entropy", {"clip_low_threshold": 0.8}, "'clip_low_threshold'.*none"),
    ],
)
def test_unknown_names_are_refused_with_what_is_allowed(loss_fn, config, message):
    with pytest.raises(ValueError, match=message):
        check_loss(loss_fn, config)


def datum(**changes):
    inputs = {"target_tokens": [1, 2, 3], "logprobs": [-1.0] * 3, "advantages": [1.0] * 3, **changes}
    inputs = {key: value for key, value in inputs.items() if value is not None}
    return types.Datum(model_input=types.ModelInput.from_ints([4, 5, 6]), loss_fn_inputs=inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"advantages": None}, "takes the inputs target_tokens, logprobs, advantages; this datum has logprobs, target"),
        ({"weights": [1.0] * 3}, "this datum has advantages, logprobs, target_tokens, weights"),
        ({"logprobs": [-1.0] * 2}, r"logprobs has shape \(2,\); target_tokens has \(3,\)"),
        ({"advantages": [1.0, float("nan"), 1.0]}, "advantages holds a value that is not finite"),
        ({"logprobs": [1.0, -float("inf"), 1.0]}, "logprobs holds a value that is not finite"),
        ({"target_tokens": np.array([1.0, 2.5, 3.0])}, "target_tokens holds a value that is not a whole number"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_datum(datum(**changes), "ppo", 3)


def test_inputs_that_fit_come_back_as_arrays():
    arrays = check_datum(datum(), "ppo", 3)
    assert arrays["target_tokens"].tolist() == [1, 2, 3]
    assert arrays["advantages"].tolist() == [1.0, 1.0, 1.0]


def test_dro_pulls_back_by_the_square_of_the_log_ratio():
    losses, gradient = loss_and_gradient("dro", {"beta": 0.05})
    np.testing.assert_allclose(losses, -(LP * A - 0.5 * 0.05 * (LP - Q) ** 2))
    np.testing.assert_allclose(gradient, -(A - 0.05 * (LP - Q)))
    with pytest.raises(ValueError, match="dro needs the loss_fn_config key 'beta'"):
        check_loss("dro", None)


@pytest.mark.parametrize(("low", "high"), [(0.8, 1.2), (0.5, 3.0)])
def test_gspo_gives_every_token_the_ratio_of_its_sequence(low, high):
    lp = torch.tensor(LP, requires_grad=True)
    row, mask = np.repeat([0, 1], 5), np.array([1, 1, 0, 1, 1, 0, 1, 1, 1, 0])
    inputs = {
        "logprobs": torch.tensor(Q), "advantages": torch.tensor(A), "row": torch.tensor(row),
        "sequence_ratio_mask": torch.tensor(mask),
    }  # fmt: skip
    config = check_loss("gspo", {"clip_low_threshold": low, "clip_high_threshold": high})
    losses = token_losses("gspo", config, lp, inputs)
    losses.sum().backward()
    s = np.array([np.exp((LP - Q)[(row == r) & (mask == 1)].mean()) for r in row])
    np.testing.assert_allclose(losses.detach(), -np.minimum(s * A, np.clip(s, low, high) * A))
    stopped = np.where(A > 0, s > high, s < low)
    np.testing.assert_allclose(lp.grad, np.where(stopped, 0.0, -s * A))


def test_what_the_api_names_and_nobody_publishes_is_refused_with_what_would_do():
    with pytest.raises(ValueError, match="loss_fn='stable_reinforce': its objective is not published"):
        check_loss("stable_reinforce", None)
    with pytest.raises(ValueError, match=r"clip_low_threshold=1\.3 is above clip_high_threshold=1\.2"):
        check_loss("ppo", {"clip_low_threshold": 1.3})
    with pytest.raises(ValueError, match="custom losses run in the client"):
        check_loss("custom", None)


def test_without_weights_every_target_counts_once():
    datum = types.Datum(model_input=types.ModelInput.from_ints([1, 2]), loss_fn_inputs={"target_tokens": [2, 3]})
    np.testing.assert_array_equal(check_datum(datum, "cross_entropy", 2)["weights"], [1, 1])
