"""The routing table's benchmark: best runs, tables and goals."""

import math
from collections.abc import Sequence
from typing import Any

from harness.reporting import Goal, show
from routing_table.systems import OURS, SYSTEMS, Case

FLAT_GOAL, RIVAL_GOAL = 1.1, 1.0
_LARGEST = ("rows_per_s", "imported_mb", "peak_mb", "disk_bytes", "number")

Results = dict[tuple[int, int], dict[str, dict[str, Any]]]  # (width, N) -> system -> figures


def best_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each figure of the process that did best in it, or what went wrong in one of them.

    Memory is the largest: it is what must be there.
    """
    for run in runs:
        if "error" in run or "out_of_memory" in run:
            return run
    merged: dict[str, Any] = {}
    for key, value in runs[0].items():
        if isinstance(value, dict):
            merged[key] = best_of([run[key] for run in runs])
        else:
            merged[key] = (max if key in _LARGEST else min)(run[key] for run in runs)
    return merged


def print_width(width: int, results: Results) -> None:
    """A table for each number of rows."""
    for (of, num_rows), systems in sorted(results.items()):
        if of != width:
            continue
        rows = [(s.label, *_cells(systems[s.name])) for s in SYSTEMS if s.name in systems]
        show(
            f"{num_rows:,} rows of {width} ({3 * 4 * num_rows * width / 1e9:.2f} GB with moments)",
            ("system", "median ms", "mean ms", "rows/s", "beside ms", "peak MB", "disk MB"),
            rows,
        )


def _cells(of: dict[str, Any]) -> tuple[str, ...]:
    if "error" in of:
        return ("failed", *[""] * 5)
    if "out_of_memory" in of:
        return ("out of memory", *[""] * 5)
    steps, beside = of["steps"], of.get("beside")
    return (
        f"{steps['median_ms']:.3f}",
        f"{steps['mean_ms']:.3f}",
        f"{steps['rows_per_s']:,.0f}",
        f"{beside['mean_ms']:.3f}" if beside else "-",
        f"{of['peak_mb']:,.0f}",
        f"{of['disk_bytes'] / 1e6:,.0f}",
    )


def print_epochs(epochs: Sequence[tuple[Case, dict[str, Any]]]) -> None:
    """What whole epochs took."""
    show(
        "whole epochs, from nothing on disk",
        ("table", "steps", "seconds", "rows/s", "mean ms", "peak MB", "disk MB"),
        [
            (
                f"{case.num_rows:,} x {case.width}",
                *(
                    (
                        f"{of['steps']['number']:,}",
                        f"{of['seconds']:.0f}",
                        f"{of['steps']['rows_per_s']:,.0f}",
                        f"{of['steps']['mean_ms']:.3f}",
                        f"{of['peak_mb']:,.0f}",
                        f"{of['disk_bytes'] / 1e6:,.0f}",
                    )
                    if "steps" in of
                    else ("failed", *[""] * 5)
                ),
            )
            for case, of in epochs
        ],
    )


def goals(results: Results, epochs: Sequence[tuple[Case, dict[str, Any]]]) -> list[Goal]:
    """What the project promises. A goal beside rivals isn't met while one of them fails."""
    failed = any("error" in of for systems in results.values() for of in systems.values())
    ours = {key: systems[OURS] for key, systems in results.items()}
    widths = sorted({width for width, _ in ours})
    sizes = sorted({num_rows for _, num_rows in ours if all((w, num_rows) in ours for w in widths)})
    first, last = sizes[0], sizes[-1]

    def growth(*keys: str) -> float:
        return max(
            _figure(ours[width, last], *keys) / _figure(ours[width, first], *keys)
            for width in widths
        )

    together = [of for of in results.values() if all("steps" in run for run in of.values())]

    def against(*keys: str) -> float:
        best = [min(_figure(of[s], *keys) for s in of if s != OURS) for of in together]
        mine = [_figure(of[OURS], *keys) for of in together]
        return min((b / m for b, m in zip(best, mine, strict=True)), default=math.nan)

    made = [
        _flat(f"a step, median: {last:,} rows / {first:,}", growth("steps", "median_ms")),
        _flat(f"a step beside a model, mean: {last:,} / {first:,}", growth("beside", "mean_ms")),
        _flat(f"peak memory of the process: {last:,} / {first:,}", growth("peak_mb")),
    ]
    for name, keys in (
        ("a step, median", ("steps", "median_ms")),
        ("a step beside a model, mean", ("beside", "mean_ms")),
    ):
        least = against(*keys)
        made.append(
            Goal(
                f"{name}: best rival / ours, the least of {len(together)} tables that all hold",
                least,
                f">= {RIVAL_GOAL:g}",
                not failed and least >= RIVAL_GOAL,
            )
        )
    if epochs:
        ratio = max(
            _figure(of, "peak_mb") / _figure(ours[case.width, first], "peak_mb")
            for case, of in epochs
        )
        made.append(_flat(f"peak memory of a whole epoch / at {first:,}", ratio))
    return made


def _flat(name: str, ratio: float) -> Goal:
    return Goal(name, ratio, f"<= {FLAT_GOAL:g}", ratio <= FLAT_GOAL)


def _figure(of: dict[str, Any], *keys: str) -> float:
    value: Any = of
    for key in keys:
        value = value.get(key, {}) if isinstance(value, dict) else {}
    return float(value) if isinstance(value, int | float) else math.nan
