"""A run's scores on a question file: every method's answers, F1, EM, answer presence and latency.

Accuracy is measured in batches. Latency is measured apart, one request at a time from question to
answer (retrieval, mixing, generation), on up to 32 questions spread over the file, after a warm-up.
With gold passages, as for `closed` and `routed`, there is no retrieval to measure.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polyprag import __version__
from polyprag.answering.answer import Answer
from polyprag.answering.answerer import NOT_IN_CORPUS, Answerer
from polyprag.answering.modes import MIXES, MODES, SEARCHES, Mode
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.metrics import Scores, bootstrap_interval, score
from polyprag.evaluation.questions import Question, read_questions
from polyprag.retrieval.results import Hits
from sharding.storage.files import atomic_write, join, sha256_of, write_json

LATENCY_SAMPLE = 32
_WARM_UP = 2
_BATCHES_A_CHUNK = 8  # generation sorts a chunk by length; progress is reported after each

MethodProgress = Callable[[str, int, int], None]  # method, questions done, questions in all


@dataclass(frozen=True, slots=True)
class _Case:
    """A question ready for any method: its gold passages as hits where they are known."""

    question: Question
    gold: Hits | None  # None: no index was opened, or the question has no supporting passage

    @property
    def gold_ids(self) -> frozenset[int]:
        """Ids of the gold passages that are in the corpus."""
        return frozenset(() if self.gold is None else self.gold.ids.tolist()) - {NOT_IN_CORPUS}

    def is_missing(self, method: Mode) -> bool:
        """Tells whether the method lacks what it needs when gold passages replace retrieval."""
        if method not in SEARCHES:
            return False
        return self.gold is None or (method in MIXES and NOT_IN_CORPUS in self.gold.ids)


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
    progress: MethodProgress | None = None,
    answerer: Answerer | None = None,
) -> dict[str, dict[str, Any]]:
    """Answers a question file with each method and writes scores and predictions to `out_dir`.

    Written, each by a rename: `predictions-<method>.jsonl` (one line a scored question),
    `evaluation.json` (the questions' checksum and the settings), and last `results.json`.

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
        progress: called after every chunk with (method, done, total).
        answerer: an opened run to use; default opens `run_dir` for the methods.

    Returns:
        What results.json holds: {method: {f1, em, contains (means, 0 to 1; None without any
        question), ci95 ([low, high] of f1), n, n_missing, n_without_hits, gold_retrieved (share of
        questions with a gold passage among the hits), latency_ms_p50, latency_ms_p95, n_latency}}.

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
        _Case(q, answerer.hits_of(q.gold) if has_index and q.gold else None) for q in questions
    ]
    results: dict[str, dict[str, Any]] = {}
    for method in methods:
        results[method] = _evaluate_method(
            answerer, method, cases, out_dir, top_k, gold_passages, progress
        )
    write_json(
        join(out_dir, "evaluation.json"),
        {
            "polyprag": __version__,
            "run": str(run_dir),
            "questions": {"path": str(questions_path), "sha256": sha256_of(questions_path)},
            "num_questions": len(questions),
            "limit": limit,
            "gold_passages": gold_passages,
            "top_k": top_k or config.retrieval.top_k,
            "model": asdict(config.model),
            "retrieval": asdict(config.retrieval),
            "generation": asdict(config.generation),
            "latency": f"one request at a time, up to {LATENCY_SAMPLE} questions, warmed up",
        },
    )
    write_json(join(out_dir, "results.json"), results)
    return results


def _evaluate_method(
    answerer: Answerer,
    method: Mode,
    cases: Sequence[_Case],
    out_dir: str | Path,
    top_k: int | None,
    gold_passages: bool,
    progress: MethodProgress | None,
) -> dict[str, Any]:
    scored = [case for case in cases if not (gold_passages and case.is_missing(method))]

    def ask(part: Sequence[_Case]) -> list[Answer]:
        gold = [case.gold for case in part if case.gold is not None]
        return answerer.answer(
            [case.question.question for case in part],
            mode=method,
            k=top_k,
            hits=gold if gold_passages and method in SEARCHES else None,
            never_rows_of=[case.gold_ids for case in part],
        )

    answers: list[Answer] = []
    chunk = answerer.config.generation.batch_size * _BATCHES_A_CHUNK
    for start in range(0, len(scored), chunk):
        answers += ask(scored[start : start + chunk])
        if progress is not None:
            progress(method, len(answers), len(scored))
    scores = [
        score(answer.text, case.question.answers)
        for case, answer in zip(scored, answers, strict=True)
    ]
    lines = (_prediction(*each) for each in zip(scored, answers, scores, strict=True))
    _write_lines(join(out_dir, f"predictions-{method}.jsonl"), lines)
    latencies = _latencies_ms(lambda case: ask([case])[0], scored)
    summary = _summary(scored, answers, scores)
    return summary | {
        "n_missing": len(cases) - len(scored),
        "latency_ms_p50": _percentile(latencies, 50),
        "latency_ms_p95": _percentile(latencies, 95),
        "n_latency": len(latencies),
    }


def _summary(
    cases: Sequence[_Case], answers: Sequence[Answer], scores: Sequence[Scores]
) -> dict[str, Any]:
    f1 = [each.f1 for each in scores]
    interval = bootstrap_interval(f1)
    hits = [answer.hits for answer in answers if answer.hits is not None]
    with_gold = [
        not case.gold_ids.isdisjoint(answer.hits.ids.tolist())
        for case, answer in zip(cases, answers, strict=True)
        if answer.hits is not None and case.gold is not None
    ]
    return {
        "f1": _mean(f1),
        "em": _mean([each.em for each in scores]),
        "contains": _mean([each.contains for each in scores]),
        "ci95": None if interval is None else list(interval),
        "n": len(scores),
        "n_without_hits": sum(len(each.ids) == 0 for each in hits),
        "gold_retrieved": _mean(with_gold),
    }


def _prediction(case: _Case, answer: Answer, scores: Scores) -> dict[str, Any]:
    """Returns the line of predictions-<method>.jsonl for one question."""
    hits = answer.hits
    return {
        "id": case.question.id,
        "question": case.question.question,
        "answers": list(case.question.answers),
        "prediction": answer.text,
        **asdict(scores),
        "passages": []
        if hits is None
        else [
            {"id": passage.id, "key": passage.key, "title": passage.title, "score": float(value)}
            for passage, value in zip(hits.passages, hits.scores, strict=True)
        ],
        "extra": dict(case.question.extra),
    }


def _write_lines(path: str, records: Iterable[dict[str, Any]]) -> None:
    with atomic_write(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _latencies_ms(ask: Callable[[_Case], Answer], cases: Sequence[_Case]) -> list[float]:
    """Returns milliseconds a request, one at a time, on a sample spread over the cases."""
    if not cases:
        return []
    sample = np.linspace(0, len(cases) - 1, num=min(LATENCY_SAMPLE, len(cases)), dtype=int)
    for i in sample[:_WARM_UP]:
        ask(cases[i])
    return [ask(cases[i]).latency.total_ms for i in sample]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _percentile(values: Sequence[float], q: float) -> float | None:
    return float(np.percentile(values, q)) if values else None
