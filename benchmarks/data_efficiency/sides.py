"""F1 after a number of examples a passage: of one pool for all passages, and of a LoRA for each."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_efficiency.material import Material, by_text
from harness.encoded import encoding_bytes
from harness.plain_workers import encode_here
from harness.prag import Prag, Recipe
from polyprag.config.files import load_config
from polyprag.evaluation.metrics import score
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.retrieval.building.index import build_index
from sharding.corpus.reader import Corpus

PRAG_FORMATS = ("passage_qa", "qa")


def ours(
    place: Path, material: Material, *, settings: Sequence[str], num_passages: int, name: str
) -> dict[str, Any]:
    """Trains one pool on the first passages; F1 of both sets of questions, own rows.

    Args:
        place: for the run, which is removed.
        material: passages and questions.
        settings: changes to the quickstart's.
        num_passages: how many are trained together, at least those with questions.
        name: of the questions to score, `tuning` or `testing`.
    """
    changed = ["data.partition_size=8", "index.lsa_dims=8", "cluster.workers=1"]
    changed.append("train.experts_lr=1e-2")  # of some hundred passages (docs/experiments.md)
    config = load_config(["quickstart"], [*settings, *changed])
    run = material.run(place / "ours", config, num_passages=num_passages)
    seconds = encode_here(run, config)
    build_index(run, config)
    counts = [partition.counts for partition in Corpus.open(run / "corpus").manifest.partitions]
    evaluate(
        run,
        config,
        questions_path=getattr(material, name),
        methods=parse_methods("poly"),
        out_dir=place / "results",
        gold_passages=True,
    )
    lines = (place / "results" / "predictions-poly.jsonl").read_text(encoding="utf-8").splitlines()
    examples = sum(count["qa"] for count in counts)
    num_bytes = encoding_bytes(run)
    shutil.rmtree(run)
    shutil.rmtree(place / "results")
    return {
        "f1": [round(json.loads(line)["f1"], 4) for line in lines],
        "examples_a_passage": examples / num_passages,
        "presentations_a_passage": examples / num_passages * config.train.epochs,
        "seconds_a_passage": seconds / num_passages,
        "bytes_a_passage": num_bytes / num_passages,
    }


def theirs(
    place: Path,
    material: Material,
    recipe: Recipe,
    *,
    settings: Sequence[str],
    name: str,
    seed: int,
) -> dict[str, Any]:
    """Trains a LoRA for each passage that has questions of this name; F1 of these questions."""
    config = load_config(["quickstart"], settings)
    asked = by_text(getattr(material, name))
    num_passages = material.num_tuning + material.num_testing
    run = material.run(place / "theirs", config, num_passages=num_passages)
    records = [r for r in Corpus.open(run / "corpus").iterate() if r.passage.text in asked]
    rival = Prag(config)
    f1: list[float] = []
    num_examples = 0
    for record in records:
        num_examples += rival.train(record, recipe, seed=seed * 100_000 + record.passage.id)[0]
        questions = asked[record.passage.text]
        answers = rival.answers(questions)
        pairs = zip(answers, questions, strict=True)
        f1 += [round(score(answer, question.answers).f1, 4) for answer, question in pairs]
    shutil.rmtree(run)
    return {
        "f1": f1,
        "examples_a_passage": num_examples / len(records),
        "presentations_a_passage": num_examples / len(records) * recipe.epochs,
        "bytes_a_passage": rival.bytes_a_passage,
    }
