"""Why a plan can't work or wastes its workers, and what would work instead."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.parallel.deepspeed_config import deepspeed_config
from cluster.plan.forecast import Forecast, forecast
from cluster.plan.model_shape import ModelShape
from cluster.plan.steps import EncodePlan
from polyprag.config import Config
from sharding.corpus.manifest import CorpusManifest
from sharding.stream.balance import balance

_WASTE = 0.02  # a share of the workers' time below which nothing is proposed
_TRIED = 64  # choices of one kind


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory of a worker in bytes; None where it isn't limited.

    Attributes:
        device: of its accelerator.
        host: of the machine, for this worker.
    """

    device: int | None = None
    host: int | None = None


def gigabytes(num_bytes: float) -> str:
    """Returns a size of memory as text, in 10^9 bytes."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e9:.4f} GB"


def problems(
    found: Forecast,
    manifest: CorpusManifest,
    config: Config,
    plan: EncodePlan,
    shape: ModelShape,
    *,
    limits: Limits,
    local_gpus: int | None,
) -> list[str]:
    """Returns what makes the plan impossible; each says what would work.

    Args:
        found: the plan's forecast.
        manifest: of the corpus.
        config: of the run.
        plan: of the run.
        shape: of the base model and experts.
        limits: of a worker's memory.
        local_gpus: accelerators of this machine if the run would start here; None if elsewhere.
    """
    said = list(_gpu_problems(config, local_gpus))
    row = shape.row_state_bytes
    if limits.host is not None and row > limits.host:
        most = limits.host // (row // shape.sites // shape.experts)
        said.append(
            f"a routing row of {shape.sites} sites x {shape.experts} experts takes "
            f"{gigabytes(row)} with its moments, more than a worker's {gigabytes(limits.host)}: "
            f"at most {most:,} numbers a row fit; lower experts.num, or take router.granularity="
            "layer or model"
        )
        return said
    for what, need, limit in (
        ("accelerator", found.memory.device_need, limits.device),
        ("machine", found.memory.host_need, limits.host),
    ):
        if limit is None or need <= limit:
            continue
        fitting: dict[str, str] = {}  # the gentlest of each kind
        for kind, value, other in _alternatives(manifest, config, plan, shape):
            if kind not in fitting and _fits(other, limits):
                fitting[kind] = kind + value
        ways = "; ".join(fitting.values()) or (
            "no single change of deepspeed.stage, train.max_tokens, cluster.workers or model.dtype "
            "is enough: combine them, lower experts.num or router.granularity, or take a smaller "
            "base model"
        )
        said.append(
            f"a worker needs {gigabytes(need)} of its {what}'s memory and has {gigabytes(limit)}; "
            f"what would fit: {ways}"
        )
        break
    return said


def _gpu_problems(config: Config, local_gpus: int | None) -> Iterator[str]:
    gpus, workers = config.cluster.gpus_per_worker, config.cluster.workers
    if 0 < gpus < 1 and workers > 1:
        yield (
            f"cluster.gpus_per_worker={gpus} puts several workers on one GPU, which NCCL refuses; "
            "set it to 1, with as many workers as GPUs"
        )
    if gpus > 1:
        yield (
            f"cluster.gpus_per_worker={gpus}: a worker uses one GPU and the others would idle; "
            f"set it to 1, with up to {int(gpus * workers)} workers"
        )
    if local_gpus is not None and gpus * workers > local_gpus:
        works = int(local_gpus // gpus)
        ways = f"--workers {works}" if works else "cluster.gpus_per_worker=0"
        yield (
            f"{workers} workers with cluster.gpus_per_worker={gpus:g} need {gpus * workers:g} GPUs "
            f"and this machine has {local_gpus}: set cluster.address to a cluster that has them, "
            f"or use {ways}"
        )


def _fits(found: Forecast, limits: Limits) -> bool:
    return (limits.device is None or found.memory.device_need <= limits.device) and (
        limits.host is None or found.memory.host_need <= limits.host
    )


def _alternatives(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape
) -> Iterator[tuple[str, str, Forecast]]:
    """Yields single changes (key, value) that may need less memory, each kind's gentlest first."""

    def planned(changed: Config, of: ModelShape = shape) -> Forecast:
        zero = deepspeed_config(changed, world_size=changed.cluster.workers)["zero_optimization"]
        return forecast(manifest, changed, plan, of, zero=zero)

    for stage in range(config.deepspeed.stage + 1, 4):
        # A file of further keys may be for one stage only.
        changed = replace(config, deepspeed=replace(config.deepspeed, stage=stage, config=None))
        yield "deepspeed.stage=", str(stage), planned(changed)
    tokens = config.train.max_tokens // 2
    while tokens >= config.data.max_length:
        changed = replace(config, train=replace(config.train, max_tokens=tokens))
        yield "train.max_tokens=", str(tokens), planned(changed)
        tokens //= 2
    workers = 2 * config.cluster.workers
    while workers <= config.data.lanes:
        changed = replace(config, cluster=replace(config.cluster, workers=workers))
        yield "--workers ", str(workers), planned(changed)
        workers *= 2
    if shape.base_dtype_bytes == 4:
        changed = replace(config, model=replace(config.model, dtype="bf16"))
        yield "model.dtype=", "bf16", planned(changed, replace(shape, base_dtype_bytes=2))


