"""How much must be written about a passage: F1 against training examples, beside a LoRA for each.

    python benchmarks/data_efficiency.py [--quick] [--json FILE] [--work DIR] [--seeds N]
                                         [--examples N,N] [--only NAMES]

The same passages and question-answer pairs, 1 to 16 of them a passage, go to polyprag (one pool of
experts and a row a passage) and to PRAG (a LoRA a passage, by peft); both are asked the same
questions, in wordings that no training used, with the passage's own row or LoRA. Each side's rate
or batch, and its length of training, are chosen for each number of examples on other passages'
questions (the tuning ones), and scored once, on those of the test passages. With --work, what is
measured is kept there, and the same command goes on. How polyprag's F1 falls with more passages to
a pool is what benchmarks/capacity.py measures.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_efficiency.material import Material, make_material
from data_efficiency.sides import PRAG_FORMATS, ours, theirs
from harness.cells import Cells
from harness.examples import ROOT
from harness.prag import Recipe
from harness.reporting import Goal, add_parts, finish, options, show
from polyprag.config.files import load_config
from polyprag.evaluation.metrics import bootstrap_interval

BUDGETS = (1, 2, 4, 8, 16)
OUR_MICROBATCHES, OUR_EPOCHS = (4, 16), (8, 24)  # 4 of them a step
PRAG_RATES, PRAG_STEPS = (3e-3, 1e-2, 3e-2), (8, 32)

SIDES = {
    "ours": "polyprag",
    "prag": "PRAG, questions alone",
    "prag-formats": "PRAG, its formats",
}

Found = dict[str, Any]


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is measured there")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of the test figures")
    add_parts(parser, tuple(SIDES))
    parser.add_argument("--examples", metavar="N,N", help="a passage  [default: 1,2,4,8,16]")
    args = parser.parse_args()
    budgets = (2, 8) if args.quick else BUDGETS
    if args.examples:
        budgets = tuple(sorted({int(number) for number in args.examples.split(",")}))
    os.chdir(ROOT)  # the model's path is relative to it
    with tempfile.TemporaryDirectory(prefix="data-efficiency-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        sizes = (1, 5) if args.quick else (24, 60)
        material = make_material(
            Path(temporary),
            load_config(["quickstart"], ["augment.num_rewrites=0"]),
            num_tuning=sizes[0],
            num_testing=sizes[1],
        )
        cells = Cells(work / "cells.jsonl")
        bench = Bench(material, cells, Path(temporary), budgets=budgets, quick=args.quick)
        sides = [side for side in args.only if not (args.quick and side == "prag-formats")]
        curves = bench.curves(sides, seeds=range(1 if args.quick else args.seeds))
    rows = [row for points in curves.values() for row in points]
    shown = (
        "side",
        "examples",
        "f1",
        "low",
        "high",
        "settings",
        "presentations",
        "bytes a passage",
    )
    show(
        f"{sizes[1]} passages, questions in unseen wordings, own row or LoRA",
        shown,
        [[row[column] for column in shown] for row in rows],
    )
    finish({"quick": args.quick, "curves": curves}, goals_of(curves), args.json)
    return 0


class Bench:
    """Chooses and measures each side's points."""

    def __init__(
        self,
        material: Material,
        cells: Cells,
        place: Path,
        *,
        budgets: Sequence[int],
        quick: bool,
    ) -> None:
        """Measures nothing yet."""
        self._material, self._cells, self._place, self._quick = material, cells, place, quick
        self._asked = material.num_tuning + material.num_testing
        self._budgets = budgets

    def curves(self, sides: Sequence[str], *, seeds: Sequence[int]) -> dict[str, list[Found]]:
        """Returns F1 by examples a passage for each side, of `SIDES`."""
        measures: dict[str, Callable[[int], tuple[Found, list[Found]]]] = {
            "ours": partial(self._ours, seeds=seeds),
            "prag": partial(self._theirs, formats=("qa",), seeds=seeds),
            "prag-formats": partial(self._theirs, formats=PRAG_FORMATS, seeds=seeds),
        }
        return {
            SIDES[side]: [
                _point(SIDES[side], budget, *measures[side](budget)) for budget in self._budgets
            ]
            for side in sides
        }

    def _ours(self, budget: int, seeds: Sequence[int]) -> tuple[Found, list[Found]]:
        def measure(name: str, seed: int, microbatch: int, epochs: int) -> Found:
            settings = [
                f"augment.num_qas={budget}",
                "augment.num_rewrites=0",
                f"data.microbatch={microbatch}",
                f"train.epochs={epochs}",
                f"train.seed={seed}",
            ]
            key = {"side": "ours", "passages": self._asked, "questions": name}
            return self._cells.measured(
                key | {"settings": settings},
                lambda: ours(
                    self._place,
                    self._material,
                    settings=settings,
                    num_passages=self._asked,
                    name=name,
                ),
            )

        grid = [
            {"microbatch": microbatch, "epochs": epochs}
            for microbatch in (OUR_MICROBATCHES[:1] if self._quick else OUR_MICROBATCHES)
            for epochs in (OUR_EPOCHS[:1] if self._quick else OUR_EPOCHS)
        ]
        best = _best(grid, lambda each: _mean(measure("tuning", 0, **each)))
        return best, [measure("testing", seed, **best) for seed in seeds]

    def _theirs(
        self, budget: int, formats: tuple[str, ...], seeds: Sequence[int]
    ) -> tuple[Found, list[Found]]:
        loss_on = "answer" if formats == ("qa",) else "all"
        settings = [f"augment.num_qas={budget}", f"augment.num_rewrites={int(loss_on == 'all')}"]

        def measure(name: str, seed: int, rate: float, steps: int) -> Found:
            key = {"side": "PRAG", "formats": formats, "questions": name, "settings": settings}
            recipe = Recipe(steps, rate, formats=formats, loss_on=loss_on)
            return self._cells.measured(
                key | {"rate": rate, "steps": steps, "seed": seed},
                lambda: theirs(
                    self._place, self._material, recipe, settings=settings, name=name, seed=seed
                ),
            )

        grid = [
            {"rate": rate, "steps": steps}
            for rate in (PRAG_RATES[1:2] if self._quick else PRAG_RATES)
            for steps in (PRAG_STEPS[:1] if self._quick else PRAG_STEPS)
        ]
        best = _best(grid, lambda each: _mean(measure("tuning", 0, **each)))
        return best, [measure("testing", seed, **best) for seed in seeds]


