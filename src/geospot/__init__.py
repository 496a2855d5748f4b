"""Teach a vision-language model to say where on Earth a picture was taken.

    from geospot import Guesser, score

`Guesser` opens a model and guesses; `score` turns guesses and truths into metrics with intervals. Both are imported
when they are first used, so that `import geospot` costs nothing.
"""

from typing import TYPE_CHECKING

from geospot._version import __version__

__all__ = ["Guesser", "__version__", "score"]

if TYPE_CHECKING:
    from geospot.asking.guesser import Guesser
    from geospot.scoring.api import score


def __getattr__(name: str) -> object:
    if name == "Guesser":
        from geospot.asking.guesser import Guesser

        return Guesser
    if name == "score":
        from geospot.scoring.api import score

        return score
    raise AttributeError(f"module 'geospot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
