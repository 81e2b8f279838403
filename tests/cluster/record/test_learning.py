"""A training whose passages do worse than by the base alone is told of, and no other."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.ray import driver
from cluster.record.learning import Learning, learning_of
from cluster.record.metrics import METRICS_FILE, StepMetrics
from cluster.record.metrics_log import MetricsLog
from cluster.report.status import status_of
from cluster.report.status_text import status_text

STEPS = 8  # an epoch
GOOD = (3.2, 2.5, 1.4)
BAD = (6.2, 6.9, 5.0)  # as 3,000 passages and 128 experts did at ten times their rate


def write(logs: Path, losses: Sequence[float], *, first: int = 1) -> Path:
    log = MetricsLog(str(logs), resumed_step=first - 1)
    for step in range(first, len(losses) * STEPS + 1):
        epoch = (step - 1) // STEPS
        loss = 3.2 if step <= 4 else losses[epoch]
        log.write(StepMetrics(step, epoch, loss, 4, 100, 0.5, 2, 1e-3, 1e-1))
    log.close()
    return logs / METRICS_FILE


@pytest.mark.parametrize(
    ("losses", "has_ended", "is_worse"),
    [
        (GOOD, True, False),
        (BAD, True, True),
        (BAD, False, True),  # by the second epoch
        (BAD[:1], True, False),  # each passage was new
        (BAD[:2], False, False),  # the second epoch isn't over
        ((6.0, 2.0), True, False),
    ],
)
def test_only_passages_that_were_seen_before_tell(
    tmp_path: Path, losses: Sequence[float], has_ended: bool, is_worse: bool
) -> None:
    url = str(write(tmp_path, losses))
    found = learning_of(url, has_ended=has_ended)
    assert (found is not None and found.is_worse) == is_worse
    if found is not None:
        assert found.own == pytest.approx(3.2)
        assert len(found.epochs) == len(losses) - (not has_ended)


def test_nothing_is_said_without_the_first_steps(tmp_path: Path) -> None:
    assert learning_of(str(tmp_path / "none.jsonl"), has_ended=True) is None
    assert learning_of(str(write(tmp_path, BAD, first=5)), has_ended=True) is None
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write("torn\n")
    assert learning_of(str(tmp_path / METRICS_FILE), has_ended=True) is None


def test_it_is_told_once_while_it_trains_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    stop.set()
    url = str(write(tmp_path, BAD))
    driver._follow(url, stop, lambda *_: None, start=0)
    assert "warning: in epoch 2 the loss was 6.90, above the 3.20" in capsys.readouterr().err
    assert driver._tell_if_worse(url, has_ended=True)
    assert "in epoch 3 the loss was 5.00" in capsys.readouterr().err
    url = str(write(tmp_path / "good", GOOD))
    driver._follow(url, stop, lambda *_: None, start=0)
    assert not driver._tell_if_worse(url, has_ended=True)
    assert capsys.readouterr().err == ""


def test_status_warns(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    from sharding.storage.lease import take

    write(tmp_path / "logs", BAD)
    with take(tmp_path / "lease", purpose="encode"):
        found = status_of(str(tmp_path))
        assert "polyprag plan RUN" in status_text(found, str(tmp_path))
        training = found.training
        assert training is not None and training.learning is not None
        assert training.learning.epochs == pytest.approx((4.7, 6.9))
        fine = replace(found, training=replace(training, learning=Learning(3.2, (3.0, 2.0))))
    assert "polyprag plan" not in status_text(fine, str(tmp_path))
