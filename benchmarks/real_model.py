"""A real instruct model that learns people's documents: from the weights, from the prompt, PRAG.

    python benchmarks/real_model.py [--quick] [--json FILE] [--work DIR] [--split dev|test]
                                    [--corpus handbook,wikipedia] [--only PART,PART]
                                    [--config NAME] [--set KEY=VALUE] [--asked-passages]

The commands of a user, on examples/handbook/pages and on the passages of
examples/wikipedia-questions: prepare, augment, encode, index, evaluate, with configs/smollm2.yaml
(`make real-model` first; --config quickstart: the small base; --quick: that, and few questions).
Then the same corpora with one LoRA shared by all passages, and with PRAG's LoRA for each passage,
each asked what its own passage answers; "own passage" is how polyprag answers those. Hours on two
cores: with --work everything is kept, and the same command goes on; --asked-passages trains half of
the handbook, the passages that a question of either split is about, as on Wikipedia. Nothing may be
chosen by the test split, which is for the table that is published.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cells import Cells
from harness.examples import ROOT
from harness.prag import Recipe
from harness.reporting import Goal, add_parts, finish, options, show
from polyprag.config.files import load_config
from real_model.corpora import Corpus, asked_passages, first_questions, handbook, wikipedia
from real_model.rival import (
    best_recipe,
    prag_scores,
    questions_of_own_passages,
    scores_of,
)

PARTS = ("poly", "shared", "prag")
SHARED = ("experts.num=1", "experts.rank=64", "experts.alpha=64", "router.gate=softmax")
QUICK = ("train.epochs=2", "augment.num_qas=2", "cluster.workers=1", "index.lsa_dims=8")
METHODS = "closed,rag,poly,combine,poly-wrong-row,poly-random-row,poly-uniform"
OWN = "own passage"
SAME = f"poly, {OWN}, PRAG's questions"
# name, methods, more arguments of evaluate
ASKED = (
    ("", METHODS, ()),
    (", top 3", "rag,poly,combine", ("--top-k", "3")),
    (", BM25", "rag", ("retrieval.method=bm25",)),
    (", dense", "rag", ("retrieval.method=dense",)),
    (f", {OWN}", "rag,poly,combine,poly-wrong-row", ("--gold-passages",)),
)
# as its authors encode with a 1B model: a rewrite and three questions, one example a step
PUBLISHED = Recipe(epochs=2, rate=3e-4, batch=1, num_qas=3, num_rewrites=1)
# with our questions, as often as we show them: the rate is chosen by development questions
OUR_QUESTIONS = tuple(
    Recipe(epochs=3, rate=rate, formats=("qa",), loss_on="answer", batch=4) for rate in (1e-3, 3e-3)
)
LEARNT = 46  # passages that PRAG's LoRAs are trained on, at most
RIVALS = ("PRAG as published", "PRAG with our questions")
COLUMNS = ("corpus", "method", "f1", "low", "high", "contains", "n")


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    add_parts(parser, PARTS)
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep everything there")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--corpus", default="handbook,wikipedia", metavar="NAME,NAME")
    parser.add_argument("--config", default="smollm2", metavar="NAME", help="of the base model")
    parser.add_argument("--asked-passages", action="store_true", help="no others of the handbook")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    with tempfile.TemporaryDirectory(prefix="real-model-") as temporary:
        work = (args.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        known = {"handbook": handbook(), "wikipedia": wikipedia(work)}
        corpora = [known[name] for name in args.corpus.split(",")]
        if args.asked_passages:
            corpora = [  # Wikipedia's has no others
                only_asked(each, work, args.config) if each.name == "handbook" else each
                for each in corpora
            ]
        if args.quick:
            corpora = [first_questions(corpus, work, limit=6) for corpus in corpora[-1:]]
            args.config, args.settings = "quickstart", [*QUICK, *args.settings]
        found: dict[str, dict[str, Any]] = {}
        for corpus in corpora:
            bench = Bench(corpus, work, args.config, args.settings, split=args.split)
            found[corpus.name] = bench.measure(args.only, ASKED[:1] if args.quick else ASKED)
    rows = [
        [corpus, method, r["f1"], *(r.get("ci95") or ("", "")), r["contains"], r["n"]]
        for corpus, methods in found.items()
        for method, r in methods.items()
    ]
    show(f"{args.split} questions", COLUMNS, rows)
    results = {"quick": args.quick, "split": args.split, "found": found}
    results |= {"config": args.config, "settings": args.settings, "asked": args.asked_passages}
    finish(results, [goal for name in found for goal in goals_of(name, found[name])], args.json)
    return 0


def only_asked(corpus: Corpus, work: Path, config: str) -> Corpus:
    """Cuts the corpus into passages, and keeps those that are asked about."""
    whole = work / f"{corpus.name}-whole"
    polyprag("prepare", whole, *corpus.sources, "--config", config)
    return asked_passages(corpus, work, whole)


class Bench:
    """One corpus, put in and asked in all ways."""

    def __init__(
        self, corpus: Corpus, work: Path, config: str, settings: Sequence[str], *, split: str
    ) -> None:
        """Measures nothing yet."""
        self._corpus, self._work = corpus, work
        self._config, self._settings = config, settings
        self._split, self._questions = split, corpus.questions[split]
        self._run = work / corpus.name
        self._cells = Cells(work / f"{corpus.name}-cells.jsonl")

    def measure(
        self, parts: Sequence[str], asked: Sequence[tuple[str, str, tuple[str, ...]]]
    ) -> dict[str, Any]:
        """Returns the scores of each method; `asked` is how polyprag's are asked."""
        polyprag("prepare", self._run, *self._corpus.sources, *self._layers())
        polyprag("augment", self._run)
        found: dict[str, Any] = {}
        if "poly" in parts:
            self._encode(self._run)
            for name, methods, more in asked:
                for method, scores in self._evaluate(self._run, methods, more).items():
                    found[f"{method}{name}"] = scores
        if "shared" in parts:
            run = self._work / f"{self._corpus.name}-shared"
            run.mkdir(exist_ok=True)
            if not (run / "corpus").exists():
                (run / "corpus").symlink_to(self._run / "corpus")
            self._encode(run, *SHARED)
            found["one shared LoRA"] = self._evaluate(run, "poly", ())["poly"]
        if "prag" in parts:
            found |= self._prag()
        return found

    def _prag(self) -> dict[str, Any]:
        config = load_config([self._config], list(self._settings), self._run)
        asked, cells = self._corpus.questions["dev"], self._cells
        best = best_recipe(self._run, config, asked, recipes=OUR_QUESTIONS, cells=cells)
        found = {}
        for name, recipe in zip(RIVALS, (PUBLISHED, best), strict=True):
            found[name] = prag_scores(
                self._run,
                config,
                self._questions,
                recipe=recipe,
                cells=cells,
                name=name,
                limit=LEARNT,
            )
        *_, (_, methods, more) = ASKED
        said = self._results(methods, more) / "predictions-poly.jsonl"
        if said.exists():
            found[SAME] = scores_of(said, set(found[RIVALS[0]]["ids"]))
        return found

    def _layers(self, *settings: str) -> tuple[str, ...]:
        return ("--config", self._config, *self._settings, *settings)

    def _encode(self, run: Path, *settings: str) -> None:
        polyprag("encode", run, *self._layers(*settings), "--allow-bare")
        polyprag("index", run)

    def _evaluate(self, run: Path, methods: str, more: tuple[str, ...]) -> dict[str, Any]:
        out = self._results(methods, more, run=run)
        if not (out / "results.json").exists():
            questions = self._questions
            if "--gold-passages" in more:
                questions = self._work / f"{self._corpus.name}-{self._split}-own.jsonl"
                questions_of_own_passages(run, self._questions, questions)
            asked = ("--questions", questions, "--methods", methods, "--out", out)
            polyprag("evaluate", run, *asked, *more)
        found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
        return found

    def _results(self, methods: str, more: tuple[str, ...], *, run: Path | None = None) -> Path:
        name = "-".join([self._split, *methods.split(","), *more]).replace("/", "_")
        return (run or self._run) / "results" / name


