"""One call of `sample`: what is asked, and which values can be sampled with."""

from collections.abc import Callable
from dataclasses import dataclass

from tinker import types

from geospot.engine.local.inputs import Tokens

DEFAULT_MAX_TOKENS = 512
Listener = Callable[[int, list[int]], None]  # called with an answer's number and its tokens so far, as they are drawn


@dataclass(frozen=True)
class SampleRequest:
    """One call of `sample`: the prompt, how many answers, and how they are drawn."""

    tokens: Tokens
    num_samples: int
    params: types.SamplingParams
    listener: Listener | None = None

    @property
    def max_tokens(self) -> int:
        """The limit of an answer's length."""
        return self.params.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def prompt_key(self) -> tuple:
        """Equal for requests with the same prompt."""
        return self.tokens.ids.tobytes(), self.tokens.pictures


# Room is made for all of a request's tokens beforehand: one that asks for more must not take everybody's memory.
_MOST_TOKENS, _MOST_IN_ALL, _MOST_SAMPLES, _MOST_INT = 2**15, 2**24, 2**13, 2**31 - 1
_MOST_STOPS, _MOST_STOP_LETTERS = 1024, 2**14  # looked for in every answer, beside those of others


def check_params(params: types.SamplingParams, num_samples: int) -> None:
    """ValueError that names the value and the range, for values that cannot be sampled with.

    What passes here must not fail in a batch, which others share.
    """
    max_tokens = DEFAULT_MAX_TOKENS if params.max_tokens is None else params.max_tokens
    if not 1 <= num_samples <= _MOST_SAMPLES:
        raise ValueError(f"num_samples={num_samples}: must be at least 1 and at most {_MOST_SAMPLES}; ask in parts")
    if not 1 <= max_tokens <= _MOST_TOKENS:
        raise ValueError(f"max_tokens={max_tokens}: must be at least 1 and at most {_MOST_TOKENS}")
    if num_samples * max_tokens > _MOST_IN_ALL:
        raise ValueError(
            f"num_samples={num_samples}, max_tokens={max_tokens}: at most {_MOST_IN_ALL} tokens a request; ask in parts"
        )
    if params.seed is not None and params.seed < 0:
        raise ValueError(f"seed={params.seed}: must be 0 or above")
    if not 0 <= params.temperature < float("inf"):
        raise ValueError(f"temperature={params.temperature}: must be 0 (greedy) or above")
    if not 0 < params.top_p <= 1:
        raise ValueError(f"top_p={params.top_p}: must be above 0 and at most 1")
    if params.top_k != -1 and not 1 <= params.top_k <= _MOST_INT:
        raise ValueError(f"top_k={params.top_k}: must be -1 (off), or at least 1 and at most {_MOST_INT}")
    stops = () if params.stop is None else params.stop
    if len(stops) > _MOST_STOPS or sum(len(stop) for stop in stops if isinstance(stop, str)) > _MOST_STOP_LETTERS:
        raise ValueError(
            f"stop: {len(stops)} of them; at most {_MOST_STOPS}, and {_MOST_STOP_LETTERS} characters in all"
        )
    for stop in stops:
        if not isinstance(stop, str) and not 0 <= stop <= _MOST_INT:
            raise ValueError(f"stop={stop}: token ids are from 0 to {_MOST_INT}")
