"""Checkpoints of hundreds of workers: all that is told, named, written and removed, no tensors.

`cluster.checkpoints.writer.Checkpointer` runs in every worker as it does in training. Only what it
is made of is put in its place: an engine of one weight, a table whose files of rows have one byte,
and a group of threads. They begin where an epoch has ended, so that the manifest names every
partition. Each group is stopped (and leaves a file behind that no manifest names); the next, of
another number of workers, goes on from the manifest.
"""

import gc
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cluster.checkpoints.group import WorkerGroup
from cluster.checkpoints.manifest import (
    MANIFEST_NAME,
    PREVIOUS_NAME,
    CheckpointManifest,
    RowsFile,
    StateFile,
    check_identity,
)
from cluster.checkpoints.writer import Checkpointer
from cluster.plan.phases import Phase
from cluster.plan.steps import EncodePlan
from scaling.fake_group import FakeGroup
from scaling.plan import touched
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.rows.traffic import RowsWritten
from sharding.storage.files import list_names
from sharding.storage.lease import LEASE_DIRECTORY
from sharding.stream.plan import Cursor, lanes_of_worker

_LEFT = "rows-00000-step-99999999.safetensors"  # by a killed worker


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """What a number of checkpoints took; seconds are the most of any.

    Attributes:
        number: of them.
        seconds: of the slowest worker in one, all workers sharing this machine.
        worker_cpu: processor seconds of worker 0 in one; no other has more to do.
        save: to write the manifest.
        load: to read it, and check that it is this run's.
        manifest_bytes: of the last.
        most_changed: partitions that one checkpoint named anew.
        unnamed: files at the end that neither the last two manifests name nor the last killed
            worker left.
        missing: files that these name and that aren't there.
        wrong: partitions whose entry isn't the one of when they were last trained.
    """

    number: int
    seconds: float
    worker_cpu: float
    save: float
    load: float
    manifest_bytes: int
    most_changed: int
    unnamed: int
    missing: int
    wrong: int


@dataclass(frozen=True, slots=True)
class _Due:
    """A checkpoint that is to be made: where, and what each lane has trained since the last."""

    step: int
    cursor: Cursor
    changed: dict[int, list[int]]


class _Engine:
    """The experts' stand-in."""

    def export_state(self) -> dict[str, torch.Tensor]:
        return {"A": torch.zeros(1)}


class _Table:
    """The stand-in of one worker's rows, which writes a file for each partition that is due."""

    def __init__(self, directory: Path, corpus: CorpusManifest, lanes: Sequence[int]) -> None:
        self._directory, self._corpus, self._lanes = directory, corpus, lanes
        self.due: _Due | None = None

    def checkpoint(self, step: int) -> RowsWritten[RowsFile]:
        assert self.due is not None and self.due.step == step
        written: RowsWritten[RowsFile] = RowsWritten()
        for lane in self._lanes:
            for index in self.due.changed[lane]:
                future: Future[RowsFile] = Future()
                future.set_result(_rows_file(self._directory, self._corpus.partitions[index], step))
                written.files[index] = future
        return written


def checkpoint_all(
    directory: Path,
    plan: EncodePlan,
    corpus: CorpusManifest,
    identity: dict[str, Any],
    *,
    workers: Sequence[int],
    each: int,
    every_steps: int,
) -> Checkpoints:
    """Makes the checkpoints of a second epoch's beginning.

    Args:
        directory: for the checkpoints.
        plan: of two epochs.
        corpus: its manifest.
        identity: of the run.
        workers: of each group, one after the other.
        each: checkpoints of a group.
        every_steps: between two.
    """
    if len(workers) * each * every_steps > plan.steps_per_epoch:
        raise ValueError(f"an epoch of {plan.steps_per_epoch} steps is too short")
    expected = dict.fromkeys(range(len(corpus.partitions)), plan.steps_per_epoch)
    _end_of_epoch(directory, plan, corpus, identity)
    seconds: list[float] = []
    cpu: list[float] = []
    loads: list[float] = []
    changed: list[int] = []
    step = plan.steps_per_epoch
    for of_group in workers:
        previous, load = _load(directory, identity)
        loads.append(load)
        due = [_due(plan, step + i * every_steps, every_steps) for i in range(each)]
        step = due[-1].step
        work = partial(
            _work,
            directory=directory,
            plan=plan,
            corpus=corpus,
            identity=identity,
            previous=previous,
            group=WorkerGroup.begin(str(directory), lease=None),
            due=due,
            world_size=of_group,
        )
        # Other workers' garbage isn't one worker's to collect.
        gc.collect()
        gc.freeze()
        of_workers = FakeGroup(of_group).run(work)
        seconds += [wall for of_worker in of_workers for wall, _ in of_worker]
        cpu += [used for _, used in of_workers[0]]
        for one in due:
            now = [index for of_lane in one.changed.values() for index in of_lane]
            changed.append(len(now))
            expected.update(dict.fromkeys(now, one.step))
        (directory / _LEFT).write_bytes(b"x")
    manifest, load = _load(directory, identity)
    assert manifest is not None
    started = time.monotonic()
    manifest.save(str(directory))
    save = time.monotonic() - started
    there = set(list_names(directory)) - {MANIFEST_NAME, PREVIOUS_NAME, LEASE_DIRECTORY, _LEFT}
    named = manifest.kept(str(directory))
    steps = {index: entry.step for index, entry in manifest.rows.items()}
    return Checkpoints(
        number=len(changed),
        seconds=max(seconds),
        worker_cpu=max(cpu),
        save=save,
        load=max(*loads, load),
        manifest_bytes=(directory / MANIFEST_NAME).stat().st_size,
        most_changed=max(changed),
        unnamed=len(there - named),
        missing=len(named - there),
        wrong=sum(steps.get(index) != last for index, last in expected.items()),
    )


