"""What the dry run took, and whether all was as it must be."""

from typing import Any

from harness.reporting import Goal, show


def dry(made: dict[str, Any], *, seconds: float) -> tuple[dict[str, Any], list[Goal]]:
    """Prints what the dry run took, and whether all was as it must be."""
    leases = made["leases"]
    sizes = {key: of for key, of in made.items() if key != "leases"}
    show(
        f"dry run: {leases['contenders']} workers, each in its turn or as threads of one process",
        ("passages a partition", *sizes),
        [(name, *(_cell(of[part][key]) for of in sizes.values())) for name, part, key in _DRY],
    )
    print(
        f"leases: {leases['contenders']} processes, winners of each round {leases['winners']} with "
        f"numbers {leases['numbers']}; {leases['refused']} stopped holders refused; a round took "
        f"at most {leases['seconds']:.1f} s"
    )
    every = list(sizes.values())
    misread = sum(
        of["plan"][key]
        for of in every
        for key in ("never", "more_than_once", "partitions_with_two_readers")
    )
    misnamed = sum(
        of["checkpoints"][key] for of in every for key in ("unnamed", "missing", "wrong")
    )
    rounds = len(leases["winners"])
    decided = sum(won == 1 for won in leases["winners"])
    fenced = leases["refused"] == rounds - 1 and leases["numbers"] == list(range(1, rounds + 1))
    planning = max(sum(of["plan"][k] for k in ("load_s", "plan_s", "share_s")) for of in every)
    manifest = max(of["checkpoints"]["save"] + of["checkpoints"]["load"] for of in every)
    worker = max(of["checkpoints"]["worker_cpu"] for of in every)
    memory = max(of["plan"]["planning_peak_mb"] for of in every)
    goals = [
        Goal("dry run: examples not read exactly once", misread, "0", misread == 0),
        Goal(
            "dry run: lease rounds with one winner, the one before refused",
            decided if fenced else 0,
            str(rounds),
            fenced and decided == rounds,
        ),
        Goal(
            "dry run: files or entries of checkpoints that are wrong", misnamed, "0", misnamed == 0
        ),
        Goal("dry run: a worker's planning, s", planning, "<= 5", planning <= 5),
        Goal("dry run: a worker's planning, peak MB", memory, "<= 500", memory <= 500),
        Goal("dry run: checkpoint manifest written and read, s", manifest, "<= 2", manifest <= 2),
        Goal("dry run: worker 0's processor in a checkpoint, s", worker, "<= 1", worker <= 1),
        Goal("dry run: all of it, s", seconds, "<= 300", seconds <= 300),
    ]
    return made | {"seconds": seconds}, goals


_DRY = (
    ("partitions", "plan", "partitions"),
    ("examples", "plan", "examples"),
    ("steps of an epoch", "plan", "steps"),
    ("share of lane slots that stay empty", "plan", "empty_slots"),
    ("examples read never", "plan", "never"),
    ("examples read more than once", "plan", "more_than_once"),
    ("corpus manifest, bytes", "plan", "manifest_bytes"),
    ("written, s", "plan", "save_s"),
    ("read and checked, s", "plan", "load_s"),
    ("planned, s", "plan", "plan_s"),
    ("a worker's lanes, orders and cursor, s", "plan", "share_s"),
    ("a worker's peak until then, MB", "plan", "planning_peak_mb"),
    ("checkpoints made", "checkpoints", "number"),
    ("partitions that one names anew", "checkpoints", "most_changed"),
    ("worker 0's processor in one, s", "checkpoints", "worker_cpu"),
    ("the slowest worker in one, s (all share this machine)", "checkpoints", "seconds"),
    ("checkpoint manifest, bytes", "checkpoints", "manifest_bytes"),
    ("written, s", "checkpoints", "save"),
    ("read and checked, s", "checkpoints", "load"),
    ("all workers' peak, in one process, MB", "checkpoints", "peak_mb"),
)


def _cell(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) else float(value)
