"""Progress: a sensible time left, plain lines where there is no terminal, nothing that breaks the work."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.progress import Progress, Quiet, RateMeter, clock_time, is_live_terminal, short_number, table, true_minus


class Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run_bar(total, seconds_each, **options):
    clock, stream = Clock(), io.StringIO()
    with Progress("GRPO", total, stream=stream, clock=clock, **options) as bar:
        for number, seconds in enumerate(seconds_each):
            clock.now += seconds
            bar.advance(1, reward=0.3125 + number, median_km=1512.4)
    return stream.getvalue().splitlines()


def test_plain_lines_at_most_every_so_often_and_a_last_one():
    assert run_bar(10, [1.0] * 10, every_s=4) == [
        "GRPO 1/10 (10%) 1/s ETA 0:09 reward=0.312 median_km=1512",
        "GRPO 5/10 (50%) 1/s ETA 0:05 reward=4.31 median_km=1512",
        "GRPO 9/10 (90%) 1/s ETA 0:01 reward=8.31 median_km=1512",
        "GRPO 10/10 (100%) done in 0:10 reward=9.31 median_km=1512",
    ]


def test_numbers_change_between_two_advances_without_counting_as_one():
    clock, stream = Clock(), io.StringIO()
    with Progress("GRPO", 2, stream=stream, clock=clock, every_s=4) as bar:
        for finished in range(3):
            bar.show(sampled=finished, in_flight=2 - finished)
            clock.now += 3
        bar.show(sampled=None, in_flight=None)
        bar.advance(1, reward=1)
    assert stream.getvalue().splitlines() == [
        "GRPO 0/2 (0%) sampled=0 in_flight=2",
        "GRPO 0/2 (0%) sampled=2 in_flight=0",
        "GRPO 1/2 (50%) done in 0:09 reward=1",
    ]


def test_resumed_work_counts_from_where_it_was_but_its_rate_does_not():
    lines = run_bar(100, [2.0], initial=90)
    assert lines[0] == "GRPO 91/100 (91%) 2 s each ETA 0:18 reward=0.312 median_km=1512"


def test_without_a_total_there_is_no_eta():
    assert run_bar(None, [0.1])[0] == "GRPO 1 10/s reward=0.312 median_km=1512"


def test_an_error_is_not_called_done():
    stream = io.StringIO()
    bar = Progress("SFT", 3, stream=stream)
    with pytest.raises(ZeroDivisionError), bar:
        bar.advance(1 // bar.done)
    assert stream.getvalue() == "SFT 0/3 (0%) stopped after 0:00\n"


def test_a_closed_stream_does_not_stop_the_work():
    stream = io.StringIO()
    with Progress("SFT", 3, stream=stream) as bar:
        stream.close()
        bar.advance()
        bar.advance()


def test_one_slow_step_does_not_swing_the_eta():
    meter, now = RateMeter(0.0), 0.0
    for _ in range(50):
        now += 2.0
        meter.advance(1, now)
    assert meter.seconds_left(100, now) == pytest.approx(200)
    now += 20.0  # a checkpoint: ten times as long
    meter.advance(1, now)
    assert 200 < meter.seconds_left(100, now) < 400
    for _ in range(60):  # and it is forgotten
        now += 2.0
        meter.advance(1, now)
    assert meter.seconds_left(100, now) == pytest.approx(200, rel=0.05)


def test_the_eta_follows_a_lasting_change_of_speed():
    meter, now = RateMeter(0.0), 0.0
    for seconds in [1.0] * 100 + [5.0] * 30:
        now += seconds
        meter.advance(1, now)
    assert meter.seconds_left(10, now) == pytest.approx(50, rel=0.1)


def test_the_eta_counts_down_during_a_step_and_never_below_the_work_after_it():
    meter = RateMeter(0.0)
    assert meter.seconds_left(10, 5.0) is None
    meter.advance(1, 10.0)
    assert meter.seconds_left(9, 10.0) == 90
    assert meter.seconds_left(9, 14.0) == 86
    assert meter.seconds_left(9, 50.0) == 80  # the step hangs: the other eight are still to come
    assert meter.seconds_left(0, 50.0) == 0


PROGRAM = """
import sys
from geospot.progress import Progress
with Progress("GRPO [x]", total=3) as bar:
    for _ in range(3):
        bar.advance(1, reward=0.5)
        print("a line of the loop", flush=True)
"""


def run_on_terminal(program=PROGRAM, stdout=None, **environment):
    """Run a program on a pseudo-terminal (its standard output elsewhere if given); returns what the terminal got."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"} | environment
    streams = {"stdin": theirs, "stdout": stdout or theirs, "stderr": theirs}
    with subprocess.Popen([sys.executable, "-c", program], env=env, **streams) as child:
        os.close(theirs)
        data = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                part = b""
            if not part:
                break
            data += part
        os.close(ours)
    assert child.returncode == 0, data.decode()
    return data.decode()


