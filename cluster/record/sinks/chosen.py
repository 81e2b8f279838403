"""The sinks that `log.sinks` names: whether they can work here, and they themselves."""

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from cluster.record.run_id import run_id_of
from cluster.record.sinks.background import BackgroundSink
from cluster.record.sinks.sink import Sink
from polyprag.config import Config, LogConfig
from polyprag.config.keys import flatten
from polyprag.errors import ConfigError
from sharding.storage.files import join

_EXTRAS = ("wandb", "mlflow")  # an extra and a module of the sink's own name
# What others are told of a run's settings: what decides how it trains, and nothing of endpoints.
_TOLD = ("model.", "data.", "experts.", "router.", "train.", "checkpoint.", "deepspeed.")


def check_sinks(config: LogConfig) -> None:
    """Finds out before any worker starts whether the chosen sinks can work.

    Raises:
        ConfigError: a library isn't installed, or MLflow's server isn't named.
    """
    for name in config.sinks:
        if name in _EXTRAS and find_spec(name) is None:
            raise ConfigError(
                f"log.sinks names {name}, which isn't installed: `pip install 'polyprag[{name}]'` "
                "on every machine, or take it out of log.sinks"
            )
    uri = config.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if "mlflow" in config.sinks and not uri:
        raise ConfigError(
            "log.sinks names mlflow, and nothing says where its server is: set log.mlflow_uri, "
            "such as http://mlflow.example:5000, or MLFLOW_TRACKING_URI on every machine"
        )


def open_sinks(run_dir: str, config: Config, *, resumed_step: int) -> list[Sink]:
    """Returns the chosen sinks.

    What needs a network opens later and in a thread, and can't fail here.

    Args:
        run_dir: a path or URL.
        config: of the run.
        resumed_step: the step that training goes on from; 0 at the start.
    """
    sinks: list[Sink] = []
    for name in config.log.sinks:
        if name == "tensorboard":
            from cluster.record.sinks.tensorboard import TensorBoardSink

            sinks.append(TensorBoardSink(join(run_dir, "logs"), resumed_step=resumed_step))
        else:
            sinks.append(BackgroundSink(name, _opener(name, run_dir, config)))
    return sinks


def _opener(name: str, run_dir: str, config: Config) -> Callable[[], Sink]:
    from cluster.record.sinks.mlflow import MlflowSink
    from cluster.record.sinks.wandb import WandbSink

    told: dict[str, Any] = {
        key: value for key, value in flatten(config).items() if key.startswith(_TOLD)
    }
    make: Callable[..., Sink] = WandbSink if name == "wandb" else MlflowSink
    return partial(make, run_dir, config.log, run_id=run_id_of(run_dir), settings=told)
