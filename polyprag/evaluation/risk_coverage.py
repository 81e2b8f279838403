"""How good answers are when only the surest are given: the risk-coverage curve of an evaluation.

El-Yaniv and Wiener (2010): coverage is the share of questions that is answered, risk the mean loss
of those, here 1 - F1. AURC is the mean risk over all coverages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sharding.printable import printable

COVERAGES = (25, 50, 75, 100)  # percent


def risk_coverage(confidences: Sequence[float], f1: Sequence[float]) -> dict[str, Any] | None:
    """Returns the curve of a method's answers; None without any.

    Args:
        confidences: of n answers.
        f1: of the same.

    Returns:
        `aurc`; `f1_at`, the mean F1 of the surest 25, 50, 75 and 100 %, by these numbers as text.
        Answers of equal confidence count as if in random order.
    """
    if len(f1) == 0:
        return None
    means_n = means_of_surest(np.asarray(confidences), np.asarray(f1))
    last = {each: max(1, round(len(f1) * each / 100)) - 1 for each in COVERAGES}
    return {
        "aurc": aurc_of(np.asarray(confidences), np.asarray(f1)),
        "f1_at": {str(each): float(means_n[at]) for each, at in last.items()},
    }


def means_of_surest(
    confidences_n: npt.NDArray[np.float64], f1_n: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns (n,) mean F1 of the surest answer, the surest two and so on, expected over ties."""
    _, group_n, counts = np.unique(-confidences_n, return_inverse=True, return_counts=True)
    mean_of_group = np.bincount(group_n, weights=f1_n) / counts
    expected_n = np.repeat(mean_of_group, counts)
    means: npt.NDArray[np.float64] = np.cumsum(expected_n) / np.arange(1, len(f1_n) + 1)
    return means


def aurc_of(confidences_n: npt.NDArray[np.float64], f1_n: npt.NDArray[np.float64]) -> float:
    """Returns the mean risk over all coverages."""
    return float(np.mean(1 - means_of_surest(confidences_n, f1_n)))


def curve_table(results: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Returns a row a method: F1 of its surest answers; None where no method has a curve."""
    curves = {name: each["trust"] for name, each in results.items() if each.get("trust")}
    if not curves:
        return None
    table = Table(  # in 80 columns
        title="F1 of the surest answers",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("method", no_wrap=True)
    for each in COVERAGES:
        table.add_column(f"{each} %", justify="right", no_wrap=True)
    has_impossible = any(each.get("impossible_trusted") is not None for each in curves.values())
    last = ["impossible,\ntrusted"] if has_impossible else []
    for header in ("AURC", "trusted", "their\nF1", "the\nothers'", *last):
        table.add_column(header, justify="right", no_wrap=True)
    for name, curve in curves.items():
        table.add_row(
            Text(printable(name)),
            *(_percent(curve["f1_at"][str(each)]) for each in COVERAGES),
            f"{curve['aurc']:.3f}",
            _share(curve["coverage"]),
            _percent(curve["f1_trusted"]),
            _percent(curve["f1_not_trusted"]),
            *([_share(curve.get("impossible_trusted"))] if has_impossible else ()),
        )
    return table


def trust_scores(
    confidences: Sequence[float],
    trusted: Sequence[bool],
    f1: Sequence[float],
    is_impossible: Sequence[bool],
) -> dict[str, Any] | None:
    """Returns what results.json says of a method's confidences; None without any answer.

    Args:
        confidences: of n answers.
        trusted: whether each is trusted.
        f1: of each; 0 where nothing answers the question.
        is_impossible: whether nothing does.

    Returns:
        What `risk_coverage` returns, and `coverage` (the share that is trusted), `f1_trusted` and
        `f1_not_trusted` (means; None of none), and `impossible_trusted`: the share that is trusted
        of the answers to questions that nothing answers; None without any.
    """
    curve = risk_coverage(confidences, f1)
    if curve is None:
        return None
    is_trusted, f1_n = np.asarray(trusted, dtype=bool), np.asarray(f1)
    return {
        **curve,
        "coverage": float(is_trusted.mean()),
        "f1_trusted": mean_or_none(f1_n[is_trusted]),
        "f1_not_trusted": mean_or_none(f1_n[~is_trusted]),
        "impossible_trusted": mean_or_none(is_trusted[np.asarray(is_impossible, dtype=bool)]),
    }


def mean_or_none(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float | None:
    """Returns the mean; None of nothing."""
    return float(values.mean()) if len(values) else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
