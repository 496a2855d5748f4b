"""What the engine's thread is at, in words, and where it may be asked to give it up: between layers and tokens."""

import threading

from geospot.errors import Interrupted


class Activity:
    """The work of one engine thread. That thread calls `checkpoint`, any other `interrupt` and `text`."""

    def __init__(self) -> None:
        self._what, self._at, self._of = "", 0, 0
        self.interrupted = False  # what runs now is to be given up

    def begin(self, what: str = "") -> None:
        """What runs from now on; nothing is to be given up of it yet."""
        self._what, self._at, self._of, self.interrupted = what, 0, 0, False

    @property
    def text(self) -> str:
        """As "sampling, token 12 of 64"; empty where nothing runs."""
        return f"{self._what} {self._at} of {self._of}" if self._of else self._what

    def reached(self, what: str, at: int, of: int) -> None:
        """Note the place; raise Interrupted where the work is to be given up."""
        self._what, self._at, self._of = what, at, of
        self.check()

    def check(self) -> None:
        """Raise Interrupted where the work is to be given up."""
        if self.interrupted:
            raise Interrupted(f"given up during {self.text}" if self._what else "given up")


_here = threading.local()


def attach(activity: Activity) -> None:
    """Make it that of the calling thread."""
    _here.activity = activity


def checkpoint(what: str = "", at: int = 0, of: int = 0) -> None:
    """Where work may be given up: raises Interrupted if that was asked for. With words, they are what it is at."""
    if (activity := getattr(_here, "activity", None)) is not None:
        activity.reached(what, at, of) if what else activity.check()
