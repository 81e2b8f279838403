"""The picture of the routing table's benchmark: step time and memory against the number of rows."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from routing_table.report import Results
from routing_table.systems import OURS, SYSTEMS

_ROWS = (
    ("median step, ms", lambda of: of["steps"]["median_ms"]),
    ("peak memory of the process, MB", lambda of: of["peak_mb"]),
)


def draw(path: Path, results: Results, *, title: str) -> None:
    """Writes the picture.

    Args:
        path: A PNG file.
        results: All cases.
        title: Of all.
    """
    widths = sorted({width for width, _ in results})
    figure, axes = plt.subplots(
        2,
        len(widths),
        figsize=(max(8.4, 4.2 * len(widths)), 7),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, width in enumerate(widths):
        sizes = sorted(num_rows for of, num_rows in results if of == width)
        for (what, figure_of), row in zip(_ROWS, axes, strict=True):
            ax = row[column]
            for system in SYSTEMS:
                of = {size: results[width, size].get(system.name, {}) for size in sizes}
                ran = {size: figure_of(value) for size, value in of.items() if "steps" in value}
                ax.plot(
                    list(ran),
                    list(ran.values()),
                    marker="o",
                    markersize=4,
                    linewidth=2.5 if system.name == OURS else 1.3,
                    color=system.color,
                    label=system.label,
                    zorder=3 if system.name == OURS else 2,
                )
                _mark_end(ax, ran, of, color=system.color)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.grid(alpha=0.3)
            if column == 0:
                ax.set_ylabel(what)
        axes[0][column].set_title(f"{width} numbers a row")
        axes[1][column].set_xlabel("rows of the table")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.suptitle(title)
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mark_end(ax: Any, ran: dict[int, float], of: dict[int, dict[str, Any]], *, color: str) -> None:
    """A cross where a system's line ends because the next table doesn't fit in memory."""
    if ran and any("out_of_memory" in of[size] for size in of if size > max(ran)):
        last = max(ran)
        ax.plot([last], [ran[last]], marker="x", markersize=10, markeredgewidth=2, color=color)