def _best(grid: list[Found], value: Callable[[Found], float]) -> Found:
    """Returns the settings of the greatest value; a single one isn't measured for that."""
    return max(grid, key=value) if len(grid) > 1 else grid[0]


def _mean(found: Found) -> float:
    return float(np.mean(found["f1"]))


def _point(side: str, budget: int, settings: Found, found: list[Found]) -> Found:
    """Returns a point of a curve: the mean over seeds, and its interval over the questions."""
    by_question = np.mean([each["f1"] for each in found], axis=0)
    interval = bootstrap_interval(by_question.tolist()) or (0.0, 1.0)
    return {
        "side": side,
        "examples": budget,
        "f1": float(by_question.mean()),
        "f1_by_seed": [_mean(each) for each in found],
        "low": interval[0],
        "high": interval[1],
        "settings": ", ".join(f"{name} {value:g}" for name, value in settings.items()),
        "presentations": found[0]["presentations_a_passage"],
        "bytes a passage": round(found[0]["bytes_a_passage"]),
    }


def goals_of(curves: dict[str, list[Found]]) -> list[Goal]:
    """Compares with the better of PRAG's two curves, at each number of examples."""
    rivals = [points for side, points in curves.items() if side.startswith("PRAG")]
    if not rivals:
        return []
    rival = [max(points, key=lambda point: point["f1"]) for points in zip(*rivals, strict=True)]
    goals = []
    for side, points in curves.items():
        if side.startswith("PRAG"):
            continue
        equal = min(p["f1"] / max(r["f1"], 1e-9) for p, r in zip(points, rival, strict=True))
        goals.append(Goal(f"{side}: F1 / PRAG's, equal examples, least", equal, ">= 1", equal >= 1))
        shares = [
            examples / point["examples"]
            for point in rival
            if (examples := examples_to(point["f1"], points)) is not None
            and point["examples"] > points[0]["examples"]
        ]
        reached = len(shares) == len(rival) - 1
        share = max(shares) if reached and shares else float("inf")
        goals.append(Goal(f"{side}: examples to PRAG's F1, most", share, "<= .5", share <= 0.5))
    return goals


def examples_to(f1: float, points: Sequence[Found]) -> float | None:
    """Returns the examples to this F1, between points by their logarithm; None if not reached."""
    best = np.maximum.accumulate([point["f1"] for point in points])
    at = np.log([point["examples"] for point in points])
    if f1 > best[-1]:
        return None
    return float(np.exp(np.interp(f1, best, at)))


if __name__ == "__main__":
    sys.exit(main())
