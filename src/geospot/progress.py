"""How far long work is and when it will be done: a live bar on a terminal, now and then a plain line elsewhere."""

import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import Task
    from rich.text import Text

_MEMORY_S = 30.0  # how far back the rate looks, in seconds...
_MEMORY_KEEP = 0.9  # ...but never less than about ten advances, however slow they are


class RateMeter:
    """A smoothed rate and the time left; recent advances weigh more, one slow step does not swing it."""

    def __init__(self, now: float) -> None:
        """Start the clock at `now` (seconds)."""
        self._last = now
        self._items = 0.0  # decayed sums
        self._seconds = 0.0
        self._last_items = 0

    def advance(self, items: int, now: float) -> None:
        """`items` more were done, as of `now`."""
        took = max(now - self._last, 0.0)
        keep = max(math.exp(-took / _MEMORY_S), _MEMORY_KEEP)
        self._items = self._items * keep + items
        self._seconds = self._seconds * keep + took
        self._last, self._last_items = now, items

    @property
    def rate(self) -> float | None:
        """Items a second; None before anything was measured."""
        return self._items / self._seconds if self._items > 0 and self._seconds > 0 else None

    def seconds_left(self, remaining: int, now: float) -> float | None:
        """Seconds until `remaining` items are done; it counts down while an advance is awaited."""
        if remaining <= 0:
            return 0.0
        if self.rate is None:
            return None
        # The advance under way is not over, however long it takes: the work after it is the least that is left.
        after_this = max(remaining - self._last_items, 0) / self.rate
        return max(remaining / self.rate - (now - self._last), after_this)


class Progress:
    """`with Progress("GRPO", total=100) as bar: bar.advance(1, reward=0.31, median_km=512)`.

    On a terminal a rich bar; on a pipe, in CI, with TERM=dumb or without rich a plain line at most every `every_s`
    seconds, free of control characters. NO_COLOR is respected. Trouble with the stream never stops the work. Inside
    another bar (an evaluation during training) it prints plain lines, since two bars would draw over each other.
    """

    _drawing = False  # whether a bar of this process is on the terminal now

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        initial: int = 0,
        every_s: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`initial`: items done before (resumed work), which count for the bar but not for the rate."""
        self.title, self.total, self.done = title, total, initial
        self._initial, self._every_s, self._clock = initial, every_s, clock
        self._stream = sys.stderr if stream is None else stream
        self._live: dict[str, object] = {}
        self._started = clock()
        self._meter = RateMeter(self._started)
        self._printed = -math.inf
        self._bar: Bar | None = None

    def __enter__(self) -> "Progress":
        """Start the clock and, on a terminal, the bar."""
        self._started = self._clock()
        self._meter = RateMeter(self._started)
        if not Progress._drawing and is_live_terminal(self._stream):
            self._bar = _rich_bar(self, self._stream)
        if self._bar is not None:
            self._bar.start()
            Progress._drawing = True
        return self

    def advance(self, items: int = 1, **live: object) -> None:
        """`items` more are done; `live` are the few numbers to show (kept until given again)."""
        now = self._clock()
        self.done += items
        self._meter.advance(items, now)
        self._live |= live
        self._redraw(now)

    def show(self, **live: object) -> None:
        """Change the numbers to show, without an advance; None takes one away."""
        self._live = {name: value for name, value in (self._live | live).items() if value is not None}
        self._redraw(self._clock())

    def _redraw(self, now: float) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif now - self._printed >= self._every_s:
            self._printed = now
            self._print(f"{self.title} {self.counts()} {self.details()}")

    def __exit__(self, kind: type | None, *exc_info: object) -> None:
        """Stop the bar, or print the last line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            Progress._drawing = False
            return
        word = "done in" if kind is None else "stopped after"
        took = clock_time(self._clock() - self._started)
        self._print(f"{self.title} {self.counts()} {word} {took} {self._live_text()}")

    def counts(self) -> str:
        """'12/100 (12%)', or '12' when the total is not known."""
        if not self.total:
            return str(self.done)
        return f"{self.done}/{self.total} ({100 * self.done // self.total}%)"

    def details(self) -> str:
        """Rate, time left and the live numbers."""
        rate = self._meter.rate
        speed = "" if rate is None else f"{rate:.3g}/s " if rate >= 1 else f"{1 / rate:.3g} s each "
        left = None if self.total is None else self._meter.seconds_left(self.total - self.done, self._clock())
        return f"{speed}{'' if left is None else f'ETA {clock_time(left)} '}{self._live_text()}"

    def _live_text(self) -> str:
        return " ".join(f"{name}={short_number(value)}" for name, value in self._live.items())

    def _print(self, line: str) -> None:
        try:
            print(line.rstrip(), file=self._stream, flush=True)
        except (OSError, ValueError):  # a closed pipe or stream
            self._every_s = math.inf