def polyprag(command: str, run: Path, *arguments: str | Path) -> None:
    """Runs a command as a user does, and ends with it where it fails."""
    line = [sys.executable, "-m", "polyprag", command, str(run), *map(str, arguments)]
    print("$ polyprag", *line[3:], flush=True)
    done = subprocess.run(line, check=False)
    if done.returncode:  # it has said why
        sys.exit(done.returncode)


def goals_of(corpus: str, found: dict[str, Any]) -> list[Goal]:
    """Compares the methods that were measured."""
    goals = []
    if {"rag", "poly", "combine", "poly-wrong-row", "closed"} <= found.keys():
        rags = [name for name in found if name.startswith("rag") and OWN not in name]
        least = 0.9 if corpus == "handbook" else 1.0
        for measure, key in (("F1", "f1"), ("answers in it", "contains")):
            rag = max(found[name][key] for name in rags)
            poly, combine = (found[name][key] / max(rag, 1e-9) for name in ("poly", "combine"))
            goals += [
                Goal(f"{corpus}: poly / best rag, {measure}", poly, f">= {least}", poly >= least),
                Goal(f"{corpus}: combine / best rag, {measure}", combine, ">= 1.1", combine >= 1.1),
            ]
        above = found["poly-wrong-row"]["f1"] - found["closed"]["f1"]
        goals.append(Goal(f"{corpus}: wrong row above closed", above, "<= .05", above <= 0.05))
    rivals = [found[name]["f1"] for name in RIVALS if name in found]
    if rivals and (ours := found.get(SAME)):
        share = ours["f1"] / max(*rivals, 1e-9)
        goals.append(Goal(f"{corpus}: poly / PRAG's best, F1", share, ">= 1", share >= 1))
    return goals


if __name__ == "__main__":
    sys.exit(main())
