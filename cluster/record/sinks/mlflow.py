"""MLflow: one MLflow run for each run, which every restart finds by its tag and goes on with."""

import os
import time
from collections.abc import Mapping
from typing import Any

from cluster.record.metrics import StepMetrics, scalars
from polyprag.config import LogConfig

RUN_ID_TAG = "polyprag.run_id"
_MAX_METRICS = 1000  # of one request, as the server has it
_MAX_PARAMS = 100


class MlflowSink:
    """Logs to the MLflow run that is tagged with the run's id.

    Credentials come from the environment, as MLflow defines them: MLFLOW_TRACKING_TOKEN, or
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """

    def __init__(
        self, run_dir: str, config: LogConfig, *, run_id: str, settings: Mapping[str, Any]
    ) -> None:
        """Makes or finds the MLflow run; may take as long as its server does.

        Args:
            run_dir: a path or URL, whose last part names the MLflow run.
            config: `mlflow_uri` and `mlflow_experiment`.
            run_id: of the run.
            settings: of the training, by their dotted keys; parameters of the MLflow run, which
                keep the values that they begin with.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # BackgroundSink tries again
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=config.mlflow_uri)
        self._pending: list[Any] = []
        experiment = self._client.get_experiment_by_name(config.mlflow_experiment)
        experiment_id: str = (
            experiment.experiment_id
            if experiment is not None
            else self._client.create_experiment(config.mlflow_experiment)
        )
        found = self._client.search_runs(
            [experiment_id], filter_string=f"tags.`{RUN_ID_TAG}` = '{run_id}'", max_results=1
        )
        if found:
            self._id: str = found[0].info.run_id
            self._last_step = int(found[0].data.metrics.get("step", 0))
            self._client.update_run(self._id, status="RUNNING")
        else:
            name = run_dir.rstrip("/").rpartition("/")[2]
            tags = {RUN_ID_TAG: run_id, "polyprag.run_dir": run_dir}
            run = self._client.create_run(experiment_id, tags=tags, run_name=name)
            self._id, self._last_step = run.info.run_id, 0
            self._log_params(settings)

    def write(self, metrics: StepMetrics) -> None:
        """Keeps a step for `flush`, unless the MLflow run has it already."""
        from mlflow.entities import Metric

        if metrics.step <= self._last_step:
            return
        now_ms = int(time.time() * 1000)
        values = {**scalars(metrics), "step": metrics.step}
        self._pending += [Metric(key, value, now_ms, metrics.step) for key, value in values.items()]

    def flush(self) -> None:
        """Sends what is kept; it stays kept where that fails."""
        while self._pending:
            batch = self._pending[:_MAX_METRICS]
            self._client.log_batch(self._id, metrics=batch)
            self._last_step = batch[-1].step
            del self._pending[: len(batch)]

    def close(self, *, failed: bool = False) -> None:
        """Sends what is kept, and ends the MLflow run."""
        self.flush()
        self._client.set_terminated(self._id, status="FAILED" if failed else "FINISHED")

    def _log_params(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in settings.items()]
        for first in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MAX_PARAMS])
