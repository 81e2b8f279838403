"""`encode` as its driver sees it: check, start Ray Train's workers, show how far they are."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from cluster.checkpoints.manifest import (
    CheckpointManifest,
    check_cursor,
    check_identity,
    identity_of,
)
from cluster.checkpoints.recovery import recover
from cluster.parallel.deepspeed_config import deepspeed_config
from cluster.plan.phases import plan_phase
from cluster.plan.steps import EncodePlan
from cluster.ray.first_look import first_look, say
from cluster.ray.room import workers_demand
from cluster.ray.session import ray_session
from cluster.ray.task_pool import RayGpuPool, RayPool, num_gpus
from cluster.ray.trainer import train_on_ray
from cluster.ray.waiting import await_machines
from cluster.record.events import record, remove_unfinished
from cluster.record.learning import learning_of
from cluster.record.metrics import METRICS_FILE, last_metrics
from cluster.record.run_id import run_id_of
from cluster.record.sinks.chosen import check_sinks
from polyprag.config import Config, cluster_address
from polyprag.config.files import save_config
from polyprag.config.paths import with_absolute_paths
from polyprag.encoding.lanes import empty_lanes
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest
from polyprag.encoding.reader import encoding_dir
from polyprag.errors import ConfigError, CorpusError, PolypragError
from polyprag.progress import progress
from polyprag.teaching.counts import TaughtCounts
from polyprag.teaching.manifest import needs_teacher, teacher_dir
from polyprag.teaching.teach import teach_corpus
from sharding.corpus.manifest import CorpusManifest
from sharding.counted import counted
from sharding.storage.files import exists, join, list_sizes
from sharding.storage.urls import absolute, is_local


def encode(
    run_dir: str,
    config: Config,
    *,
    more: bool = False,
    lease: int | None = None,
    before_saving: Callable[[], object] = lambda: None,
) -> None:
    """Trains `RUN/encoding` on Ray, going on from the last checkpoint where there is one.

    Args:
        run_dir: a run directory whose corpus is prepared and augmented.
        config: the run's settings; saved in the run.
        more: whether to train on after all is trained, over the corpus as it is now.
        lease: the number of the run's lease that the caller holds; nothing is written to the run's
            checkpoints once another has it.
        before_saving: called when nothing refuses the settings any more.

    Raises:
        RunError: the corpus isn't ready, another command must be run first, Ray has no room for the
            workers, or training failed.
        ConfigError: a setting contradicts the run's checkpoint or can't work.
        CorpusError: a shard is missing or damaged.
        Terminated: the process was told to end, and a checkpoint was made if there was time.
    """
    # Workers run in other directories.
    run_dir, config = absolute(run_dir), with_absolute_paths(config)
    corpus_url = join(run_dir, "corpus")
    manifest = CorpusManifest.load(corpus_url)
    deepspeed_config(config, world_size=config.cluster.workers)
    check_sinks(config.log)
    base_model = first_look(config, corpus_url)
    recover(run_dir)
    checkpoint = CheckpointManifest.load(join(run_dir, "checkpoints"))
    is_written = False
    if checkpoint is not None:
        check_identity(checkpoint, identity_of(config, manifest, base_model), run_dir)
        is_written = _is_written(run_dir, checkpoint.step)
    start, phases = (checkpoint.step, checkpoint.phases) if checkpoint else (0, ())
    plan = plan_phase(
        run_dir, config, manifest, step=start, phases=phases, more=more, is_written=is_written
    )
    if plan is None:
        return
    _check_learns(config, is_first=checkpoint is None)
    empty = empty_lanes(
        config, num_passages=manifest.num_passages, num_partitions=len(manifest.partitions)
    )
    if empty is not None and checkpoint is None:
        say(f"note: {empty}")
    if checkpoint is not None:
        check_cursor(checkpoint, plan, run_dir)
    config = replace(config, train=replace(config.train, epochs=plan.epochs))
    _check_shards(corpus_url, manifest)
    say(_beginning(config, plan, start=start))
    with ray_session(config.cluster):
        await_machines(workers_demand(config.cluster), config.cluster)
        before_saving()
        save_config(config, run_dir)
        run_id_of(run_dir)  # made before several workers ask for it
        with _recorded(run_dir, plan, config, start=start):
            _teach(run_dir, config, manifest)
            with _shown_progress(run_dir, plan, start=start):
                train_on_ray(run_dir, config, plan, lease=lease)


def _beginning(config: Config, plan: EncodePlan, *, start: int) -> str:
    """Returns what happens until the first step, half a minute away."""
    address = cluster_address(config.cluster)
    ray = "starting Ray on this machine" if address is None else f"joining Ray at {address}"
    workers = counted(config.cluster.workers, "worker")
    since = f", going on after step {start:,}" if start else ""
    return f"{ray}, with {workers} for {plan.last_step - start:,} steps{since}"


def _teach(run_dir: str, config: Config, manifest: CorpusManifest) -> None:
    """Has the teacher say what the workers will ask for, where the run has one.

    As many work at it as will train, each with the base model in its memory.
    """
    if not needs_teacher(config, manifest):
        return
    cluster = config.cluster
    on_gpu = cluster.gpus_per_worker and num_gpus()
    pool = (RayGpuPool if on_gpu else RayPool)(cluster.workers, config=cluster)
    # Ray keeps a process that has run tasks; an actor ends.
    record(run_dir, "teaching")
    counts = TaughtCounts.of(
        teach_corpus(run_dir, config, pool=pool, keeps_model=bool(on_gpu), show=progress)
    )
    record(run_dir, "taught", detail=counts.text())
    say(f"{teacher_dir(run_dir)}: {counts.text()}")
    if (advice := counts.advice(config)) is not None:
        say(f"warning: {advice}")


def _check_learns(config: Config, *, is_first: bool) -> None:
    """Refuses to train experts that stay as they begin: without any effect, and so the rows too.

    Raises:
        ConfigError: says what to change.
    """
    if is_first and not config.train.experts_lr:
        raise ConfigError(
            "train.experts_lr=0 can't be used for the first training: the experts begin without "
            "any effect, and would keep it; set it above 0"
        )


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


@contextmanager
def _recorded(run_dir: str, plan: EncodePlan, config: Config, *, start: int) -> Iterator[None]:
    """Records in the run's events that the block began, and how it ended."""
    record(
        run_dir,
        "started",
        step=start,
        last_step=plan.last_step,
        world_size=config.cluster.workers,
        detail=f"on {cluster_address(config.cluster) or 'a Ray of its own'}",
    )
    try:
        yield
    except KeyboardInterrupt as error:
        record(run_dir, "interrupted", detail=str(error))
        raise
    except Exception as error:
        record(run_dir, "failed", detail=str(error))
        raise
    remove_unfinished(run_dir)
    record(run_dir, "finished", step=plan.last_step, last_step=plan.last_step)


