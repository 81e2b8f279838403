"""Is the knowledge in the weights, and in the routing? Poly-PRAG beside its rivals and controls.

    python benchmarks/quality.py [--quick] [--json FILE]

Encodes the passages of examples/popqa and asks (a) PopQA's questions with retrieved rows and (b)
questions on the passages' lead facts in wordings that no training saw, with the passage's own row.
Rivals in the same run: the base model alone, with the passages in its prompt, with another
passage's row, with all experts alike, and PRAG: one LoRA trained for each passage, on a sample.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.encoded import encoding_bytes
from harness.examples import PASSAGES, QUESTIONS, ROOT, first_questions
from harness.plain_workers import encode_here
from harness.prag import Prag, Recipe
from harness.reporting import Goal, finish, options, show
from polyprag.answering.modes import WITHOUT_MAP
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config, save_config
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.metrics import score
from polyprag.evaluation.questions import Question, read_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.retrieval.building.index import build_index
from sharding.corpus.passages import Record
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare


def prag(
    records: list[Record], questions: dict[str, list[Question]], config: Config
) -> dict[str, float]:
    """One LoRA for each passage, trained on the passage's own examples, asked its own questions.

    One full batch of the passage's examples a step, as many steps as the encoding has epochs, and
    the encoding's rate and formats.
    """
    rival = Prag(config)
    train = config.train
    formats = tuple(config.data.formats)
    recipe = Recipe(train.epochs, train.experts_lr, formats=formats, loss_on=train.loss_on)
    scores: list[float] = []
    started = time.monotonic()
    for record in records:
        rival.train(record, recipe, seed=record.passage.id)
        asked = questions[record.passage.text]
        scores += [
            score(answer, question.answers).f1
            for answer, question in zip(rival.answers(asked), asked, strict=True)
        ]
    return {
        "f1": sum(scores) / len(scores),
        "n": len(scores),
        "seconds_a_passage": (time.monotonic() - started) / len(records),
        "bytes_a_passage": rival.bytes_a_passage,
    }


def poly_on(predictions: Path, ids: set[str]) -> float:
    """Mean F1 of some of the predictions."""
    lines = map(json.loads, predictions.read_text(encoding="utf-8").splitlines())
    f1 = [line["f1"] for line in lines if line["id"] in ids]
    return sum(f1) / len(f1)


def main() -> None:
    """Runs the benchmark."""
    args = options(__doc__.splitlines()[0]).parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        passages, questions = PASSAGES, QUESTIONS
        if args.quick:
            passages, questions = first_questions(directory, num_questions=40)
        config = load_config(["quickstart"], ["data.partition_size=16"] if args.quick else [])
        run = directory / "run"
        prepare([str(passages)], run / "corpus", partition_size=config.data.partition_size)
        augment_corpus(run, config)
        save_config(config, run)
        seconds = encode_here(run, config)
        build_index(run, config)
        results = evaluate(
            run, config, questions_path=questions, methods=WITHOUT_MAP, out_dir=directory / "popqa"
        )
        lead = directory / "lead.jsonl"
        write_lead_questions(run, lead, limit=100 if args.quick else 600)
        on_lead = evaluate(
            run,
            config,
            questions_path=lead,
            methods=parse_methods("closed,rag,poly,poly-wrong-row"),
            out_dir=directory / "lead",
            gold_passages=True,
        )
        report(args, config, run, directory, results, on_lead, seconds)


def report(
    args: Any,
    config: Config,
    run: Path,
    directory: Path,
    results: dict[str, dict[str, Any]],
    on_lead: dict[str, dict[str, Any]],
    seconds: float,
) -> None:
    """Runs PRAG on a sample, prints the tables and writes the JSON."""
    corpus = Corpus.open(run / "corpus")
    by_text: dict[str, list[Question]] = {}
    for question in read_questions(directory / "lead.jsonl"):
        by_text.setdefault(question.gold[0].text, []).append(question)
    records = [
        record
        for record in corpus.iterate()
        if record.passage.text in by_text and record.augmentation and record.augmentation.qas
    ][:: 2 if args.quick else 4][: 8 if args.quick else 60]
    sample = {q.id for record in records for q in by_text[record.passage.text]}
    rival = prag(records, by_text, config)
    ours = {
        "f1": poly_on(directory / "lead" / "predictions-poly.jsonl", sample),
        "n": len(sample),
        "seconds_a_passage": seconds / corpus.manifest.num_passages,
        "bytes_a_passage": encoding_bytes(run) / corpus.manifest.num_passages,
    }
    for title, table in (
        ("PopQA, retrieved passages", results),
        ("lead facts, unseen wordings, own passage", on_lead),
    ):
        rows = [
            (method, r["f1"], f"{r['ci95'][0]:.3f}-{r['ci95'][1]:.3f}", r["em"], r["contains"])
            for method, r in table.items()
        ]
        show(title, ("method", "F1", "95 %", "EM", "contains"), rows)
    columns = ("F1", "seconds_a_passage", "bytes_a_passage")
    rows = [
        (name, *(r[key] for key in ("f1", "seconds_a_passage", "bytes_a_passage")))
        for name, r in (("Poly-PRAG", ours), ("PRAG", rival))
    ]
    show(f"{len(records)} passages, the same questions", ("method", *columns), rows)

    poly, closed = results["poly"], results["closed"]
    others = ("closed", "poly-wrong-row", "poly-uniform")
    gap = poly["ci95"][0] - max(results[name]["ci95"][1] for name in others)
    ratio = poly["f1"] / max(closed["f1"], 1e-9)
    own = on_lead["poly"]["f1"]
    goals = [
        Goal("PopQA: poly F1 / closed-book F1", ratio, ">= 3", ratio >= 3),
        Goal("PopQA: poly's interval above the controls' by", gap, "> 0", gap > 0),
        Goal("lead facts in unseen wordings, own row: F1", own, ">= 0.8", own >= 0.8),
    ]
    whole = {
        "popqa": results,
        "lead_facts": on_lead,
        "prag_sample": {"poly": ours, "prag": rival},
        "encode_seconds_one_process": seconds,
    }
    finish(whole, goals, args.json)


if __name__ == "__main__":
    main()
