"""What an operator sees of an `encode` on Ray that was continued."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.record.metrics import StepMetrics
from cluster.record.run_id import run_id_of
from polyprag.config.files import load_config

COMMAND = str(Path(sys.executable).with_name("polyprag"))


def encode(place: Any, *more: str) -> None:
    done = subprocess.run(
        [COMMAND, "encode", str(place.run), *place.overrides(), "cluster.workers=2", *more],
        capture_output=True,
        text=True,
        timeout=900,
        env={
            **os.environ,
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "NO_COLOR": "1",
            "MLFLOW_ALLOW_FILE_STORE": "true",
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr


def train_and_tell(run: Path, overrides: list[str]) -> None:
    """One worker's training with sinks of its own: one that notes its steps, one that fails."""
    from torch import distributed

    from cluster.training.train_encoding import train_encoding

    class Noting:
        def write(self, metrics: StepMetrics) -> None:
            with open(run / f"told-{distributed.get_rank()}", "a") as file:
                file.write(f"{metrics.step} {metrics.rows_loaded_bytes}\n")

        def flush(self) -> None:
            pass

        def close(self, *, failed: bool = False) -> None:
            pass

    class Failing(Noting):
        def write(self, metrics: StepMetrics) -> None:
            raise ConnectionError("gone")

    train_encoding(str(run), load_config([], overrides), sinks=[Failing(), Noting()])


@pytest.mark.slow
def test_every_worker_tells_its_own_sinks_each_step_without_ray(
    workplace: Any, spawn: Callable[..., None]
) -> None:
    spawn(train_and_tell, workplace.run, workplace.overrides(), world_size=2)
    expected = [f"{step['step']} {step['rows_loaded_bytes']}" for step in workplace.metrics()]
    assert len(expected) > 5
    for rank in (0, 1):
        assert (workplace.run / f"told-{rank}").read_text().splitlines() == expected


@pytest.mark.slow
def test_logs_and_sinks_of_both_starts_belong_to_one_run(
    workplace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = (tmp_path / "mlflow").as_uri()
    settings = ["log.format=json", "log.sinks=[mlflow]", f"log.mlflow_uri={uri}"]
    encode(workplace, *settings)
    run_id = run_id_of(str(workplace.run))
    encode(workplace, *settings, "train.epochs=2")
    assert run_id_of(str(workplace.run)) == run_id

    for rank in (0, 1):
        text = (workplace.run / "logs" / f"worker-{rank}.log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert {line["run_id"] for line in lines} == {run_id}
        assert {(line["rank"], line["world_size"]) for line in lines} == {(rank, 2)}
        assert sum(" runs on " in line["message"] for line in lines) == 2

    steps = workplace.metrics()
    assert steps[-1]["checkpoint_step"] > 0
    assert sum(step["rows_loaded_bytes"] for step in steps) > 0
    assert sum(step["rows_saved_bytes"] for step in steps) > 0
    assert not (workplace.run / "logs" / "tensorboard").exists()

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("polyprag")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == [
        (step["step"], step["loss"]) for step in steps
    ]
