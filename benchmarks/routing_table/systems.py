"""The systems of the routing table's benchmark, and how a case of one is measured."""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.processes import in_a_process

_FEW: dict[str, Any] = {"warm_up": 3, "steps": 24, "beside": 12}
_FEWEST: dict[str, Any] = {"warm_up": 1, "steps": 5, "beside": 3}
LIMIT_S = 900  # of one case: a system that hangs is reported, not waited for
OURS = "polyprag"


@dataclass(frozen=True)
class System:
    """What is measured.

    Attributes:
        name: In the results.
        module: `routing_table.<module>` has it.
        label: For tables and the picture.
        color: Of its line.
        contends: Whether it is near enough to us to be worth measuring repeatedly.
        shuffled: Whether its steps draw their rows from all of the table.
    """

    name: str
    module: str
    label: str
    color: str
    contends: bool = False
    shuffled: bool = False


SYSTEMS = (
    System(OURS, OURS, "polyprag", "black", contends=True),
    System("fbgemm", "fbgemm", "FBGEMM, Adagrad", "tab:green", contends=True),
    System("torch_sparse", "torch_sparse", "SparseAdam", "tab:blue", contends=True),
    System("torch_adam", "torch_adam", "Adam", "tab:red"),
    System("peft", "peft", "PEFT Poly, Adam", "tab:orange"),
    System("memmap", "memmap", "memory map", "tab:purple", contends=True),
    System("memmap_shuffled", "memmap", "memory map, shuffled", "tab:pink", shuffled=True),
)


@dataclass(frozen=True)
class Case:
    """One table, and how long it is trained.

    Attributes:
        num_rows: N, about: see `Stream`.
        sites: S of a row.
        experts: K of a row.
        partition_size: Rows of a partition.
        warm_up: Steps before those that are timed.
        steps: Steps that are timed, one right after the other; None for all of an epoch.
        beside: Steps that are timed with a pause after each, in which a model would be at work.
        budget_s: Seconds after which no further step is timed.
        gap_s: The pause.
    """

    num_rows: int
    sites: int
    experts: int
    partition_size: int
    warm_up: int
    steps: int | None
    beside: int
    budget_s: float
    gap_s: float = 0.01

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return self.sites * self.experts

    @property
    def table_bytes(self) -> int:
        """Of rows and both moments."""
        return 3 * 4 * self.num_rows * self.width


def memory() -> dict[str, int]:
    """This machine's memory and what of it is free for use, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    fields = {name: int(text.split()[0]) * 1024 for name, text in (x.split(":") for x in lines)}
    return {"total": fields["MemTotal"], "available": fields["MemAvailable"]}


def measure(
    system: System, case: Case, *, memory_limit: int, cold_bytes: int, scratch: Path
) -> dict[str, Any]:
    """One case in a process of its own.

    Args:
        system: Whose.
        case: Which.
        memory_limit: Bytes that the process may have of its own.
        cold_bytes: A table of more bytes finds its files out of memory.
        scratch: Where files may lie.

    Returns:
        What `routing_table.case` printed, or {"error": the last line that the process wrote}.
    """
    with tempfile.TemporaryDirectory(prefix=f"{system.name}-", dir=scratch) as directory:
        cold = case.table_bytes > cold_bytes
        if system.shuffled:  # each of its steps reads and writes some thousand places of the disk
            case = replace(case, **(_FEWEST if cold else _FEW))
        arguments = asdict(case) | {
            "steps": sys.maxsize if case.steps is None else case.steps,
            "budget_s": LIMIT_S if case.steps is None else case.budget_s,
            "whole_epoch": case.steps is None,
            "cold": cold,
            "shuffled": system.shuffled,
            "memory_limit": memory_limit,
            "directory": directory,
        }
        return in_a_process(
            *("routing_table.case", system.module, json.dumps(arguments)),
            environment={"OMP_NUM_THREADS": "1"},
            limit_s=LIMIT_S,
        )
