"""A reply: the text of one answer with how it ended, which says more of a failed answer than its text does."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from geospot.answer.endings import CUT_OFF, FILTERED, REFUSED, REQUEST_FAILED
from geospot.answer.parse import Answer, parse_answer
from geospot.answer.regex import lazy

# How a reply ended -> why there is no answer, where none can be read in its text. "stop" is an ordinary end, "error"
# a request that failed for good.
FAILURES = {"length": CUT_OFF, "refusal": REFUSED, "safety": FILTERED, "error": REQUEST_FAILED}
_THOUGHTS = lazy(r"\s*(?:<(think|thinking|thought)>)?(.*?)</(?:think|thinking|thought)>\s*", re.DOTALL)
_OPEN = lazy(r"\s*<(think|thinking|thought)>", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """One answer of a model. `finish`: "stop", or a key of FAILURES; `detail` says more of it, its reason before ": ".

    `thoughts` are what the model thought before, apart from its answer. Of a model behind an API: `served` is the
    name that the server says it has, `tokens_in` and `tokens_out` what it counted (None: it did not say).
    """

    text: str
    finish: str = "stop"
    detail: str = ""
    thoughts: str = ""
    served: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None

    @classmethod
    def of(cls, value: "str | Reply") -> "Reply":
        """A reply as it is, or one that is nothing but a text."""
        return value if isinstance(value, Reply) else cls(value)

    @classmethod
    def read(cls, text: str, about: Mapping[str, Any]) -> "Reply":
        """From a line of a log: the text, and what `about` says."""
        return cls(text, **{key: value for key, value in about.items() if key in cls.__dataclass_fields__})

    def about(self) -> dict[str, Any]:
        """What there is to say beside the text, for a log; empty for an ordinary end."""
        usual = Reply("")
        return {k: v for k, v in asdict(self).items() if k != "text" and v != getattr(usual, k)}

    def without_thoughts(self) -> "Reply":
        """With thoughts that the text begins with (`<think>...</think>`, unclosed, or opened in the prompt) apart."""
        found = _THOUGHTS.match(self.text)
        if found is not None:
            return replace(self, text=self.text[found.end() :], thoughts=self.thoughts + found[2].strip())
        if (opened := _OPEN.match(self.text)) is not None:
            return replace(self, text="", thoughts=self.thoughts + self.text[opened.end() :].strip())
        return self


def read_reply(reply: Reply) -> Answer:
    """The answer in its text; where there is none, `error` says how the reply ended if that was no ordinary end."""
    answer = parse_answer(reply.text)
    if answer.ok or reply.finish not in FAILURES:
        return answer
    why, reason = FAILURES[reply.finish], reply.detail.partition(": ")[0]
    return replace(answer, error=f"{why} ({reason})" if reply.finish == "error" and reason else why)
