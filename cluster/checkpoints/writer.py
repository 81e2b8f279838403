"""Saving training state while training goes on: incremental, free of the world size.

Experts are gathered from ZeRO and written once, by worker 0. Each worker writes the partitions
whose rows it changed since the last checkpoint, under new names. All of that happens in threads;
when every worker's files are durable, worker 0 writes the manifest that names them with their
checksums. It then deletes what neither this manifest nor the one before it names; that one is kept
in case files of the last checkpoint are damaged. Safetensors and JSON only.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, distributed

from cluster.checkpoints.files import remove_unnamed
from cluster.checkpoints.group import WorkerGroup
from cluster.checkpoints.manifest import (
    PREVIOUS_NAME,
    CheckpointManifest,
    RowsFile,
    StateFile,
    load_previous,
)
from cluster.parallel.collectives import (
    gather_json,
    gather_numbers,
    raise_together,
    run_on_all_or_raise,
)
from cluster.parallel.engine import ExpertEngine
from cluster.parallel.exact_engine import ExactEngine
from cluster.plan.phases import Phase
from polyprag.errors import RunError
from sharding.rows.table import RowTable
from sharding.rows.traffic import RowsWritten
from sharding.storage.files import atomic_write, join, read_bytes, remove, sync
from sharding.stream.plan import Cursor

_Rows = tuple[dict[int, RowsFile], list[RowsFile]]  # by partition; those replaced meanwhile


@dataclass(slots=True)
class _Pending:
    """A checkpoint whose files are on their way."""

    started: float
    step: int
    cursor: Cursor
    rows: "Future[_Rows]"
    experts: "Future[StateFile] | None"  # on worker 0

    def done(self) -> bool:
        return self.rows.done() and (self.experts is None or self.experts.done())

    def result(self) -> dict[str, Any]:
        """Returns what this worker has written, as JSON values."""
        files, superseded = self.rows.result()
        return {
            "rows": {str(index): msgspec.to_builtins(entry) for index, entry in files.items()},
            "superseded": [entry.file for entry in superseded],
            "experts": msgspec.to_builtins(self.experts.result()) if self.experts else None,
        }


@dataclass(frozen=True, slots=True)
class Durable:
    """A checkpoint that can be gone on from.

    Attributes:
        step: global steps behind it; 0 where there is none yet.
        seconds: from its beginning until it was durable; 0 where another group made it.
    """

    step: int
    seconds: float = 0.0


class Checkpointer:
    """Makes checkpoints of a process group; every worker must make the same calls.

    Attributes:
        durable: the last checkpoint, as worker 0 knows it.
    """

    def __init__(
        self,
        directory: str,
        *,
        engine: ExpertEngine | ExactEngine,
        table: RowTable[RowsFile],
        identity: dict[str, Any],
        phases: tuple[Phase, ...],
        previous: CheckpointManifest | None,
        group: WorkerGroup,
    ) -> None:
        """Deletes what a run that died has left in the directory.

        Args:
            directory: `RUN/checkpoints`.
            engine: holds the experts.
            table: this worker's rows; what they change counts as saved afterwards.
            identity: of the run.
            phases: of the run; the last one is being trained.
            previous: the last checkpoint, whose unchanged partitions stay.
            group: whose checkpoints these are.

        Raises:
            PolypragError: on every worker, when another group trains the run now.
        """
        self._directory, self._engine, self._table = directory, engine, table
        self._group = group
        self._identity, self._phases = identity, phases
        self._saved = dict(previous.rows) if previous else {}
        self._previous_step = previous.step if previous else 0
        self._is_first = distributed.get_rank() == 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: _Pending | None = None
        self._manifest: Future[None] | None = None  # on worker 0
        self._waited = 0.0
        self.durable = Durable(self._previous_step)
        before = run_on_all_or_raise(lambda: load_previous(directory) if self._is_first else None)
        self._manifests = (before, previous)  # those on disk: the one before the last, and the last
        run_on_all_or_raise(self._clean_up)

    def begin(self, step: int, cursor: Cursor) -> None:
        """Completes an earlier checkpoint, copies what has changed, and writes it in threads.

        Args:
            step: global steps done.
            cursor: where the data goes on.

        Raises:
            PolypragError: on every worker, when something can't be written.
        """
        started = monotonic()
        self._complete()
        written = run_on_all_or_raise(lambda: self._table.checkpoint(step))
        state = self._engine.export_state()
        experts = None
        if self._is_first:
            name = f"experts-step-{step:08d}-{self._group.name}.safetensors"
            experts = self._thread.submit(_save_experts, join(self._directory, name), state)
        rows = self._thread.submit(_durable_rows, self._directory, written)
        self._pending = _Pending(started, step, cursor, rows, experts)
        self._waited += monotonic() - started

    def poll(self) -> None:
        """Starts to write the manifest once every worker's files are written; costs little before.

        Raises:
            PolypragError: on every worker, when something couldn't be written.
        """
        if self._pending is None:
            return
        started = monotonic()
        if bool(gather_numbers([self._pending.done()]).all()):
            self._complete()
        self._waited += monotonic() - started

    def wait(self) -> None:
        """Waits until the last checkpoint is durable.

        Raises:
            PolypragError: on every worker, when something can't be written.
        """
        started = monotonic()
        self._complete()
        self._raise_of(self._manifest)
        self._waited += monotonic() - started

    def close(self) -> None:
        """Waits until the last checkpoint is durable, and ends the thread that writes them.

        Raises:
            PolypragError: on every worker, when something can't be written.
        """
        self.wait()
        self._thread.shutdown()

    def drop_previous(self) -> None:
        """Deletes the checkpoint before the last, once the encoding is written.

        Raises:
            PolypragError: on every worker, when another group trains the run now.
        """
        self._manifests = (None, self._manifests[1])
        run_on_all_or_raise(self._clean_up)

    def take_waited(self) -> float:
        """Returns the seconds that training waited for checkpoints since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def _clean_up(self) -> None:
        """Deletes what neither manifest names, if this is worker 0."""
        if not self._is_first:
            return
        self._group.check()  # it might be what a later group has just written
        if self._manifests[0] is None:
            remove(join(self._directory, PREVIOUS_NAME))
        remove_unnamed(self._directory, *self._manifests)

    def _complete(self) -> None:
        """Collects what the pending checkpoint wrote, waiting for it, and names it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        self._raise_of(self._manifest)
        written: dict[str, Any] = {}
        error: Exception | None = None
        try:
            written = pending.result()
        except Exception as raised:  # every worker must hear of it, whatever it is
            error = raised
        raise_together(error)
        gathered = gather_json(written)
        if self._is_first:
            self._name(pending, gathered)

    def _name(self, pending: _Pending, gathered: list[dict[str, Any]]) -> None:
        """Starts to write the manifest that names what all workers wrote; on worker 0."""
        superseded = [name for worker in gathered for name in worker["superseded"]]
        for worker in gathered:
            for key, entry in worker["rows"].items():
                self._saved[int(key)] = msgspec.convert(entry, RowsFile)
        experts = msgspec.convert(gathered[0]["experts"], StateFile)
        manifest = CheckpointManifest(
            step=pending.step,
            cursor=pending.cursor,
            world_size=distributed.get_world_size(),
            identity=self._identity,
            phases=self._phases,
            experts=experts,
            rows={index: self._saved[index] for index in sorted(self._saved)},
            previous_step=self._previous_step,
        )
        self._previous_step = pending.step
        self._manifest = self._thread.submit(
            self._save_manifest, manifest, superseded, started=pending.started
        )

    def _save_manifest(
        self, manifest: CheckpointManifest, superseded: list[str], *, started: float
    ) -> None:
        self._group.check()
        older, newest = self._manifests
        if newest is not None:
            newest.save(self._directory, name=PREVIOUS_NAME)
            self._group.check()
        manifest.save(self._directory)
        self._manifests = (newest, manifest)
        self.durable = Durable(manifest.step, monotonic() - started)
        gone = {*superseded, *(older.names() if older else ())}
        for name in gone - manifest.names() - (newest.names() if newest else set()):
            remove(join(self._directory, name))

    def _raise_of(self, future: "Future[None] | None") -> None:
        """Waits for worker 0's manifest; its error is raised on every worker."""
        error = future.exception() if future is not None else None
        raise_together(error if isinstance(error, Exception) else None)


def _durable_rows(directory: str, written: RowsWritten[RowsFile]) -> _Rows:
    """Waits for files of rows, and has those synced that the manifest will name."""
    files, superseded = written.result()
    sync(join(directory, entry.file) for entry in files.values())
    return files, superseded


def _save_experts(url: str, state: dict[str, Tensor]) -> StateFile:
    data = save_tensors(state)
    with atomic_write(url) as file:
        file.write(data)
    return StateFile(url.rpartition("/")[2], hashlib.sha256(data).hexdigest(), len(data))


def load_expert_state(directory: str, checkpoint: CheckpointManifest) -> dict[str, Tensor]:
    """Returns the experts and their moments, as `ExpertEngine.import_state` takes them.

    Raises:
        RunError: the file is damaged.
    """
    url = join(directory, checkpoint.experts.file)
    data = read_bytes(url)
    remedy = f"the checkpoint is damaged: copy it again, or delete {directory} to train anew"
    if hashlib.sha256(data).hexdigest() != checkpoint.experts.sha256:
        raise RunError(f"{url}: SHA-256 differs from the manifest's; {remedy}")
    try:
        return dict(load_tensors(data))
    except SafetensorError as error:
        raise RunError(f"{url}: not a safetensors file ({error}); {remedy}") from error
