"""What an `encode` shows while its workers train."""

import threading
from dataclasses import replace

import pytest

from cluster.ray import driver
from cluster.record.metrics import StepMetrics
from polyprag.errors import RunError, StorageError

STEP = StepMetrics(5, 0, 1.0, 4, 100, 0.5, 2, 1e-3, 1e-1)


@pytest.mark.parametrize(
    "hiccup", [StorageError("no answer"), RunError("half a line"), OSError(5, "Input/output error")]
)
def test_progress_goes_on_after_the_storage_has_failed(
    monkeypatch: pytest.MonkeyPatch, hiccup: Exception
) -> None:
    answers: list[Exception | list[StepMetrics]] = [
        hiccup,
        [],
        [STEP],
        hiccup,
        [replace(STEP, step=9)],
    ]
    stop = threading.Event()
    shown: list[int] = []

    def read(url: str, *, most: int) -> list[StepMetrics]:
        if not answers:  # it is over
            stop.set()
            raise hiccup
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(driver, "last_metrics", read)
    monkeypatch.setattr(stop, "wait", lambda seconds: stop.is_set())
    driver._follow("RUN/logs/metrics.jsonl", stop, lambda done, note: shown.append(done), start=3)
    assert shown == [2, 4]
