"""A benchmark's options, the machine it ran on, its tables, its goals and its JSON."""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_PACKAGES = ("torch", "deepspeed", "ray", "transformers", "peft", "faiss-cpu", "bm25s")


@dataclass(frozen=True)
class Goal:
    """A figure that the project promises; `met` is decided where the figure is made."""

    name: str
    value: float
    target: str
    met: bool


def options(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="the same at a small size")
    return parser


def add_parts(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Adds `--only`, which parts of a benchmark are run; all of them by default."""

    def parts(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if not set(chosen) <= set(names):
            raise argparse.ArgumentTypeError(f"choose of {', '.join(names)}")
        return chosen

    parser.add_argument("--only", type=parts, default=names, help=f"of {', '.join(names)}")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the versions that matter."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
            if line.startswith("flags"):
                flags = set(line.split(":", 1)[1].split())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "simd": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; floats with four significant digits."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console().print(table)


def finish(results: dict[str, Any], goals: Sequence[Goal], path: Path | None) -> None:
    """Prints the goals and writes the JSON."""
    show(
        "goals",
        ("goal", "value", "target", "met"),
        [(goal.name, goal.value, goal.target, "yes" if goal.met else "NO") for goal in goals],
    )
    if path is not None:
        whole = {"machine": machine(), **results, "goals": [asdict(goal) for goal in goals]}
        path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
