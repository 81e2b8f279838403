"""How fast a worker trains, measured in the metrics that an encoding run left."""

from dataclasses import dataclass
from statistics import median

from cluster.record.metrics import METRICS_FILE, StepMetrics, parse_metrics, read_lines
from polyprag.config import Config
from polyprag.config.files import CONFIG_FILE, load_config
from polyprag.config.keys import flatten
from polyprag.errors import RunError
from sharding.storage.files import exists, join

_WARM_UP = 10  # steps left out, where there are more than twice as many
# Settings that decide how long a token takes; the speed of a run with others means little.
_DECISIVE = (
    "model.path",
    "model.dtype",
    "experts.num",
    "experts.rank",
    "experts.targets",
    "experts.skip_prefix",
    "train.max_tokens",
    "deepspeed.stage",
    "cluster.gpus_per_worker",
)


@dataclass(frozen=True, slots=True)
class WorkerSpeed:
    """A worker's speed while it has work, and where it is from.

    Attributes:
        tokens_per_second: of one worker that has as many examples as any other.
        source: for the reader.
        tokens_per_example: as trained there; None where it isn't known.
        differences: settings that differ between that run and the planned one, as text.
    """

    tokens_per_second: float
    source: str
    tokens_per_example: float | None = None
    differences: tuple[str, ...] = ()


def measured_speed(run_dir: str, config: Config) -> WorkerSpeed | None:
    """Returns the speed of a worker in a run's full steps; None where it has trained none yet.

    Args:
        run_dir: the run that was measured.
        config: of the run that is planned.

    Raises:
        RunError: the metrics are damaged.
    """
    url = join(run_dir, "logs", METRICS_FILE)
    try:
        lines = [parse_metrics(line) for line in read_lines(url)]
    except ValueError as error:
        raise RunError(
            f"{url}: not the metrics of an encoding run ({error}); "
            "give the rate with --tokens-per-second, or another run with --like"
        ) from error
    if not lines:
        return None
    measured = None
    if exists(join(run_dir, CONFIG_FILE)):
        measured = load_config(run_dir=run_dir, uses=())
    lanes = measured.data.lanes if measured else None
    steps = full_steps(lines)
    return WorkerSpeed(
        tokens_per_second=median(busiest_speed(step, lanes=lanes) for step in steps),
        source=(
            f"median of {len(steps):,} full steps of {run_dir} on {steps[-1].world_size} workers"
        ),
        tokens_per_example=sum(s.tokens for s in lines) / max(1, sum(s.examples for s in lines)),
        differences=_differences(measured, config) if measured else (),
    )


def full_steps(lines: list[StepMetrics]) -> list[StepMetrics]:
    """Returns the steps in which every lane had data, without the first where there are many."""
    steady = lines[_WARM_UP:] if len(lines) > 2 * _WARM_UP else lines
    most = max(line.examples for line in steady)
    return [line for line in steady if line.examples == most]


def busiest_speed(step: StepMetrics, *, lanes: int | None) -> float:
    """Tokens per second of the worker with the most lanes, for which the others waited."""
    share = 1 / step.world_size if lanes is None else -(-lanes // step.world_size) / lanes
    return step.tokens * share / max(step.seconds, 1e-9)


def _differences(measured: Config, planned: Config) -> tuple[str, ...]:
    there, here = flatten(measured), flatten(planned)
    return tuple(
        f"{key}={there[key]} there, {here[key]} here"
        for key in _DECISIVE
        if there[key] != here[key]
    )
