"""What requests cost by published prices (genai-prices, which ships with them), and a cap on what they may cost."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import AT_ADDRESS, ApiModel
from geospot.engine.api.exchange import Wanted
from geospot.errors import EngineError

PIXELS_PER_TOKEN = 750  # Anthropic's rule; OpenAI's and Google's tiles come to no more for 512 x 512 pixels
CHARS_PER_TOKEN = 4
ANSWER_TOKENS = 60
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


class CostReached(EngineError):
    """`max_cost` is reached: no further request is sent, and what was answered is kept."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens, and who says so."""

    tokens_in: float
    tokens_out: float
    source: str

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Dollars."""
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


def published_price(model: ApiModel) -> Price | None:
    """The provider's published price; None of a server of one's own, and of a model that is not listed."""
    if model.provider == AT_ADDRESS:
        return None
    import genai_prices

    def dollars(**tokens: int) -> float:
        found = genai_prices.calc_price(
            genai_prices.Usage(**tokens), model.name, provider_id=_PROVIDERS[model.provider]
        )
        return float(found.total_price)

    try:
        # Of a request of usual size: long prompts may cost more per token, and these are not long.
        return Price(1e3 * dollars(input_tokens=1000), 1e3 * dollars(output_tokens=1000),
                     f"published prices of {model.name}, genai-prices {genai_prices.__version__}")  # fmt: skip
    except LookupError:
        return None


@dataclass(frozen=True)
class Estimate:
    """Tokens of one answer: into the model, out of it, and out of it at most."""

    tokens_in: float
    tokens_out: float
    most_out: float

    @classmethod
    def of(cls, wanted: Wanted, sizes: list[tuple[int, int]], thinking: int | None) -> "Estimate":
        """By rule of thumb; sizes: width and height of its pictures; thinking: the budget, tokens."""
        pictures = sum(width * height / PIXELS_PER_TOKEN for width, height in sizes)
        text = 20 + len(wanted.text) / CHARS_PER_TOKEN
        return cls(pictures + text, ANSWER_TOKENS + (thinking or 0), wanted.max_tokens + (thinking or 0))

    def in_words(self, answers: int, price: Price | None) -> str:
        """What so many answers take, and cost."""
        tokens = (
            f"{answers:,} answers: about {_tokens(answers * self.tokens_in)} tokens in, "
            f"{_tokens(answers * self.tokens_out)} out (at most {_tokens(answers * self.most_out)})"
        )
        if price is None:
            return f"{tokens}; no published price"
        about, most = (answers * price.cost(self.tokens_in, out) for out in (self.tokens_out, self.most_out))
        return (
            f"{tokens}: about ${about:,.2f}, at most ${most:,.2f} (${price.tokens_in:g} in and ${price.tokens_out:g} "
            f"out per million tokens: {price.source})"
        )


def _tokens(n: float) -> str:
    return f"{n / 1e6:.2f} million" if n >= 1e6 else f"{n:,.0f}"


@dataclass
class Spending:
    """One request that is on its way; `reply` is set once it is there."""

    reply: Reply | None = None


@dataclass
class Budget:
    """What was spent, in dollars by the price (None: not known), and how much may be (None: no cap).

    `estimate` is what one answer takes where the server does not count, and what is set aside for one on its way.
    """

    price: Price | None = None
    max_cost: float | None = None
    estimate: Estimate = field(default_factory=lambda: Estimate(0.0, 0.0, 0.0))
    spent: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def __post_init__(self) -> None:
        self._lock, self._in_flight, self._answers = threading.Lock(), 0, 0

    def count(self, reply: Reply) -> None:
        """Add what a reply took."""
        with self._lock:
            self._count(reply)

    def _count(self, reply: Reply) -> None:
        if reply.finish == "error":
            return
        tokens_in = self.estimate.tokens_in if reply.tokens_in is None else reply.tokens_in
        tokens_out = self.estimate.tokens_out if reply.tokens_out is None else reply.tokens_out
        self.tokens_in, self.tokens_out = self.tokens_in + tokens_in, self.tokens_out + tokens_out
        self._answers += 1
        if self.price is not None:
            self.spent += self.price.cost(tokens_in, tokens_out)

    @contextmanager
    def spending(self) -> Generator[Spending]:
        """Around one request; CostReached where it might lead beyond the cap."""
        with self._lock:
            if self.max_cost is not None and self.price is not None:
                one = self.price.cost(self.estimate.tokens_in, self.estimate.tokens_out)
                if self._answers:
                    one = max(one, self.spent / self._answers)
                if self.spent + (self._in_flight + 1) * one > self.max_cost:
                    raise CostReached(
                        f"max_cost={self.max_cost:g}: ${self.spent:.4f} is spent, and one more answer may cost "
                        f"${one:.4f}; every answer is kept, and the same command with a larger max_cost goes on"
                    )
            self._in_flight += 1
        spending = Spending()
        try:
            yield spending
        finally:
            with self._lock:
                self._in_flight -= 1
                if spending.reply is not None:
                    self._count(spending.reply)
