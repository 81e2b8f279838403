"""The second act of a training: the engine, the rows, the log and the checkpoints are set up."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import distributed

from cluster.checkpoints.manifest import RowsFile
from cluster.checkpoints.request import RequestReader
from cluster.checkpoints.writer import Checkpointer
from cluster.parallel.collectives import run_on_all_or_raise
from cluster.parallel.engine import ExpertEngine
from cluster.parallel.exact_engine import ExactEngine
from cluster.plan.phases import phases_up_to
from cluster.record.events import record
from cluster.record.metrics_log import MetricsLog
from cluster.record.sinks.chosen import open_sinks
from cluster.record.sinks.sink import Sink, Tolerated
from cluster.training.load import LoadedRun
from cluster.training.rows import open_row_table
from cluster.training.utilisation import StepWork, peak_flops, step_work
from polyprag.method.batches.attention import attending_packed
from sharding.rows.table import RowTable
from sharding.storage.files import join

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Training:
    """What a worker trains with.

    Attributes:
        run: as it was loaded.
        engine: the experts and their optimiser.
        table: this worker's routing rows and their optimiser.
        checkpoints: of the process group.
        log: of the run's metrics, on worker 0.
        requests: for checkpoints, on worker 0.
        sinks: get every step on this worker.
        beat: is called with what comes next, whenever there was progress.
        work: the arithmetic of an example.
        peak: operations a second that this worker's device could do.
    """

    run: LoadedRun
    engine: ExpertEngine | ExactEngine
    table: RowTable[RowsFile]
    checkpoints: Checkpointer
    log: MetricsLog | None
    requests: RequestReader | None
    sinks: Sequence[Tolerated]
    beat: Callable[[str], None]
    work: StepWork
    peak: float


@contextmanager
def start_training(
    run: LoadedRun, *, beat: Callable[[str], None], sinks: Sequence[Sink]
) -> Iterator[Training]:
    """Sets up what a loaded run is trained with, for the length of the block.

    Every worker of the process group must call it; what one meets is raised on all.

    Args:
        run: on every worker the same.
        beat: is called with what comes next.
        sinks: get every step on this worker, besides those of `log.sinks`; the caller closes them.

    Yields:
        What training needs; log and rows are closed with the block.
    """
    beat("the engine")
    work = step_work(run.model, run.pool)
    engine = _start_engine(run)
    with ExitStack() as stack:
        if run.batcher.packs:
            stack.enter_context(attending_packed(run.model))
        table, log, requests = run_on_all_or_raise(lambda: _open(run, stack))
        checkpoints = Checkpointer(
            run.checkpoints_dir,
            engine=engine,
            table=table,
            identity=run.identity,
            phases=phases_up_to(run.plan, run.checkpoint.phases if run.checkpoint else ()),
            previous=run.checkpoint,
            group=run.group,
        )
        yield Training(
            run=run,
            engine=engine,
            table=table,
            checkpoints=checkpoints,
            log=log,
            requests=requests,
            sinks=[Tolerated(sink) for sink in sinks],
            beat=beat,
            work=work,
            peak=peak_flops(engine.device, run.model.dtype),
        )


def _open(
    run: LoadedRun, stack: ExitStack
) -> tuple[RowTable[RowsFile], MetricsLog | None, RequestReader | None]:
    """Returns what a worker opens without the others; log and requests on worker 0."""
    table = stack.enter_context(open_row_table(run))
    if distributed.get_rank() != 0:
        return table, None, None
    sinks = open_sinks(run.directory, run.config, resumed_step=run.step)
    log = stack.enter_context(
        MetricsLog(
            join(run.directory, "logs"),
            resumed_step=run.step,
            sinks=sinks,
            check=run.group.check,
        )
    )
    _announce(run, repeated=log.num_repeated)
    requests = stack.enter_context(RequestReader(run.directory, lease=run.group.lease))
    return table, log, requests


def _start_engine(run: LoadedRun) -> ExpertEngine | ExactEngine:
    engine: ExpertEngine | ExactEngine
    if run.config.train.exact:
        engine = ExactEngine(run.model, run.pool, run.config)
    else:
        engine = ExpertEngine(run.model, run.pool, run.config)
    if run.expert_state is None:
        engine.set_optimizer_step(0)
    else:
        engine.import_state(run.expert_state, step=run.step)
    return engine


def _announce(run: LoadedRun, *, repeated: int) -> None:
    """Says where training goes on, and how many steps are done once more."""
    world_size, last_step = distributed.get_world_size(), run.plan.last_step
    cursor = run.plan.cursor_at(run.step)
    source = "from the start"
    if run.checkpoint is not None:
        size = run.checkpoint.world_size
        writers = f"{size} workers" if size > 1 else "1 worker"
        source = f"from the checkpoint of step {run.step}, which {writers} wrote"
    detail = f"{source}: epoch {cursor.epoch}, step {cursor.step} in it, to step {last_step}"
    if repeated:
        detail += f"; {repeated} steps are done again"
    _LOG.info("%d workers train %s", world_size, detail)
    record(
        run.directory,
        "training",
        detail=detail,
        step=run.step,
        last_step=last_step,
        world_size=world_size,
        repeated=repeated,
    )
