"""MLflow with the real library: its file store, and a server that isn't there."""

import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cluster.record.metrics import StepMetrics
from cluster.record.sinks.background import BackgroundSink
from cluster.record.sinks.mlflow import MlflowSink
from polyprag.config import LogConfig

Make = Callable[..., StepMetrics]
pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogConfig:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return LogConfig(
        sinks=["mlflow"], mlflow_uri=(tmp_path / "mlflow").as_uri(), mlflow_experiment="poly"
    )


def test_restart_goes_on_with_the_same_run(config: LogConfig, step_metrics: Make) -> None:
    from mlflow import MlflowClient

    for epochs, steps, failed in ((4, range(1, 151), True), (8, range(101, 203), False)):
        settings = {"train.epochs": epochs, "train.seed": 0}  # more of them after a restart
        sink = MlflowSink("runs/wiki", config, run_id="12ab34cd", settings=settings)
        for step in steps:
            sink.write(step_metrics(step))
        sink.flush()
        client = MlflowClient(config.mlflow_uri)
        experiment = client.get_experiment_by_name("poly")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "RUNNING"
        sink.close(failed=failed)
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == ("FAILED" if failed else "FINISHED")
    assert run.info.run_name == "wiki"
    assert run.data.tags["polyprag.run_id"] == "12ab34cd"
    assert run.data.params == {"train.epochs": "4", "train.seed": "0"}
    history = client.get_metric_history(run.info.run_id, "loss")
    found = sorted((point.step, point.value) for point in history)
    assert found == [(step, 1 / step) for step in range(1, 203)]

    MlflowSink("runs/other", config, run_id="ffffffff", settings={}).close()
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_server_that_is_not_there_is_given_up(
    step_metrics: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = LogConfig(mlflow_uri=f"http://127.0.0.1:{unused.getsockname()[1]}")
        make = partial(MlflowSink, "runs/wiki", config, run_id="12ab34cd", settings={})
        sink = BackgroundSink("mlflow", make, every_s=0.01)
        started = time.monotonic()
        sink.write(step_metrics(1))
        assert time.monotonic() - started < 0.1
        while "mlflow takes no metrics" not in caplog.text:
            assert time.monotonic() - started < 60
            time.sleep(0.05)
        sink.close()
    assert "mlflow: 1 steps weren't sent" in caplog.text
