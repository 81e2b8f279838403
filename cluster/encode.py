"""`encode` as its driver sees it: check, start Ray Train's workers, show how far they are."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cluster.checkpoint_manifest import CheckpointManifest, check_identity, identity_of
from cluster.engine import deepspeed_config
from cluster.metrics import METRICS_FILE, StepMetrics
from cluster.phase_plan import plan_phase
from cluster.plan import EncodePlan
from cluster.ray_session import ray_session, worker_environment
from cluster.worker import WorkerTask, train_on_worker
from polyprag.config import Config
from polyprag.config_files import locate, save_config, with_absolute_model
from polyprag.encoding import encoding_dir
from polyprag.encoding_manifest import MANIFEST_NAME, EncodingManifest
from polyprag.errors import CorpusError, RunError
from polyprag.progress import progress
from sharding.files import exists, join, list_sizes, read_bytes, size_of
from sharding.manifest import CorpusManifest
from sharding.urls import absolute, filesystem_of, is_local

_TAIL_BYTES = 4096


def encode(run_dir: str, config: Config, *, more: bool = False) -> None:
    """Trains `RUN/encoding` on Ray, going on from the last checkpoint where there is one.

    Args:
        run_dir: a run directory whose corpus is prepared and augmented.
        config: the run's settings; saved in the run.
        more: whether to train on after all is trained, over the corpus as it is now.

    Raises:
        RunError: the corpus isn't ready, another command must be run first, or training failed.
        ConfigError: a setting contradicts the run's checkpoint or can't work.
        CorpusError: a shard is missing or damaged.
    """
    run_dir, config = _absolute(run_dir, config)
    corpus_url = join(run_dir, "corpus")
    manifest = CorpusManifest.load(corpus_url)
    deepspeed_config(config, world_size=config.cluster.workers)
    checkpoint = CheckpointManifest.load(join(run_dir, "checkpoints"))
    is_written = False
    if checkpoint is not None:
        check_identity(checkpoint, identity_of(config, manifest), run_dir)
        is_written = _is_written(run_dir, checkpoint.step)
    plan = plan_phase(run_dir, config, manifest, checkpoint, more=more, is_written=is_written)
    if plan is None:
        return
    config = replace(config, train=replace(config.train, epochs=plan.epochs))
    _check_shards(corpus_url, manifest)
    save_config(config, run_dir)
    _train(run_dir, config, plan, start=checkpoint.step if checkpoint else 0)


def _absolute(run_dir: str, config: Config) -> tuple[str, Config]:
    """Local paths made absolute: workers run in other directories."""
    run_dir, config = absolute(run_dir), with_absolute_model(config)
    if config.deepspeed.config is not None:
        file = absolute(locate(config.deepspeed.config))
        config = replace(config, deepspeed=replace(config.deepspeed, config=file))
    return run_dir, config


def _is_written(run_dir: str, steps: int) -> bool:
    directory = encoding_dir(run_dir)
    if not exists(join(directory, MANIFEST_NAME)):
        return False
    return EncodingManifest.load(directory).trained.steps == steps


def _check_shards(corpus_url: str, manifest: CorpusManifest) -> None:
    """Finds a shard that vanished or was cut short before any worker starts.

    Raises:
        CorpusError: names the shard.
    """
    sizes = list_sizes(corpus_url)  # one listing, where the shards' own sizes take hours on S3
    for part in manifest.partitions:
        url = join(corpus_url, part.file)
        size = sizes.get(part.file)
        if size is None:
            raise CorpusError(
                f"{url}: no such file: copy the shard again, or run `polyprag prepare` into a "
                "new run"
            )
        if size != part.num_bytes:
            raise CorpusError(
                f"{url}: has {size} bytes where the manifest says {part.num_bytes}: the shard is "
                "damaged; copy it again, or run `polyprag prepare` into a new run"
            )


def _train(run_dir: str, config: Config, plan: EncodePlan, *, start: int) -> None:
    # Read when ray.train is imported.
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    with ray_session(config.cluster):
        import ray.train
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        resources = {"CPU": float(config.cluster.cpus_per_worker)}
        if config.cluster.gpus_per_worker:
            resources["GPU"] = config.cluster.gpus_per_worker
        trainer = TorchTrainer(
            train_on_worker,
            train_loop_config={
                "task": WorkerTask(run_dir, config, plan.first_step, plan.first_epoch)
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.cluster.workers,
                use_gpu=config.cluster.gpus_per_worker > 0,
                resources_per_worker=resources,
            ),
            run_config=ray.train.RunConfig(  # type: ignore[call-arg] # typed as the first version's
                # Ray's own bookkeeping, which every node must see; our checkpoints are elsewhere.
                **_ray_storage(join(run_dir, "logs", "ray")),
                failure_config=ray.train.FailureConfig(max_failures=config.cluster.max_failures),
                worker_runtime_env={"env_vars": worker_environment(config.cluster)},
            ),
        )
        with _shown_progress(run_dir, plan, start=start):
            try:
                result = trainer.fit()
            except SystemExit:
                # Ray's own handler of Ctrl-C ends the workers and then the process.
                raise KeyboardInterrupt from None
            except TrainingFailedError as error:
                raise RunError(_failure(run_dir, config, error)) from error
    outcome = result.metrics or {}
    if "error" in outcome:
        raise RunError(outcome["error"])


def _ray_storage(url: str) -> dict[str, Any]:
    """Where Ray keeps its storage; behind a URL with fsspec's settings, as all other files."""
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


@contextmanager
def _shown_progress(run_dir: str, plan: EncodePlan, *, start: int) -> Iterator[None]:
    """Shows what the workers write to the run's metrics while the block runs."""
    url = join(run_dir, "logs", METRICS_FILE)
    stop = threading.Event()
    with progress(plan.last_step, "encoding", unit="steps", start=start) as advance:
        thread = threading.Thread(
            target=_follow, args=(url, stop, advance), kwargs={"start": start}, daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _follow(url: str, stop: threading.Event, advance: Callable[..., None], *, start: int) -> None:
    seconds = 1.0 if is_local(url) else 15.0
    shown = start
    ended = False
    while not ended:
        ended = stop.wait(seconds)
        last = _last_metrics(url)
        if last is None or last.step <= shown:
            continue
        advance(
            last.step - shown,
            f"loss {last.loss:.3f}, {last.examples / last.seconds:,.0f} examples/s, "
            f"{last.tokens / last.seconds:,.0f} tokens/s",
        )
        shown = last.step


def _last_metrics(url: str) -> StepMetrics | None:
    """The last whole line of a metrics file, however the file came to be."""
    if not exists(url):
        return None
    tail = read_bytes(url, offset=max(0, size_of(url) - _TAIL_BYTES))
    lines = tail.split(b"\n")[:-1]
    return StepMetrics(**json.loads(lines[-1])) if lines else None
