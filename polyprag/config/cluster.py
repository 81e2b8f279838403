"""Where workers run, and what they log."""

import os
from dataclasses import dataclass, field

from polyprag.config.checks import one_of, require, require_numbers

_LONGEST = 1e9  # seconds


@dataclass(frozen=True)
class ClusterConfig:
    """Where and on how many workers encoding runs."""

    workers: int = 2  # the most, where min_workers is set
    min_workers: int | None = None  # elastic: goes on with as few; none: exactly `workers`
    resize_seconds: float = 60.0  # elastic: how often room for more workers is looked for
    address: str | None = None  # of a running Ray cluster; none starts a local one
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    # For machines that the cluster lacks; none: for ever where more may join, else not at all.
    wait_seconds: float | None = None
    max_failures: int = 3  # restarts of the worker group before the run gives up
    grace_seconds: float = 60.0  # at most, for a checkpoint before workers are ended or moved
    stall_seconds: float = 1800.0  # without a step a worker is ended and started again; 0: never

    def __post_init__(self) -> None:
        require_numbers(
            self,
            "cluster",
            {
                "workers": (1, 100_000),
                "min_workers": (1, 100_000),
                "resize_seconds": (0, _LONGEST),
                "cpus_per_worker": (1, 100_000),
                "gpus_per_worker": (0, 1_000),
                "max_failures": (-1, 1_000_000),
                "grace_seconds": (0, _LONGEST),
                "stall_seconds": (0, _LONGEST),
                "wait_seconds": (0, _LONGEST),
            },
        )
        require(
            self.min_workers is None or 1 <= self.min_workers <= self.workers,
            "cluster.min_workers",
            self.min_workers,
            f"null, or from 1 to cluster.workers={self.workers}",
        )
        require(
            self.gpus_per_worker <= 1 or float(self.gpus_per_worker).is_integer(),
            "cluster.gpus_per_worker",
            self.gpus_per_worker,
            "a whole number where it is above 1",
        )


def cluster_address(config: ClusterConfig) -> str | None:
    """Returns where to join a cluster: `cluster.address`, else RAY_ADDRESS as a Ray job sets it."""
    return config.address or os.environ.get("RAY_ADDRESS") or None


@dataclass(frozen=True)
class LogConfig:
    """What an operator sees: the workers' logs, and where each step's metrics go."""

    format: str = "text"  # text | json: of the lines in logs/worker-*.log
    # Besides logs/metrics.jsonl: tensorboard, wandb (Weights & Biases), mlflow.
    sinks: list[str] = field(default_factory=lambda: ["tensorboard"])
    wandb_project: str = "polyprag"
    wandb_entity: str | None = None  # a user or team; none: the API key's own
    mlflow_uri: str | None = None  # of the tracking server; none: MLFLOW_TRACKING_URI
    mlflow_experiment: str = "polyprag"

    def __post_init__(self) -> None:
        one_of("log.format", self.format, ("text", "json"))
        for name in self.sinks:
            one_of("log.sinks", name, ("tensorboard", "wandb", "mlflow"))
        for key in ("wandb_project", "mlflow_experiment"):
            require(bool(getattr(self, key)), f"log.{key}", getattr(self, key), "a name")
        # It is saved in the run's config.yaml, for everybody who reads the run.
        require(
            "@" not in (self.mlflow_uri or ""),
            "log.mlflow_uri",
            "...@...",
            "without a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
