"""How far the losses of other numbers of workers come apart, and what would keep them together.

    python benchmarks/worker_counts.py [--quick] [--json FILE] [--only PART,PART]

curve: the quickstart's first steps on 1, 2 and 4 workers, by the same global batches. Sums of other
order differ in their last bits; Adam divides by the size of a gradient, so it makes whole steps of
what is rounding where a gradient is nearly zero, and the difference grows from step to step.
f1: encodes some of the quickstart's passages with each recipe, one worker, and asks the questions
of `polyprag questions` (lead facts in wordings that no training saw) with the passage's own row.
exact: steps with train.exact, whose losses are to be the same to the last bit, and what they cost.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.examples import PASSAGES, ROOT
from harness.reporting import Goal, add_parts, finish, options, show
from polyprag.augment.corpus import augment_corpus
from polyprag.config.files import load_config, save_config
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.retrieval.building.index import build_index
from sharding.ingest.prepare import prepare
from worker_counts.groups import train
from worker_counts.recipes import EXACT, RECIPES, Recipe

PARTS = ("curve", "exact", "f1")
WORKERS = (1, 2, 4)
SHOWN = (1, 2, 3, 4, 5, 8, 12, 16, 20, 24, 31, 40, 60, 80)  # steps in the table


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    add_parts(parser, PARTS)
    parser.add_argument("--passages", type=int, metavar="N", help="that f1 encodes")
    args = parser.parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    results: dict[str, Any] = {"quick": args.quick}
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(prefix="worker-counts-") as temporary:
        place = Path(temporary)
        if "curve" in args.only:
            steps = 6 if args.quick else SHOWN[-1]
            recipes = RECIPES[:1] if args.quick else RECIPES
            results["curve"] = measure_curves(place, recipes, steps=steps)
            goals += show_curves(results["curve"])
        if "exact" in args.only:
            results["exact"] = measure_exact(place, steps=6 if args.quick else 40)
            goals += show_exact(results["exact"])
        if "f1" in args.only:
            passages = args.passages or (48 if args.quick else 256)
            recipes = RECIPES[:2] if args.quick else RECIPES
            results["f1"] = measure_f1(place, recipes, num_passages=passages)
            show_f1(results["f1"])
    finish(results, goals, args.json)
    return 0


def measure_curves(
    place: Path, recipes: Sequence[Recipe], *, steps: int
) -> dict[str, dict[str, list[float]]]:
    """The losses by recipe and number of workers; those of other recipes on 1 and 2 workers."""
    made = place / "curve"
    _prepare(made, num_passages=None)
    losses: dict[str, dict[str, list[float]]] = {}
    for recipe in recipes:
        for workers in WORKERS if recipe is recipes[0] else WORKERS[:2]:
            run = _copied(made, place / "trained")
            found = train(run, recipe, workers=workers, steps=steps)
            losses.setdefault(recipe.name, {})[str(workers)] = found
            print(f"  {recipe.name}: {workers} workers, {steps} steps", file=sys.stderr)
    return losses


def show_curves(losses: dict[str, dict[str, list[float]]]) -> list[Goal]:
    """Prints by how much the losses differ from one worker's; the goal is that of the first."""
    apart = {
        f"{name}: {workers}": [abs(a - b) for a, b in zip(by_workers["1"], found, strict=True)]
        for name, by_workers in losses.items()
        for workers, found in by_workers.items()
        if workers != "1"
    }
    num_steps = len(next(iter(apart.values())))
    rows = [
        (str(step), *(f"{differences[step - 1]:.1e}" for differences in apart.values()))
        for step in SHOWN
        if step <= num_steps
    ]
    show("|loss - loss of 1 worker|, by recipe and workers", ("step", *apart), rows)
    begun = max(differences[0] for differences in apart.values())
    name = "the first step's loss, 1 to 4 workers: differ by"
    return [Goal(name, begun, "<= 1e-5", begun <= 1e-5)]


def measure_exact(place: Path, *, steps: int) -> dict[str, dict[str, dict[str, Any]]]:
    """The losses and the median seconds of a step, exact and not, on 1, 2 and 4 workers."""
    made = place / "exact"
    _prepare(made, num_passages=240)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for recipe in (RECIPES[0], EXACT):
        for workers in WORKERS:
            run = _copied(made, place / "trained")
            losses = train(run, recipe, workers=workers, steps=steps)
            lines = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            seconds = statistics.median(json.loads(line)["seconds"] for line in lines[2:])
            of_recipe = found.setdefault(recipe.name, {})
            of_recipe[str(workers)] = {"losses": losses, "seconds": seconds}
    return found


def show_exact(found: dict[str, dict[str, dict[str, Any]]]) -> list[Goal]:
    """Prints how far losses come apart and what a step takes; the goal is that none does."""

    def apart(of: dict[str, dict[str, Any]], workers: str) -> float:
        pairs = zip(of["1"]["losses"], of[workers]["losses"], strict=True)
        return max(abs(left - right) for left, right in pairs)

    rows = [
        (name, workers, each["seconds"], f"{apart(of, workers):.1e}")
        for name, of in found.items()
        for workers, each in of.items()
    ]
    columns = ("recipe", "workers", "s a step", "|loss - of 1 worker|, most")
    show("the same bits on any number of workers", columns, rows)
    exact = max(apart(found[EXACT.name], workers) for workers in found[EXACT.name])
    return [Goal("exact: losses of 1, 2 and 4 workers differ by", exact, "0", exact == 0)]


def measure_f1(
    place: Path, recipes: Sequence[Recipe], *, num_passages: int
) -> dict[str, dict[str, Any]]:
    """Each recipe's F1 on questions in unseen wordings, with the passage's own row."""
    made = place / "f1"
    _prepare(made, num_passages=num_passages)
    questions = place / "questions.jsonl"
    write_lead_questions(made, questions)
    found = {}
    for recipe in recipes:
        run = _copied(made, place / "trained")
        losses = train(run, recipe, workers=1)
        config = load_config([], recipe.changed, run)
        build_index(run, config)
        results = evaluate(
            run,
            config,
            questions_path=questions,
            methods=parse_methods("poly"),
            out_dir=place / "results",
            gold_passages=True,
        )
        found[recipe.name] = results["poly"] | {"steps": len(losses), "last_loss": losses[-1]}
        print(f"  {recipe.name}: F1 {results['poly']['f1']:.3f}", file=sys.stderr)
    return found


def show_f1(found: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    rows = [
        (name, r["f1"], f"{r['ci95'][0]:.3f}-{r['ci95'][1]:.3f}", r["em"], r["n"], r["last_loss"])
        for name, r in found.items()
    ]
    columns = ("recipe", "F1", "95 %", "EM", "questions", "last loss")
    show("lead facts in unseen wordings, own row", columns, rows)


def _prepare(run: Path, *, num_passages: int | None) -> None:
    config = load_config(["quickstart"])
    run.mkdir()
    source = run / "passages.jsonl"
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join(lines[:num_passages]), encoding="utf-8")
    prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
    augment_corpus(run, config)
    save_config(config, run)


def _copied(made: Path, run: Path) -> Path:
    """Returns a fresh run of the same corpus."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    (run / "corpus").symlink_to(made / "corpus")
    shutil.copy(made / "config.yaml", run)
    return run


if __name__ == "__main__":
    sys.exit(main())
