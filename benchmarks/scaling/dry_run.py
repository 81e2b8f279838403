"""A run of millions of passages on hundreds of workers, dry: no text, no model, no gradient.

    python -m scaling.dry_run PART JSON

Each part is a process of its own, so that its memory is its own; its result is the last line.
"""

import gc
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.examples import ROOT
from harness.processes import in_a_process

_LIMIT_S = 600


@dataclass(frozen=True)
class Size:
    """Of a dry run.

    Attributes:
        passages: of the corpus.
        lanes: of the global batch, and workers of the first group.
        fewer: workers of the groups that go on.
        checkpoints: of each group.
        rounds: in which all contend for the lease.
        lease_s: the lease's length.
    """

    passages: int
    lanes: int
    fewer: tuple[int, int]
    checkpoints: int
    rounds: int
    lease_s: float

    @property
    def workers(self) -> list[int]:
        """Of each group, one after the other."""
        return [self.lanes, *self.fewer]


WHOLE = Size(21_015_324, 256, (255, 128), checkpoints=2, rounds=4, lease_s=4.0)
QUICK = Size(1_000_000, 32, (31, 16), checkpoints=2, rounds=2, lease_s=2.0)


def dry_run(size: Size, partition_sizes: list[int]) -> dict[str, Any]:
    """Runs every part for every size of partitions.

    Raises:
        RuntimeError: a part failed.
    """
    results: dict[str, Any] = {"leases": _part("leases", size)}
    for partition_size in partition_sizes:
        of = {part: _part(part, size, partition_size) for part in ("plan", "checkpoints")}
        results[str(partition_size)] = of
    return results


def _part(part: str, size: Size, partition_size: int = 0) -> dict[str, Any]:
    told = json.dumps(asdict(size) | {"partition_size": partition_size})
    started = time.monotonic()
    result = in_a_process(
        *("scaling.dry_run", part, told),
        environment={"DS_ACCELERATOR": "cpu"},
        cwd=ROOT,
        limit_s=_LIMIT_S,
    )
    if "error" in result:
        raise RuntimeError(f"the dry run's {part}: {result['error']}")
    return result | {"process_s": time.monotonic() - started}


def _config(size: Size, partition_size: int) -> Any:
    """The settings for all of Wikipedia, for two epochs on so many lanes."""
    from polyprag.config.files import load_config

    config = load_config(["wikipedia-21m"], [f"data.lanes={size.lanes}", "cluster.workers=1"])
    data = replace(config.data, partition_size=partition_size)
    return replace(config, data=data, train=replace(config.train, epochs=2))


def _leases(size: Size, partition_size: int) -> dict[str, Any]:
    from scaling.leases import contend

    with tempfile.TemporaryDirectory() as directory:
        return contend(
            Path(directory), contenders=size.lanes, rounds=size.rounds, length_s=size.lease_s
        )


def _plan(size: Size, partition_size: int) -> dict[str, Any]:
    from cluster.plan.steps import plan_encoding
    from scaling.plan import segments, synthetic_manifest, time_of_shares, times_read
    from sharding.corpus.manifest import CorpusManifest
    from sharding.stream.balance import balance

    config = _config(size, partition_size)
    make = partial(
        synthetic_manifest,
        size.passages,
        partition_size=partition_size,
        qas=config.augment.wanted_qas,
    )
    made = make()
    with tempfile.TemporaryDirectory() as directory:
        started = time.monotonic()
        made.save(directory)
        save_s = time.monotonic() - started
        del made  # a worker hasn't got it
        _forget_peak()
        saved = time.monotonic()
        manifest = CorpusManifest.load(directory)
        loaded = time.monotonic()
        num_bytes = (Path(directory) / "manifest.json").stat().st_size
    plan = plan_encoding(manifest, config, corpus_url="corpus")
    planned = time.monotonic()
    shares = time_of_shares(plan, workers=size.lanes)
    empty = balance(
        plan.examples,
        num_lanes=plan.num_lanes,
        world_size=size.lanes,
        microbatch=plan.microbatch,
    )
    planning_peak = _peak_mb()
    began = time.monotonic()
    stretches = segments(plan, [*size.workers, size.lanes])
    read = times_read(plan, stretches)
    return read | {
        "partitions": len(manifest.partitions),
        "steps": plan.steps_per_epoch,
        "empty_slots": empty.empty_slots,
        "stretches": [asdict(stretch) for stretch in stretches],
        "same": manifest == make(),
        "manifest_bytes": num_bytes,
        "save_s": save_s,
        "load_s": loaded - saved,
        "plan_s": planned - loaded,
        "share_s": shares,
        "planning_peak_mb": planning_peak,
        "read_s": time.monotonic() - began,
    }


def _checkpoints(size: Size, partition_size: int) -> dict[str, Any]:
    from cluster.checkpoints.manifest import identity_of
    from cluster.plan.steps import plan_encoding
    from scaling.checkpoints import checkpoint_all
    from scaling.plan import synthetic_manifest

    config = _config(size, partition_size)
    manifest = synthetic_manifest(
        size.passages, partition_size=partition_size, qas=config.augment.wanted_qas
    )
    plan = plan_encoding(manifest, config, corpus_url="corpus")
    with tempfile.TemporaryDirectory() as directory:
        made = checkpoint_all(
            Path(directory),
            plan,
            manifest,
            identity_of(config, manifest),
            workers=size.workers,
            each=size.checkpoints,
            every_steps=config.checkpoint.every_steps,
        )
    return asdict(made)


def _peak_mb() -> float:
    """Of this process; what `getrusage` tells begins with the memory of the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6


def _forget_peak() -> None:
    """Has the peak begin with what is held now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


PARTS = {"leases": _leases, "plan": _plan, "checkpoints": _checkpoints}


def main() -> None:
    """Runs a part."""
    part, told = sys.argv[1:]
    values = json.loads(told)
    partition_size = values.pop("partition_size")
    size = Size(**values | {"fewer": tuple(values["fewer"])})
    result = PARTS[part](size, partition_size)
    print(json.dumps(result | {"peak_mb": _peak_mb()}))


if __name__ == "__main__":
    main()
