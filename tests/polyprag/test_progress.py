"""Progress on a terminal and elsewhere."""

import io
import threading
import time

import pytest

import polyprag.progress as module
from polyprag.progress import progress


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_every_few_seconds_with_rate_and_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(3000, "preparing", unit="passages", stream=stream, clock=clock) as advance:
        for _ in range(20):
            clock.now += 1
            advance(100)
    assert stream.getvalue().splitlines() == [
        "preparing: 500/3,000 passages, 100/s, 0:00:25 left",
        "preparing: 1,000/3,000 passages, 100/s, 0:00:20 left",
        "preparing: 1,500/3,000 passages, 100/s, 0:00:15 left",
        "preparing: 2,000/3,000 passages, 100/s, 0:00:10 left",
        "preparing: 2,000/3,000 passages, 100/s, 0:00:20 in all",
    ]


def test_resumed_work_counts_no_earlier_units_in_its_rate_and_shows_the_note() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(100, "encoding", unit="steps", start=50, stream=stream, clock=clock) as advance:
        clock.now += 10
        advance(20, "loss 1.250")
        clock.now += 5
        advance(5, "loss 1.200")
    assert stream.getvalue().splitlines() == [
        "encoding: 70/100 steps, loss 1.250, 0:00:10 so far",
        "encoding: 75/100 steps, 1/s, loss 1.200, 0:00:25 left",  # 5 steps in 5 s, 25 to do
        "encoding: 75/100 steps, 1.7/s, loss 1.200, 0:00:15 in all",  # 25 in 15 s
    ]


def test_the_start_counts_neither_for_the_rate_nor_for_the_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(1000, "encoding", unit="steps", stream=stream, clock=clock) as advance:
        clock.now += 100  # Ray starts, workers load the model
        for _ in range(50):
            advance(10)
            clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines[0] == "encoding: 10/1,000 steps, 0:01:40 so far"
    assert lines[1] == "encoding: 60/1,000 steps, 10/s, 0:01:34 left"  # 940 steps, 10 a second
    assert lines[-2] == "encoding: 460/1,000 steps, 10/s, 0:00:54 left"
    assert lines[-1] == "encoding: 500/1,000 steps, 3.3/s, 0:02:30 in all"


def test_silent_work_says_now_and_then_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), Clock()
    monkeypatch.setattr(module, "_SECONDS_OF_SILENCE", 0.2)  # the thread looks every 20 ms
    with progress(55, "training rows", unit="passages", stream=stream, clock=clock) as advance:
        clock.now += 40
        while "0:00:40 so far" not in stream.getvalue():
            time.sleep(0.01)
        advance(10)
        clock.now += 10
        advance(10)
        clock.now += 10
        while "0:01:10 left" not in stream.getvalue():  # 35 to do, 10 in 20 s
            time.sleep(0.01)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training rows: 0/55 passages, 0:00:40 so far"
    assert lines[-2] == "training rows: 20/55 passages, 0.5/s, 0:01:10 left"


def test_errors_of_the_work_come_through_and_nothing_goes_on_counting() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), progress(5, "adding", unit="rows", stream=stream):
        raise ZeroDivisionError
    assert [thread.name for thread in threading.enumerate()].count("progress") == 0


def test_unknown_total_and_slow_work() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(None, "asking", unit="questions", stream=stream, clock=clock) as advance:
        clock.now += 4000
        advance(2000)
    assert stream.getvalue().splitlines() == [
        "asking: 2,000 questions, 1:06:40 so far",
        "asking: 2,000 questions, 0.5/s, 1:06:40 in all",
    ]


def test_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with progress(10, "indexing", unit="passages", stream=stream) as advance:
        advance(9)
        advance(1, "loss [0.5]")
    assert "loss [0.5]" in stream.getvalue()
    assert "indexing" in stream.getvalue()
    assert "10/10" in stream.getvalue()
