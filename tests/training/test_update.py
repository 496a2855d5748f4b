"""Advantages of tokens and minibatches, with answers as servers may give them: empty ones, and ones with holes."""

from concurrent.futures import Future

import numpy as np
import pytest
from tinker import types

from geospot.asking.requests import Rollouts
from geospot.config import TrainConfig
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.errors import EngineError
from geospot.training.update import answer_logprobs, minibatch, per_token

PROMPT = types.ModelInput(chunks=[types.EncodedTextChunk(tokens=[1, 2, 3])])


def rollouts(*logprobs) -> Rollouts:
    """One picture with an answer of as many tokens as each has log-probabilities."""
    sequences = [
        types.SampledSequence("stop", "0", _tokens_list=list(range(5, 5 + len(lp))), _logprobs_list=lp)
        for lp in logprobs
    ]
    texts = ["" for _ in sequences]
    return Rollouts([Sample("a", (b"",), Place(0.0, 0.0))], [PROMPT], len(sequences), sequences, texts)


class Reference:
    """Log-probabilities of -2 for every token behind the prompt, with `holes` left out."""

    def __init__(self, *holes: int):
        self.holes, self.asked = holes, []

    def compute_logprobs(self, prompt: types.ModelInput) -> Future:
        self.asked.append(prompt)
        future: Future = Future()
        future.set_result([None if i in (0, *self.holes) else -2.0 for i in range(prompt.length)])
        return future


CONFIG = TrainConfig(kl_coef=0.5)


def test_an_empty_answer_costs_nothing_and_is_not_trained_on():
    asked = rollouts([-1.0, -3.0], [], [-2.0])
    reference = Reference()
    tokens, metrics = per_token(asked, [1.0, -2.0, 1.0], reference, CONFIG)
    assert metrics["kl_reference"] == pytest.approx(0.0)
    np.testing.assert_allclose(tokens[0], [1 - 0.5, 1 + 0.5])  # drifts of 1, -1 and 0 beside a mean of 0
    np.testing.assert_allclose(tokens[2], [1.0])
    assert len(tokens[1]) == 0
    assert len(reference.asked) == 2
    assert len(minibatch(asked, tokens, [0, 1, 2])) == 2


def test_an_entropy_bonus_pays_for_surprise_by_hand():
    """Surprises of 1, 3 and 2 nats, mean 2; at 0.1 a nat."""
    asked = rollouts([-1.0, -3.0], [-2.0], [])
    tokens, _ = per_token(asked, [1.0, -1.0, 0.0], None, TrainConfig(entropy_coef=0.1))
    np.testing.assert_allclose(tokens[0], [1 - 0.1, 1 + 0.1])
    np.testing.assert_allclose(tokens[1], [-1.0])
    assert len(tokens[2]) == 0


def test_a_step_of_empty_answers_has_no_drift_and_no_minibatch():
    tokens, metrics = per_token(rollouts([], []), [0.5, -0.5], Reference(), CONFIG)
    assert metrics == {}
    assert minibatch(rollouts([], []), tokens, [0, 1]) == []


def test_a_log_probability_that_is_missing_is_an_error_and_no_nan():
    with pytest.raises(EngineError, match=r"the reference of kl_coef .*1 of 2 tokens"):
        per_token(rollouts([-1.0, -3.0]), [1.0], Reference(4), CONFIG)
    for bad in (rollouts([-1.0, float("nan")]), rollouts([-1.0, None])):
        with pytest.raises(EngineError, match=r"sampler.*1 of 2 tokens"):
            per_token(bad, [1.0], Reference(), CONFIG)
        with pytest.raises(EngineError, match=r"sampler.*1 of 2 tokens"):
            minibatch(bad, [np.ones(2)], [0])
    without = types.SampledSequence("stop", "0", _tokens_list=[5, 6])
    with pytest.raises(EngineError, match=r"sampler.*2 of 2 tokens"):
        answer_logprobs(without)
