"""Ray Train runs the workers: placed, started again after failures, moved and resized."""

import os
from collections.abc import Callable
from typing import Any, cast

from cluster.checkpoints.request import TrainingRequest
from cluster.plan.steps import EncodePlan
from cluster.ray.attended_training import attended
from cluster.ray.controller_hooks import controller_hooks, raise_final
from cluster.ray.room import workers_demand
from cluster.ray.session import worker_environment
from cluster.ray.termination import checkpoint_on_sigterm
from cluster.ray.worker import WorkerTask, train_on_worker
from polyprag.config import Config
from polyprag.errors import PolypragError, Terminated, WorkersFailedError
from sharding.storage.files import join
from sharding.storage.urls import filesystem_of, is_local


def train_on_ray(run_dir: str, config: Config, plan: EncodePlan, *, lease: int | None) -> None:
    """Trains what a plan says on Ray's workers, through their failures; inside a `ray_session`.

    Args:
        run_dir: absolute, and seen by every node.
        config: of the run.
        plan: of the phase.
        lease: the number of the run's lease.

    Raises:
        WorkersFailedError: the workers failed more than `cluster.max_failures` times.
        WorkerBugError: one met an error that it would meet again.
        RunError: training met a mistake of the user.
        Terminated: this process was told to end; a checkpoint was made if there was time.
    """
    # Read when ray.train is imported.
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    task = WorkerTask(run_dir, config, plan.first_step, plan.first_epoch, lease)
    grace_s = config.cluster.grace_seconds
    with checkpoint_on_sigterm(run_dir, lease=lease, grace_s=grace_s) as termination:
        request = TrainingRequest.RESTART
        while request is TrainingRequest.RESTART:  # the workers have ended to be placed anew
            request = _fit(task, told_to_end=termination.is_set)
    if request is TrainingRequest.STOP:
        raise Terminated("a checkpoint was made")


def _fit(task: WorkerTask, *, told_to_end: Callable[[], bool]) -> TrainingRequest:
    """Runs workers until they have trained all, or a request has ended them."""
    from ray.exceptions import RayError
    from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

    try:
        result = _trainer(task).fit()
    except (KeyboardInterrupt, SystemExit):  # the latter by Ray's own handler of Ctrl-C
        raise (Terminated() if told_to_end() else KeyboardInterrupt()) from None
    except ControllerError as error:
        if isinstance(error.controller_failure, PolypragError):
            raise error.controller_failure from None
        raise WorkersFailedError(_failure(task.run_dir, task.config, error)) from error
    except TrainingFailedError as error:
        raise_final(getattr(error, "worker_failures", {}).values())  # of the last start, too
        raise WorkersFailedError(_failure(task.run_dir, task.config, error)) from error
    except RayError as error:  # what watches over the workers died
        raise WorkersFailedError(
            f"{task.run_dir}: Ray itself failed ({type(error).__name__}: {error}); the same "
            "command goes on from the last checkpoint"
        ) from error
    return TrainingRequest(result.return_value["request"])


def _trainer(task: WorkerTask) -> Any:
    import ray.train
    from ray.train.torch import TorchTrainer

    # Ray's types are those of its first version of Train, which these settings aren't for.
    train = cast(Any, ray.train)
    cluster, run_dir = task.config.cluster, task.run_dir
    trainer = attended(TorchTrainer, workers_demand(cluster), cluster)
    resources = {"CPU": float(cluster.cpus_per_worker)}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    least = cluster.min_workers
    return trainer(
        train_on_worker,
        train_loop_config={"task": task},
        scaling_config=train.ScalingConfig(
            num_workers=cluster.workers if least is None else (least, cluster.workers),
            elastic_resize_monitor_interval_s=cluster.resize_seconds,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=train.RunConfig(
            # Ray's own bookkeeping, which every node must see; our checkpoints are elsewhere.
            **_ray_storage(join(run_dir, "logs", "ray")),
            failure_config=train.FailureConfig(max_failures=cluster.max_failures),
            worker_runtime_env={"env_vars": worker_environment(cluster)},
            callbacks=controller_hooks(run_dir, lease=task.lease, grace_s=cluster.grace_seconds),
        ),
    )


def _ray_storage(url: str) -> dict[str, Any]:
    """Returns where Ray keeps its storage.

    Behind a URL with fsspec's settings, as all other files.
    """
    if is_local(url):
        return {"storage_path": url}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    fs, path = filesystem_of(url)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(fs))}


def _failure(run_dir: str, config: Config, error: Exception) -> str:
    last = [line for line in str(error).strip().splitlines() if line.strip()][-1:]
    return (
        f"{run_dir}: the workers failed more than cluster.max_failures="
        f"{config.cluster.max_failures} times ({' '.join(last).strip()}); "
        f"{join(run_dir, 'logs')}/worker-*.log has the whole story; the same command goes on "
        "from the last checkpoint"
    )
