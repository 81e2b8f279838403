"""A run's scores on a question file: every method's answers, F1, EM, answer presence and latency.

Accuracy is measured in batches. Latency is measured apart, one request at a time from question to
answer (retrieval, mixing, generation), on up to 32 questions spread over the file, after a warm-up;
a slow method on fewer, for half a minute.
With gold passages, as for `closed` and `routed`, there is no retrieval to measure.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from polyprag.answering.answerer import Answerer
from polyprag.answering.given import hits_of
from polyprag.answering.modes import MODES, Mode
from polyprag.answering.trust.abstention import abstention_settings
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.asking import LATENCY_SAMPLE, Asked, Case, ask_all, cases_of, latency
from polyprag.evaluation.calibration import experts_of
from polyprag.evaluation.kept_answers import KeptAnswer, KeptAnswers, ingredients
from polyprag.evaluation.metrics import Scores, bootstrap_interval, score
from polyprag.evaluation.questions import read_questions
from polyprag.evaluation.risk_coverage import trust_scores
from polyprag.version import __version__
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import atomic_write, join, sha256_of, write_json

_BATCHES_A_CHUNK = 8  # generation sorts a chunk by length; progress is reported after each


def parse_methods(names: str) -> tuple[Mode, ...]:
    """Returns the methods of a comma-separated list, each once, in its order.

    Raises:
        ConfigError: a name isn't known (the message has the nearest one), or there is none.
    """
    methods: list[Mode] = []
    for name in (part.strip() for part in names.split(",")):
        known = next((mode for mode in MODES if mode == name), None)
        if known is None and name:
            near = difflib.get_close_matches(name, MODES, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"--methods: {name!r} isn't known; {hint}Known: {', '.join(MODES)}")
        if known is not None and known not in methods:
            methods.append(known)
    if not methods:
        raise ConfigError(f"--methods {names!r} names no method; known: {', '.join(MODES)}")
    return tuple(methods)


def evaluate(
    run_dir: str | Path,
    config: Config,
    *,
    questions_path: str | Path,
    methods: Sequence[Mode],
    out_dir: str | Path,
    top_k: int | None = None,
    gold_passages: bool = False,
    limit: int | None = None,
    show: ShowProgress = show_nothing,
    answerer: Answerer | None = None,
) -> dict[str, dict[str, Any]]:
    """Answers a question file with each method and writes scores and predictions to `out_dir`.

    Answers are kept as they come, so a call that was stopped and is made again goes on; see
    `polyprag.evaluation.kept_answers`. Written, each by a rename: `predictions-<method>.jsonl` (one
    line a scored question), `evaluation.json` (the questions' checksum and the settings), and last
    `results.json`.

    Args:
        run_dir: RUN, with what the methods need.
        config: see `Answerer.open`.
        questions_path: a question file (`polyprag.evaluation.questions`).
        methods: from `parse_methods`.
        out_dir: made if needed; earlier results of the same methods there are replaced.
        top_k: passages a question; default `retrieval.top_k`.
        gold_passages: use each question's supporting passages in place of retrieval. Questions
            without any, and for the methods that mix experts those with one that isn't in the
            corpus, are not scored but counted in `n_missing`.
        limit: only the first so many questions.
        show: shows how many questions all methods together have answered.
        answerer: an opened run to use; default opens `run_dir` for the methods.

    Returns:
        What results.json holds: {method: {f1, em, contains (means, 0 to 1; None without any
        question), ci95 and contains_ci95 ([low, high] of f1 and of contains), n, n_impossible
        (questions without an answer, which these means leave out), n_missing,
        n_without_hits, gold_retrieved (of the questions with a gold passage in the corpus, the
        share with one among the hits; None without any),
        trust (what `polyprag.evaluation.risk_coverage.trust_scores` returns; None with
        answering.abstain=never), latency_ms_p50, latency_ms_p95, n_latency}}.

    Raises:
        QuestionsError: the question file can't be used.
        RunError: the run lacks what a method needs.
    """
    questions = read_questions(questions_path, limit=limit)
    answerer = answerer or Answerer.open(run_dir, config, modes=methods)
    if gold_passages and not any(question.gold for question in questions):
        raise RunError(
            f"{questions_path}: no question has a passage with is_supporting=true, which "
            "--gold-passages needs; leave the option out to use retrieval"
        )
    has_index = answerer.index is not None
    cases = [
        Case(q, hits_of(answerer.indexed(), q.gold) if has_index and q.gold else None)
        for q in questions
    ]
    chunk = answerer.config.generation.batch_size * _BATCHES_A_CHUNK
    made_of = ingredients(
        run_dir,
        answerer.config,
        questions_path=questions_path,
        top_k=top_k,
        gold_passages=gold_passages,
        version=__version__,
    )
    kept = KeptAnswers(out_dir, made_of=made_of, chunk=chunk)
    asked = [
        Asked(answerer, method, cases_of(method, cases, gold_passages), top_k, gold_passages)
        for method in methods
    ]
    there = [kept.of(each.method, each.ids) for each in asked]
    results: dict[str, dict[str, Any]] = {}
    with show(
        sum(len(each.cases) for each in asked),
        "evaluating",
        unit="questions",
        start=sum(len(answers) for of_method in there for answers in of_method.values()),
    ) as advance:
        for each, of_method in zip(asked, there, strict=True):
            answers = ask_all(each, of_method, kept, chunk=chunk, advance=advance)
            result = _scored(each, answers, out_dir)
            result |= {"n_missing": len(cases) - len(each.cases)}
            results[each.method] = result | latency(each, kept)
    write_json(
        join(out_dir, "evaluation.json"),
        {
            "polyprag": __version__,
            "run": str(run_dir),
            "questions": {"path": str(questions_path), "sha256": sha256_of(questions_path)},
            "num_questions": len(questions),
            "limit": limit,
            "gold_passages": gold_passages,
            "experts_sha256": experts_of(run_dir),
            "abstention_settings": abstention_settings(answerer.config, top_k=top_k),
            "top_k": top_k or config.retrieval.top_k,
            "model": asdict(config.model),
            "retrieval": asdict(config.retrieval),
            "generation": asdict(config.generation),
            "latency": f"one request at a time, up to {LATENCY_SAMPLE} questions, warmed up",
        },
    )
    write_json(join(out_dir, "results.json"), results)
    kept.remove()
    return results


def _scored(asked: Asked, answers: Sequence[KeptAnswer], out_dir: str | Path) -> dict[str, Any]:
    """Writes a method's predictions, and returns its scores."""
    pairs = list(zip(asked.cases, answers, strict=True))
    scores = [score(answer.text, case.question.answers) for case, answer in pairs]
    lines = (_prediction(*pair, each) for pair, each in zip(pairs, scores, strict=True))
    _write_lines(join(out_dir, f"predictions-{asked.method}.jsonl"), lines)
    is_impossible = [not case.question.answers for case in asked.cases]
    of_all = [each.f1 for each in scores]
    scores = [each for each, without in zip(scores, is_impossible, strict=True) if not without]
    f1 = [each.f1 for each in scores]
    present = [each.contains for each in scores]
    intervals = [bootstrap_interval(values) for values in (f1, present)]
    found = [answer.passages for answer in answers if answer.passages is not None]
    with_gold = [
        not case.gold_ids.isdisjoint(passage.id for passage in answer.passages)
        for case, answer in pairs
        if answer.passages is not None and case.gold_ids
    ]
    judged = [(each.confidence, each.reason is None) for each in answers]
    confidences = [confidence for confidence, _ in judged if confidence is not None]
    trust = None
    if len(confidences) == len(of_all):
        trusted = [is_trusted for _, is_trusted in judged]
        trust = trust_scores(confidences, trusted, of_all, is_impossible)
    return {
        "f1": _mean(f1),
        "em": _mean([each.em for each in scores]),
        "contains": _mean(present),
        "ci95": None if intervals[0] is None else list(intervals[0]),
        "contains_ci95": None if intervals[1] is None else list(intervals[1]),
        "n": len(scores),
        "n_impossible": sum(is_impossible),
        "n_without_hits": sum(not passages for passages in found),
        "gold_retrieved": _mean(with_gold),
        "trust": trust,
    }


def _prediction(case: Case, answer: KeptAnswer, scores: Scores) -> dict[str, Any]:
    """Returns the line of predictions-<method>.jsonl for one question."""
    return {
        "id": case.question.id,
        "question": case.question.question,
        "answers": list(case.question.answers),
        "prediction": answer.text,
        **asdict(scores),
        "confidence": answer.confidence,
        "trusted": None if answer.confidence is None else answer.reason is None,
        "reason": answer.reason,
        "evidence": None if answer.evidence is None else structs.asdict(answer.evidence),
        "passages": [structs.asdict(passage) for passage in answer.passages or ()],
        "extra": dict(case.question.extra),
    }


def _write_lines(path: str, records: Iterable[dict[str, Any]]) -> None:
    with atomic_write(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
