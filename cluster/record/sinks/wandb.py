"""Weights & Biases: one W&B run for each run, which every restart goes on with."""

import os
from collections.abc import Mapping
from typing import Any

from cluster.record.metrics import StepMetrics, scalars
from polyprag.config import LogConfig
from sharding.storage.files import join
from sharding.storage.urls import local_path


class WandbSink:
    """Logs to the W&B run whose id is the run's own.

    The API key, the mode (offline, disabled) and the server come from the environment, as W&B
    defines them: WANDB_API_KEY, WANDB_MODE, WANDB_BASE_URL.
    """

    def __init__(
        self, run_dir: str, config: LogConfig, *, run_id: str, settings: Mapping[str, Any]
    ) -> None:
        """Starts or resumes the W&B run; may take as long as its server does.

        Args:
            run_dir: a path or URL, whose last part names the W&B run.
            config: `wandb_project` and `wandb_entity`.
            run_id: of the run.
            settings: of the training, by their dotted keys.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        logs = local_path(join(run_dir, "logs"))
        self._run = wandb.init(
            project=config.wandb_project,
            entity=config.wandb_entity,
            id=run_id,
            name=run_dir.rstrip("/").rpartition("/")[2],
            resume="allow",
            config={**settings, "run_dir": run_dir},
            dir=None if os.environ.get("WANDB_DIR") else logs,
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, save_code=False, reinit="create_new"
            ),
        )
        self._first_step = self._run.starting_step

    def write(self, metrics: StepMetrics) -> None:
        """Logs a step unless the W&B run has it already: its steps only ever grow."""
        if metrics.step >= self._first_step:
            self._run.log(scalars(metrics), step=metrics.step, commit=True)

    def flush(self) -> None:
        """Does nothing: W&B sends by itself, and tries again by itself."""

    def close(self, *, failed: bool = False) -> None:
        """Ends the W&B run, sending what is left."""
        self._run.finish(exit_code=1 if failed else 0)
