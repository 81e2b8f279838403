"""The speed of a worker from a run's metrics."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cluster.plan.measured_speed import measured_speed
from cluster.record.metrics import StepMetrics
from polyprag.config import Config
from polyprag.config.files import save_config
from polyprag.errors import RunError


def line(step: int, *, examples: int, seconds: float, world_size: int = 2) -> StepMetrics:
    return StepMetrics(
        step=step,
        epoch=0,
        loss=1.0,
        examples=examples,
        tokens=100 * examples,
        seconds=seconds,
        world_size=world_size,
        experts_lr=0.1,
        rows_lr=0.1,
    )


def write(run: Path, lines: list[StepMetrics], *, lanes: int | None = 3) -> None:
    (run / "logs").mkdir()
    text = "".join(json.dumps(asdict(entry)) + "\n" for entry in lines)
    (run / "logs" / "metrics.jsonl").write_text(text)
    if lanes is not None:
        config = Config()
        save_config(replace(config, data=replace(config.data, lanes=lanes)), run)


def test_rate_is_that_of_the_busiest_worker_in_steady_full_steps(tmp_path: Path) -> None:
    slow = [line(step, examples=12, seconds=9.0) for step in range(1, 11)]
    steady = [line(step, examples=12, seconds=2.0) for step in range(11, 40)]
    stalled = [line(40, examples=12, seconds=50.0)]
    tail = [line(step, examples=4, seconds=0.5) for step in range(41, 50)]
    write(tmp_path, slow + steady + stalled + tail)
    speed = measured_speed(str(tmp_path), Config())
    assert speed is not None
    # 1,200 tokens in 2 s, of which the worker with two of the three lanes had 800.
    assert speed.tokens_per_second == pytest.approx(400)
    assert speed.tokens_per_example == pytest.approx(100)
    assert "30 full steps" in speed.source and "2 workers" in speed.source


def test_without_a_config_lanes_are_taken_to_be_shared_evenly(tmp_path: Path) -> None:
    write(tmp_path, [line(1, examples=12, seconds=2.0)], lanes=None)
    speed = measured_speed(str(tmp_path), Config())
    assert speed is not None and speed.tokens_per_second == pytest.approx(300)


def test_settings_that_change_the_speed_are_named(tmp_path: Path) -> None:
    write(tmp_path, [line(1, examples=12, seconds=2.0)])
    config = Config()
    speed = measured_speed(str(tmp_path), replace(config, experts=replace(config.experts, num=64)))
    assert speed is not None and speed.differences == ("experts.num=16 there, 64 here",)


def test_a_run_that_has_not_trained_has_no_speed(tmp_path: Path) -> None:
    assert measured_speed(str(tmp_path), Config()) is None


@pytest.mark.parametrize("content", ["{}\n", "not json\n", '{"step": 1}\n', "[1]\n"])
def test_damaged_metrics_are_an_error_with_a_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.jsonl").write_text(content)
    with pytest.raises(RunError, match="--tokens-per-second"):
        measured_speed(str(tmp_path), Config())
