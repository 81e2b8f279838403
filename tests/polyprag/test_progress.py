"""Progress on a terminal and elsewhere."""

import io

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
        "preparing: 2,000/3,000 passages, 100/s, 0:00:10 left, 0:00:20 in all",
    ]


def test_resumed_work_counts_no_earlier_units_in_its_rate_and_shows_the_note() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(100, "encoding", unit="steps", start=50, stream=stream, clock=clock) as advance:
        clock.now += 10
        advance(20, "loss 1.250")
    assert stream.getvalue().splitlines()[0] == (
        "encoding: 70/100 steps, 2/s, loss 1.250, 0:00:15 left"
    )


def test_slow_start_stops_counting_for_the_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(1000, "encoding", unit="steps", stream=stream, clock=clock) as advance:
        clock.now += 100  # loading
        for _ in range(50):
            advance(10)
            clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines[0] == "encoding: 10/1,000 steps, 0.1/s, 2:45:00 left"
    assert lines[-2] == "encoding: 460/1,000 steps, 10/s, 0:00:54 left"
    assert lines[-1] == "encoding: 500/1,000 steps, 3.3/s, 0:02:30 left, 0:02:30 in all"


def test_unknown_total_and_slow_work() -> None:
    stream, clock = io.StringIO(), Clock()
    with progress(None, "asking", unit="questions", stream=stream, clock=clock) as advance:
        clock.now += 4000
        advance(2000)
    assert stream.getvalue().splitlines() == [
        "asking: 2,000 questions, 0.5/s",
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
