"""A server that fails, comes back or hangs costs training nothing."""

import threading
import time
from collections.abc import Callable

import pytest

from cluster.record.metrics import StepMetrics
from cluster.record.sinks.background import BackgroundSink

Make = Callable[..., StepMetrics]


class Server:
    """A place that keeps each step once, and refuses the first requests."""

    def __init__(self, *, refusals: int = 0) -> None:
        self.steps: list[int] = []
        self.opened = 0
        self.ended: list[bool] = []
        self.refusals = refusals
        self._sent: list[int] = []

    def open(self) -> "Server":
        self.opened += 1
        self._sent = []
        self._refuse()
        return self

    def write(self, metrics: StepMetrics) -> None:
        if metrics.step not in self.steps:
            self._sent.append(metrics.step)

    def flush(self) -> None:
        self._refuse()
        self.steps += self._sent
        self._sent = []

    def close(self, *, failed: bool = False) -> None:
        self.ended.append(failed)

    def _refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("refused")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("refusals", [0, 1, 2, 3])
def test_every_step_arrives_once_and_in_order(
    refusals: int, step_metrics: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(refusals=refusals)
    sink = BackgroundSink("server", server.open, every_s=0.01, retry_s=0.01)
    for step in range(1, 2501):
        sink.write(step_metrics(step))
    wait_for(lambda: len(server.steps) == 2500)
    sink.write(step_metrics(2501))
    sink.close(failed=True)
    assert server.steps == list(range(1, 2502))
    assert server.ended[-1] is True
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (1 if refusals else 0)


def test_steps_before_the_first_round_arrive_at_the_end(step_metrics: Make) -> None:
    server = Server()
    sink = BackgroundSink("server", server.open, every_s=60)
    for step in range(1, 2501):
        sink.write(step_metrics(step))
    sink.close()
    assert server.steps == list(range(1, 2501))
    assert server.ended == [False]


def test_server_that_is_down_is_told_of_once_and_given_up_at_the_end(
    step_metrics: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(refusals=10**9)
    sink = BackgroundSink("server", server.open, every_s=0.01, retry_s=0.01, max_steps=5)
    for step in range(1, 9):
        sink.write(step_metrics(step))
    wait_for(lambda: server.opened > 3)
    sink.close()
    down, lost = [record.getMessage() for record in caplog.records]
    assert down.startswith("server takes no metrics (ConnectionError: refused); training goes on")
    assert lost == "server: 8 steps weren't sent; metrics.jsonl has them"


def test_server_that_hangs_holds_nobody_up(
    step_metrics: Make, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    def hang() -> Server:
        release.wait()
        return Server()

    sink = BackgroundSink("server", hang, every_s=0.01, closing_s=0.2)
    started = time.monotonic()
    sink.write(step_metrics(1))
    sink.flush()
    assert time.monotonic() - started < 0.1
    sink.close()
    assert time.monotonic() - started < 5
    assert "1 steps weren't sent" in caplog.text
    release.set()
