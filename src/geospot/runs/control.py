"""What a loop needs to stop politely: a stop request on Ctrl-C."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

GRACE_S = 1.0  # that a step has to come to its end by itself once a stop is asked for
PATIENCE_S = 5.0  # after which a line says what is waited for, and again and again

_LEFT = b"\0"
_STOPS = (bytes([signal.SIGINT]), bytes([signal.SIGTERM]), _LEFT)


class Stopped(KeyboardInterrupt):
    """A loop was asked to stop; it finished its step, saved, and said so. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopRequest:
    """`with StopRequest() as stop:` turns the first SIGINT or SIGTERM into `stop.requested`.

    The loop looks at it after each step, saves and ends. Where that takes long, `give_up()` is called, and a line says
    what is still waited for, again and again. A SIGINT after the first raises KeyboardInterrupt at once; another
    SIGTERM (schedulers repeat it) changes nothing. The handlers before are restored at the end. Outside the main thread
    Python allows no handlers: there it does nothing.
    """

    def __init__(self, line: str = "Stopping after this step and saving; press Ctrl-C again to stop at once.") -> None:
        """`line` is what the person reads on standard error."""
        self.number: int | None = None  # of the signal
        self.give_up: Callable[[], None] = lambda: None
        self.waiting_for: Callable[[], str] = lambda: "the end of the step"
        self._line = line
        self._before: dict[int, Any] = {}
        self._left = threading.Event()
        self._pipe: tuple[int, int] | None = None  # the signals' numbers, for the thread that watches
        self._fd_before = -1

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self.number is not None

    def obey(self) -> None:
        """Raise Stopped where somebody asked: what the command behind this one waits for did not come to its end."""
        if self.number is not None:
            raise Stopped(self.number)

    def __enter__(self) -> "StopRequest":
        """Take the two signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
            # Written to where the signal arrives: a main thread that was about to wait for the engine would only run
            # its handler once the engine has answered.
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._fd_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=self._pipe[:1], name="geospot-stop", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the two signals back."""
        for number, handler in self._before.items():
            # A handler set from C reads as None and cannot be set again: the default is the nearest.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        self._left.set()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._fd_before)
            with suppress(OSError):  # the thread has gone, after a stop
                os.write(self._pipe[1], _LEFT)
            os.close(self._pipe[1])
            self._pipe = None

    def _on_signal(self, number: int, frame: object) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.number = number
        _say(self._line)

    def _watch(self, read: int) -> None:
        """In a thread of its own: what happens while the loop does not come to look."""
        while os.read(read, 1) not in _STOPS:
            pass  # another signal
        if not self._left.wait(GRACE_S):
            self.give_up()
        while not self._left.wait(PATIENCE_S - GRACE_S):
            _say(f"Still waiting for {self.waiting_for()}.")
        os.close(read)


def _say(line: str) -> None:
    # Not print(): the signal may have come in the middle of one, and buffered streams are not reentrant.
    with suppress(OSError):
        start = "\n" if os.isatty(2) else ""
        os.write(2, f"{start}{line}\n".encode())