@contextmanager
def _shown_progress(run_dir: str, plan: EncodePlan, *, start: int) -> Iterator[None]:
    """Shows what the workers write to the run's metrics while the block runs."""
    url = join(run_dir, "logs", METRICS_FILE)
    stop = threading.Event()
    with progress(plan.last_step, "encoding", unit="steps", start=start) as advance:
        thread = threading.Thread(
            target=_follow,
            args=(url, stop, advance),
            kwargs={"start": start},
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
    _tell_if_worse(url, has_ended=True)


def _follow(url: str, stop: threading.Event, advance: Callable[..., None], *, start: int) -> None:
    seconds = 1.0 if is_local(url) else 15.0
    shown, epoch = start, 0
    ended = told = False
    while not ended:
        ended = stop.wait(seconds)
        try:
            newest = last_metrics(url, most=1)
        except (PolypragError, OSError):  # it may be readable next time; training needs none of it
            continue
        if not newest or newest[-1].step <= shown:
            continue
        last = newest[-1]
        advance(
            last.step - shown,
            f"loss {last.loss:.3f}, {last.examples_per_second:,.0f} examples/s, "
            f"{last.tokens_per_second:,.0f} tokens/s",
        )
        shown = last.step
        if last.epoch > max(epoch, 1) and not told:
            told = _tell_if_worse(url, has_ended=False)
        epoch = last.epoch


def _tell_if_worse(url: str, *, has_ended: bool) -> bool:
    """Says that a training has learnt nothing so far, where that is so."""
    try:
        learning = learning_of(url, has_ended=has_ended)
    except (PolypragError, OSError):
        return False
    if learning is None or not learning.is_worse:
        return False
    say(f"warning: {learning.advice}")
    return True