def _work(
    rank: int,
    *,
    directory: Path,
    plan: EncodePlan,
    corpus: CorpusManifest,
    identity: dict[str, Any],
    previous: CheckpointManifest | None,
    group: WorkerGroup,
    due: Sequence[_Due],
    world_size: int,
) -> list[tuple[float, float]]:
    """A worker; the wall and the processor seconds that it is in each checkpoint."""
    lanes = lanes_of_worker(rank, world_size=world_size, num_lanes=plan.num_lanes)
    table = _Table(directory, corpus, lanes)
    checkpointer = Checkpointer(
        str(directory),
        engine=_Engine(),  # type: ignore[arg-type]
        table=table,  # type: ignore[arg-type]
        identity=identity,
        phases=(Phase.of(plan),),
        previous=previous,
        group=group,
    )
    times = []
    for table.due in due:
        started, used = time.monotonic(), time.thread_time()
        checkpointer.begin(table.due.step, table.due.cursor)
        checkpointer.close() if table.due is due[-1] else checkpointer.poll()
        times.append((time.monotonic() - started, time.thread_time() - used))
    return times


def _due(plan: EncodePlan, after: int, every_steps: int) -> _Due:
    """The checkpoint `every_steps` after a step of the second epoch."""
    first = after - plan.steps_per_epoch
    return _Due(
        after + every_steps,
        plan.cursor_at(after + every_steps),
        {
            lane: touched(plan, lane, epoch=1, first=first, last=first + every_steps)
            for lane in range(plan.num_lanes)
        },
    )


def _rows_file(directory: Path, part: Partition, step: int) -> RowsFile:
    """Writes a stand-in for a partition's rows, and describes it as if it were they."""
    name = f"rows-{part.index:05d}-step-{step:08d}.safetensors"
    (directory / name).write_bytes(b"x")
    return RowsFile(
        name,
        part.sha256,
        part.num_passages * 12_292,  # 16 sites, 64 experts, two moments and a count
        step=step,
        num_rows=part.num_passages,
        updates=9 * part.num_passages,
        untrained=0,
        mean_norm=31.99612045288086,
    )


def _end_of_epoch(
    directory: Path, plan: EncodePlan, corpus: CorpusManifest, identity: dict[str, Any]
) -> None:
    """The checkpoint behind a first epoch, which names a file of every partition."""
    step = plan.steps_per_epoch
    directory.mkdir(parents=True, exist_ok=True)
    experts = StateFile(f"experts-step-{step:08d}.safetensors", "0" * 64, 1)
    (directory / experts.file).write_bytes(b"x")
    CheckpointManifest(
        step=step,
        cursor=plan.cursor_at(step),
        world_size=1,
        identity=identity,
        phases=(Phase.of(plan),),
        experts=experts,
        rows={part.index: _rows_file(directory, part, step) for part in corpus.partitions},
    ).save(str(directory))


def _load(directory: Path, identity: dict[str, Any]) -> tuple[CheckpointManifest | None, float]:
    started = time.monotonic()
    manifest = CheckpointManifest.load(str(directory))
    if manifest is not None:
        check_identity(manifest, identity, "run")
    return manifest, time.monotonic() - started