def improvements(manifest: CorpusManifest, plan: EncodePlan, *, workers: int) -> list[str]:
    """Returns single changes that at least halve the time in which workers idle.

    There are none where that time is short already.

    Args:
        manifest: of the corpus.
        plan: of the run.
        workers: planned for.
    """
    idle = _idle_workers(plan.examples, plan.num_lanes, workers, plan.microbatch)
    if idle < _WASTE:
        return []
    said = []
    # The fewest workers of which the busiest has no more lanes than it has now.
    fewer = -(-plan.num_lanes // -(-plan.num_lanes // workers))
    idle_then = _idle_workers(plan.examples, plan.num_lanes, fewer, plan.microbatch)
    if fewer < workers and workers * (1 - idle) <= 1.01 * fewer * (1 - idle_then):
        said.append(f"--workers {fewer}, which take no longer: {idle_then:.1%} idle")
    near = sorted(
        range(workers, min(4 * plan.num_lanes, len(plan.examples)) + 1, workers),
        key=lambda count: abs(count - plan.num_lanes),
    )
    lanes = _best(
        near[:_TRIED],
        lambda count: _idle_workers(plan.examples, count, workers, plan.microbatch),
        start=idle,
    )
    if lanes:
        step = f"a step then has {lanes[0] * plan.microbatch:,} examples"
        said.append(f"data.lanes={lanes[0]} ({step}): {lanes[1]:.1%} idle")
    passages, rounds = manifest.num_passages, range(1, _TRIED)
    of_rounds = [-(-passages // (plan.num_lanes * count)) for count in rounds]
    per_passage = sum(plan.examples) / passages
    size = _best(
        [size for size in of_rounds if size < manifest.partition_size],
        lambda size: _idle_workers(
            _uniform(passages, size, per_passage), plan.num_lanes, workers, plan.microbatch
        ),
        start=idle,
    )
    if size:
        said.append(f"data.partition_size={size[0]} when preparing anew: {size[1]:.1%} idle")
    return said


def _idle_workers(examples: Sequence[int], lanes: int, workers: int, microbatch: int) -> float:
    found = balance(examples, num_lanes=lanes, world_size=workers, microbatch=microbatch)
    return found.idle_workers


def _best(
    choices: Iterable[int], idle: Callable[[int], float], *, start: float
) -> tuple[int, float] | None:
    """Returns the first choice that hardly idles, else the best one.

    None if none halves `start`.
    """
    best: tuple[int, float] | None = None
    for choice in choices:
        share = idle(choice)
        if share <= start / 2 and (best is None or share < best[1]):
            best = choice, share
        if best is not None and best[1] < _WASTE:
            break
    return best


def _uniform(num_passages: int, size: int, per_passage: float) -> list[int]:
    """Returns the examples of partitions of `size` passages that all have equally many."""
    full, rest = divmod(num_passages, size)
    return [round(size * per_passage)] * full + ([round(rest * per_passage)] if rest else [])
