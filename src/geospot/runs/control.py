"""What a loop needs to stop politely and to go on exactly: a stop request on Ctrl-C, random states as JSON."""

import os
import signal
import threading
from contextlib import suppress

import numpy as np

_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937")


class StopRequest:
    """`with StopRequest() as stop:` turns the first SIGINT or SIGTERM into `stop.requested`.

    The loop looks at it after each step, saves and ends. A SIGINT after that raises KeyboardInterrupt at once;
    another SIGTERM (schedulers repeat it) changes nothing. The handlers before are restored at the end. Outside
    the main thread Python allows no handlers: there it does nothing.
    """

    def __init__(self, line: str = "Stopping after this step and saving; press Ctrl-C again to stop at once.") -> None:
        """`line` is what the person reads on standard error."""
        self.requested = False
        self._line = line
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        """Take the two signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the two signals back."""
        for number, handler in self._before.items():
            # A handler set from C reads as None and cannot be set again: the default is the nearest.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _on_signal(self, number: int, frame: object) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        # Not print(): the signal may have come in the middle of one, and buffered streams are not reentrant.
        with suppress(OSError):
            start = "\n" if os.isatty(2) else ""
            os.write(2, f"{start}{self._line}\n".encode())


def rng_state_to_json(rng: np.random.Generator) -> dict:
    """The generator's whole state as plain JSON; whole numbers as decimal strings, since many readers keep 53 bits.

    The seed sequence goes along, so that `rng.spawn` after a resume gives the children it would have given.
    """
    bits = rng.bit_generator
    state = {"state": _encode(bits.state)}
    seeds = getattr(bits, "seed_seq", None)
    if isinstance(seeds, np.random.SeedSequence):
        state["seeds"] = _encode(seeds.state | {"spawn_key": list(seeds.spawn_key)})
    return state


def rng_from_json(state: dict) -> np.random.Generator:
    """A new generator that goes on exactly where the saved one stood."""
    decoded = _decode(state["state"])
    name = decoded["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"bit_generator = {name!r} is not one of {list(_BIT_GENERATORS)}; the saved state is damaged")
    seeds = np.random.SeedSequence(**_decode(state["seeds"])) if "seeds" in state else None
    bits = getattr(np.random, name)(seeds)
    bits.state = decoded
    return np.random.Generator(bits)


def _encode(value: object) -> object:
    if isinstance(value, dict):
        return {key: _encode(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "values": [str(int(number)) for number in value]}
    if isinstance(value, list | tuple):
        return [_encode(part) for part in value]
    return str(int(value)) if isinstance(value, int | np.integer) else value


def _decode(value: object) -> object:
    if isinstance(value, dict):
        if value.keys() == {"dtype", "values"}:
            return np.array([int(number) for number in value["values"]], dtype=value["dtype"])
        return {key: _decode(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_decode(part) for part in value]
    return int(value) if isinstance(value, str) and value.isdecimal() else value
