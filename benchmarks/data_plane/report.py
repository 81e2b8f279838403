"""The tables and goals of the data plane's benchmark."""

import math
import statistics
from collections.abc import Callable
from typing import Any

from data_plane.systems import SYSTEMS
from harness.reporting import Goal, show

OURS = "polyprag"
READ_GOAL = 1.0  # x the best rival
RESUME_GOAL = 20.0  # x faster than reading the epoch's first half again
MEMORY_GOAL = 1.25  # x the peak at the smallest size
PREPARE_GOAL = 40_000.0  # passages a second and core

# What each table shows: a column's title, figure and form.
_TABLES = {
    "samples a second": (
        ("written", "written_per_s", "{:,.0f}"),
        ("in order", "in_order_per_s", "{:,.0f}"),
        ("in batches", "in_batches_per_s", "{:,.0f}"),
        ("shuffled", "shuffled_per_s", "{:,.0f}"),
    ),
    "seconds in the shuffled epoch": (
        ("import", "import_s", "{:.2f}"),
        ("to the first", "shuffled_first_s", "{:.3f}"),
        ("resume", "resume_s", "{:.3f}"),
        ("replay", "replay_s", "{:.3f}"),
        ("exact", "resume_exact", "{}"),
    ),
    "resident MB, and bytes a passage": (
        ("imported", "imported_mb", "{:.0f}"),
        ("in order", "in_order_peak_mb", "{:.0f}"),
        ("shuffled", "shuffled_peak_mb", "{:.0f}"),
        ("stored", "bytes_per_passage", "{:,.0f}"),
    ),
}

Runs = dict[str, dict[str, list[dict[str, Any]]]]


def medians(runs: Runs, *, num_passages: int) -> dict[str, dict[str, Any]]:
    """By system: each figure's median, the single times, and what failed."""
    return {name: _medians(of, num_passages) for name, of in runs.items()}


def _medians(runs: dict[str, list[dict[str, Any]]], num_passages: int) -> dict[str, Any]:
    failures = [
        f"{what}: {run['error']}" for what, of in runs.items() for run in of if "error" in run
    ]
    good = {what: [run for run in of if "error" not in run] for what, of in runs.items()}
    good = {what: of for what, of in good.items() if of}

    def median(what: str, key: str) -> float:
        return statistics.median(run[key] for run in good[what])

    result: dict[str, Any] = {"failures": failures}
    rates = {
        "write": "written_per_s",
        "sequential": "in_order_per_s",
        "batches": "in_batches_per_s",
        "shuffled": "shuffled_per_s",
    }
    for what, name in rates.items():
        if what in good:
            result[name] = num_passages / median(what, "seconds")
    if "write" in good:
        result["bytes_per_passage"] = median("write", "bytes") / num_passages
    if "sequential" in good:
        result["import_s"] = median("sequential", "import_s")
        result["in_order_first_s"] = median("sequential", "first_s")
        result["in_order_peak_mb"] = median("sequential", "peak_mb")
        result["imported_mb"] = median("sequential", "imported_mb")
    if "shuffled" in good:
        result["shuffled_first_s"] = median("shuffled", "first_s")
        result["shuffled_peak_mb"] = median("shuffled", "peak_mb")
        result["replay_s"] = median("shuffled", "replay_s")
    if "resume" in good:
        result["resume_s"] = median("resume", "seconds")
        result["resume_exact"] = all(run["exact"] for run in good["resume"])
        result["resume_lost"] = next((run["lost"] for run in good["resume"] if "lost" in run), None)
    result["seconds"] = {what: [run["seconds"] for run in of] for what, of in good.items()}
    return result


def print_size(num_passages: int, results: dict[str, dict[str, Any]]) -> None:
    """Three tables: rates, times, memory."""
    for what, columns in _TABLES.items():
        rows = [(s.label, *(_cell(results[s.name], column) for column in columns)) for s in SYSTEMS]
        titles = (title for title, _, _ in columns)
        show(f"{num_passages:,} passages: {what}", ("system", *titles), rows)


def _cell(of: dict[str, Any], column: tuple[str, str, str]) -> str:
    _, key, form = column
    if key not in of:
        return "failed" if of["failures"] else "-"
    if key == "resume_exact":
        return "yes" if of[key] else f"no, {of['resume_lost']} lost"
    return form.format(of[key])


def print_prepare(prepared: dict[str, Any]) -> None:
    """How fast `polyprag prepare` was."""
    show(
        f"polyprag prepare, {prepared['passages']:,} passages: passages a second",
        ("input", "wall s", "processor s", "a second", "a worker", "a processor second"),
        [
            (
                name,
                *(f"{way[key]:.2f}" for key in ("wall_s", "cpu_s")),
                *(f"{way[key]:,.0f}" for key in ("per_s", "per_s_and_worker", "per_cpu_s")),
            )
            for name, way in prepared["ways"].items()
        ],
    )


def goals(
    results: dict[int, dict[str, dict[str, Any]]],
    ours: dict[int, dict[str, Any]],
    prepared: dict[str, Any],
) -> list[Goal]:
    """What the project promises. A goal beside rivals isn't met while one of them fails.

    Args:
        results: of all systems, by size.
        ours: of polyprag, by size; what resuming and memory are judged by.
        prepared: what `measure_prepare` returned.
    """
    complete = not any(of["failures"] for result in results.values() for of in result.values())
    smallest, largest = min(ours), max(ours)
    made: list[Goal] = []

    def add(name: str, value: float, target: str, met: Callable[[float], bool]) -> None:
        made.append(Goal(name, value, target, met(value)))

    for key, how in (("in_order_per_s", "in order"), ("shuffled_per_s", "shuffled")):
        add(
            f"read {how}, sample by sample: rate / the best rival's, the least of all sizes",
            min(_against_best(result, key) for result in results.values()),
            f">= {READ_GOAL:g}",
            lambda value: complete and value >= READ_GOAL,
        )
    last = ours[largest]
    add(
        f"resume at {largest:,}: time of our own replay of the first half / time to resume",
        last.get("replay_s", math.nan) / last.get("resume_s", math.nan),
        f">= {RESUME_GOAL:g}",
        lambda value: value >= RESUME_GOAL and last["resume_exact"],
    )
    if smallest < largest:
        add(
            f"memory: peak at {largest:,} / at {smallest:,}, shuffled",
            last.get("shuffled_peak_mb", math.nan)
            / ours[smallest].get("shuffled_peak_mb", math.nan),
            f"<= {MEMORY_GOAL:g}",
            lambda value: value <= MEMORY_GOAL,
        )
    for (name, way), number in zip(prepared["ways"].items(), ("one", "all", "all"), strict=False):
        add(
            f"prepare, {name}: passages a second and worker, {number} of the cores at work",
            way["per_s_and_worker"],
            f">= {PREPARE_GOAL:,.0f}",
            lambda value: value >= PREPARE_GOAL,
        )
    return made


def _against_best(result: dict[str, dict[str, Any]], key: str) -> float:
    rivals = [of[key] for name, of in result.items() if name != OURS and key in of]
    return float(result[OURS].get(key, math.nan)) / max(rivals, default=math.nan)