def test_on_a_terminal_the_bar_is_drawn_again_and_prints_stay_whole():
    pytest.importorskip("rich")
    text = run_on_terminal()
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "GRPO [x]" in plain
    assert "3/3 (100%)" in plain
    assert "reward=0.5" in plain
    assert [part.strip() for part in re.split(r"[\r\n]", plain)].count("a line of the loop") == 3


def test_output_to_a_file_stays_out_of_the_bar(tmp_path):
    with open(tmp_path / "out", "w+") as out:
        text = run_on_terminal(stdout=out)
    assert "a line of the loop" not in text
    assert (tmp_path / "out").read_text() == "a line of the loop\n" * 3


NESTED = """
from geospot.progress import Progress
with Progress("GRPO", total=2) as outer:
    for _ in range(2):
        with Progress("evaluate", total=1) as inner:
            inner.advance()
        outer.advance()
with Progress("after", total=1) as bar:
    bar.advance()
"""


def test_a_bar_inside_a_bar_prints_plain_lines():
    pytest.importorskip("rich")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run_on_terminal(NESTED))
    parts = [part.strip() for part in re.split(r"[\r\n]", plain)]
    assert parts.count("evaluate 1/1 (100%) done in 0:00") == 2
    assert any(part.startswith("GRPO \u2501") for part in parts)
    assert any(part.startswith("after \u2501") for part in parts)


def test_no_color_means_no_color():
    pytest.importorskip("rich")
    text = run_on_terminal(NO_COLOR="1")
    assert "3/3" in text
    assert not re.search(r"\x1b\[(3|4|9)[0-9;]*m", text)


def test_a_dumb_terminal_gets_plain_lines():
    text = run_on_terminal(TERM="dumb")
    assert "\x1b" not in text
    assert text.replace("\r\n", "\n").count("\r") == 0
    assert "GRPO [x] 3/3 (100%) done in 0:00 reward=0.5" in text


def test_a_pipe_gets_plain_lines():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "a line of the loop\n" * 3
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("GRPO [x] 1/3 (33%) ")
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


def test_streams_that_are_no_terminals():
    closed = io.StringIO()
    closed.close()
    assert not is_live_terminal(closed)
    assert not is_live_terminal(object())
    assert not is_live_terminal(io.StringIO())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00"), (5.4, "0:05"), (59.6, "1:00"), (3599, "59:59"), (3723, "1:02:03"), (183845, "2d 03:04:05")],
)
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.31249, "0.312"),
        (1234.56, "1235"),
        (1e9, "1e+09"),
        (7, "7"),
        (float("nan"), "nan"),
        (None, "None"),
        ("a", "a"),
    ],
)
def test_short_number(value, text):
    assert short_number(value) == text


def test_table_aligns_words_left_and_numbers_right():
    rows = [{"set": "im2gps3k", "n": 2997, "km": 1512.44}, {"set": "mine", "n": 5, "km": None}]
    assert table(rows).splitlines() == [
        "set          n    km",
        "im2gps3k  2997  1512",
        "mine         5",
    ]
    assert table([]) == ""


WORDS = st.text("abc-", min_size=1, max_size=12)


@given(
    st.lists(st.lists(WORDS, min_size=9, max_size=9), min_size=1, max_size=5),
    st.lists(st.text("AB", min_size=1, max_size=9), min_size=9, max_size=9, unique=True),
    st.integers(30, 120),
)
def test_a_table_fits_and_loses_no_cell(values, names, width):
    """Columns that do not fit are continued below, each block with the first column again."""
    text = table([dict(zip(names, row, strict=True)) for row in values], width)
    assert max(map(len, text.splitlines())) <= width
    blocks = [[line.split() for line in block.splitlines()] for block in text.split("\n\n")]
    for number, row in enumerate([names, *values]):
        assert [cell for block in blocks for cell in block[number][1:]] == row[1:]
        assert {block[number][0] for block in blocks} == {row[0]}


def test_a_long_name_is_cut_before_a_number_is():
    (head, row) = table([{"model": "x" * 200, "median km": "1234"}], 60).splitlines()
    assert row.endswith("…  1234")
    assert len(row) <= 60
    assert head.endswith("median km")


def test_numbers_below_zero_have_minus_signs_and_names_keep_their_hyphens():
    assert table([{"run": "-1", "difference": "-27 [-32, -.5]", "also": "run-3 2026-01"}]).splitlines()[1] == (
        "-1   −27 [−32, −.5]  run-3 2026-01"
    )


def test_an_encoding_without_minus_signs_keeps_hyphens(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert true_minus("-27") == "-27"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_styles_on_a_terminal_only_and_never_with_no_color(monkeypatch):
    rows = [Quiet(model="base", km="20015"), {"model": "SFT", "km": "89"}]
    assert "\033" not in table(rows)
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert table(rows).splitlines() == ["\033[1mmodel  km\033[0m", "\033[2mbase   20015\033[0m", "SFT    89"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in table(rows)
