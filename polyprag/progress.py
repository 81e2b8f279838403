"""Progress of a stage on stderr: a bar on a terminal, a plain line every few seconds elsewhere.

Rates begin with the first units that are done: what came before, such as loading a model or
starting Ray, says nothing of the time that is left.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from sharding.printable import printable
from sharding.shown_progress import Advance

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_OF_SILENCE = 30.0  # after which a line comes though nothing has been done
_RATE_OVER_SECONDS = 30.0


@contextmanager
def progress(
    total: int | None,
    description: str,
    *,
    unit: str,
    start: int = 0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Shows how far a stage is, its rate and the time left.

    Args:
        total: how many units there will be; None if nobody knows.
        description: what is being done, such as "preparing".
        unit: what is counted, in the plural.
        start: units that were done before; they don't count for the rate.
        stream: where to show it; stderr by default.
        clock: seconds, for the plain lines.

    Yields:
        A function that takes the number of further units done, and a note such as the loss.
    """
    stream = sys.stderr if stream is None else stream
    description = printable(description)
    if stream.isatty():
        with _bar(total, description, unit, start, stream) as advance:
            yield advance
    else:
        with _lines(total, description, unit, start, stream, clock) as advance:
            yield advance


@contextmanager
def _bar(
    total: int | None, description: str, unit: str, start: int, stream: TextIO
) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class CountColumn(ProgressColumn):
        """`1,200/3,000 passages  400/s`."""

        def render(self, task: Task) -> Text:
            return Text(_count(int(task.completed), total, unit, task.finished_speed or task.speed))

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        CountColumn(),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("left"),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(description, total=total, completed=start, note="")

        def advance(done: int, note: str = "", /) -> None:
            bar.update(task, advance=done, note=printable(note))

        yield advance


@contextmanager
def _lines(
    total: int | None,
    description: str,
    unit: str,
    start: int,
    stream: TextIO,
    clock: Callable[[], float],
) -> Iterator[Advance]:
    started = shown = clock()
    finished = start
    last_note = ""
    samples: deque[tuple[float, int]] = deque()  # (time, units done), about one a second
    changing = threading.Lock()

    def recent_rate(now: float) -> float | None:
        if not samples or now <= samples[0][0]:
            return None
        return (finished - samples[0][1]) / (now - samples[0][0])

    def line(rate: float | None) -> str:
        text = f"{description}: {_count(finished, total, unit, rate)}"
        return f"{text}, {last_note}" if last_note else text

    def show(now: float) -> None:
        nonlocal shown
        shown, rate = now, recent_rate(now)
        text = line(rate)
        if total is not None and rate and finished < total:
            text += f", {_duration((total - finished) / rate)} left"
        elif rate is None:
            text += f", {_duration(now - started)} so far"
        print(text, file=stream, flush=True)

    def advance(done: int, note: str = "", /) -> None:
        nonlocal finished, last_note
        with changing:
            finished, last_note = finished + done, printable(note)
            now = clock()
            while len(samples) > 1 and samples[1][0] <= now - _RATE_OVER_SECONDS:
                samples.popleft()
            if now - shown >= _SECONDS_BETWEEN_LINES:
                show(now)
            if done and (not samples or now - samples[-1][0] >= 1):
                samples.append((now, finished))

    def break_silence(stop: threading.Event) -> None:
        while not stop.wait(_SECONDS_OF_SILENCE / 10):
            with changing:
                if clock() - shown >= _SECONDS_OF_SILENCE:
                    show(clock())

    ended = threading.Event()
    thread = threading.Thread(target=break_silence, args=(ended,), name="progress", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()
    passed = clock() - started
    whole = line((finished - start) / passed if passed > 0 else None)
    print(f"{whole}, {_duration(passed)} in all", file=stream, flush=True)


def _count(done: int, total: int | None, unit: str, rate: float | None) -> str:
    text = f"{done:,}" if total is None else f"{done:,}/{total:,}"
    if not rate:
        return f"{text} {unit}"
    return f"{text} {unit}, {rate:,.0f}/s" if rate >= 10 else f"{text} {unit}, {rate:.2g}/s"


def _duration(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}"