def is_live_terminal(stream: TextIO) -> bool:
    """Whether a line on `stream` can be drawn again: a terminal that is not a dumb one."""
    try:
        return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    except (AttributeError, ValueError):
        return False


def _rich_bar(progress: Progress, stream: TextIO) -> "Bar | None":
    """A rich bar that shows `progress`, or None where rich is not installed (the light install)."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text
    except ImportError:
        return None

    class Details(ProgressColumn):
        def render(self, task: "Task") -> "Text":
            return Text(f"{progress.counts()} {progress.details()}")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), Details())
    # rich leads prints around the bar to the bar's own stream: right for a terminal, wrong for `geospot ... > file`.
    to_terminal = is_live_terminal(sys.stdout)
    bar = RichProgress(*columns, console=Console(file=stream), refresh_per_second=4, redirect_stdout=to_terminal)
    bar.add_task(progress.title, total=progress.total, completed=progress.done)
    return bar


def clock_time(seconds: float) -> str:
    """'0:05', '12:34', '1:02:03', '2d 03:04:05'."""
    whole = round(max(seconds, 0.0))
    days, rest = divmod(whole, 86_400)
    hours, minutes, secs = rest // 3600, rest // 60 % 60, rest % 60
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{secs:02}"
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def short_number(value: Any) -> str:
    """Three significant digits, without exponents where a person would write none: 0.312, 12.3, 1235."""
    if isinstance(value, bool | int | str) or value is None:
        return str(value)
    number = float(value)
    return f"{number:.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"


PAGE_COLUMNS = 100  # of a pipe or a file, which have no width; a terminal's own is used where there is one
_GAP = "  "


class Quiet(dict):
    """A table's row that says nothing, such as a model none of whose answers could be read: a terminal shows it dim."""


def table(rows: Iterable[Mapping[str, object]], width: int | None = None) -> str:
    """Rows as text in aligned columns, headed by the first row's keys; numbers stand to the right.

    What does not fit in `width` characters (none: the terminal's, 100 in a file) is continued in further blocks that
    repeat the first column. On a terminal with colour the heading is bold and a `Quiet` row dim.
    """
    rows = list(rows)
    if not rows:
        return ""
    lines = [[str(name) for name in rows[0]], *([_cell(row.get(name)) for name in rows[0]] for row in rows)]
    lines = [[line[0], *map(true_minus, line[1:])] for line in lines]
    left = [isinstance(value, str) for value in rows[0].values()]
    if width is None:
        width = shutil.get_terminal_size((PAGE_COLUMNS, 24)).columns if sys.stdout.isatty() else PAGE_COLUMNS
    styles = ["1", *("2" if isinstance(row, Quiet) else "" for row in rows)] if has_colour(sys.stdout) else None
    return "\n\n".join(_block(block, left, columns, styles) for block, columns in _blocks(lines, width))


def _cell(value: object) -> str:
    return "" if value is None else short_number(value)


def _blocks(lines: list[list[str]], width: int) -> list[tuple[list[list[str]], list[int]]]:
    """The cells of each block with the numbers of its columns, the first of which is the table's first."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widest = max(widths[1:], default=0)
    first = min(widths[0], max(width - widest - len(_GAP), 16))  # of a long name the end is cut rather than a number
    blocks: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        used = first + sum(len(_GAP) + widths[c] for c in blocks[-1][1:])
        if len(blocks[-1]) > 1 and used + len(_GAP) + widths[column] > width:
            blocks.append([0])
        blocks[-1].append(column)
    lines = [[line[0] if len(line[0]) <= first else line[0][: first - 1] + "…", *line[1:]] for line in lines]
    return [([[line[c] for c in columns] for line in lines], columns) for columns in blocks]


def _block(lines: list[list[str]], left: list[bool], columns: list[int], styles: list[str] | None) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for number, line in enumerate(lines):
        padded = (cell.ljust(w) if left[c] else cell.rjust(w) for cell, w, c in zip(line, widths, columns, strict=True))
        shown = _GAP.join(padded).rstrip()
        text.append(f"\033[{styles[number]}m{shown}\033[0m" if styles and styles[number] else shown)
    return "\n".join(text)


def has_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that shows styles; NO_COLOR (no-color.org) and TERM=dumb are respected."""
    return not os.environ.get("NO_COLOR") and is_live_terminal(stream)


def true_minus(text: str) -> str:
    """`text` with minus signs before numbers, not hyphens, where the terminal's encoding has them."""
    try:
        MINUS.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return text
    return with_minus_signs(text)


def with_minus_signs(text: str) -> str:
    """`text` with minus signs in place of hyphens before numbers."""
    return _HYPHEN_AS_MINUS.sub(MINUS, text)


MINUS = "\N{MINUS SIGN}"
_HYPHEN_AS_MINUS = re.compile(r"(?<![^\s\[(,])-(?=[\d.])")  # a number's, not that of "run-3" or "2026-01"
