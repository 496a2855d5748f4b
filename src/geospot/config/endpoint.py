"""How a model behind an API is asked: its name, its key, how many requests at once, and what they may cost."""

import json

import chz

from geospot.config.keys import not_negative, positive, topic
from geospot.engine.api.exchange import EFFORTS, Options
from geospot.errors import listed

_api = topic("API models")


@chz.chz
class ApiConfig:
    """What concerns a model behind an API (`openai/NAME`, `anthropic/NAME`, `gemini/NAME`, http(s)://HOST/v1)."""

    api_model: str | None = _api(None, "name of the model at an http(s) address; none: the only one that it lists")
    api_key_env: str | None = _api(
        None, "environment variable with the key; none: the provider's usual one, and no key for an address"
    )
    concurrency: int = _api(8, "requests in flight at once")
    request_timeout_s: float = _api(120.0, "a request without a byte for this many seconds has failed")
    thinking: str | None = _api(
        None,
        f"thinking budget, tokens on top of max_tokens, or an effort: {listed(EFFORTS)}; none: the model's default",
    )
    extra_body: str | None = _api(
        None, 'JSON object for the body of every request, such as {"chat_template_kwargs": {"enable_thinking": false}}'
    )
    max_cost: float | None = _api(None, "stop before the answers in the folder cost more than this, dollars")
    price_in: float | None = _api(None, "dollars per million tokens read; none: the published price")
    price_out: float | None = _api(None, "dollars per million tokens written; none: the published price")
    served_name: str | None = _api(None, "name that the server may answer under, if it is not that of the model")
    probe: bool = _api(
        True, "eval and calibrate: ask about three test pictures first, and end where the model does not see them"
    )

    @chz.validate
    def _check_api(self):
        positive(self, "concurrency", "request_timeout_s", "max_cost")
        not_negative(self, "price_in", "price_out")
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in= and price_out=: give both or neither")
        if self.thinking is not None and not self.thinking.isdecimal() and self.thinking not in EFFORTS:
            raise ValueError(f"thinking={self.thinking}: must be a number of tokens or {listed(EFFORTS)}")
        self.api_options()

    def api_options(self) -> Options:
        """How requests are sent; ValueError where `extra_body` is no JSON object."""
        try:
            extra = json.loads(self.extra_body or "{}")
        except ValueError as error:
            raise ValueError(f"extra_body={self.extra_body}: not JSON ({error})") from None
        if not isinstance(extra, dict):
            raise ValueError(f"extra_body={self.extra_body}: must be a JSON object")
        return Options(self.request_timeout_s, self.thinking, extra)
