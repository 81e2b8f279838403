"""The evaluation loop on a small run with random weights, recomputed from its own predictions."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.answering.answer import Answer
from polyprag.answering.answerer import Answerer
from polyprag.answering.modes import WITHOUT_MAP
from polyprag.answering.trust.abstention import Abstention, CalibratedRule
from polyprag.config import AnsweringConfig, Config
from polyprag.encoding.edit import forget_encoded_rows
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.asking import LATENCY_SAMPLE, Asked, Case, cases_of, latency
from polyprag.evaluation.kept_answers import KeptAnswers
from polyprag.evaluation.metrics import score
from polyprag.evaluation.questions import read_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.retrieval.building.index import build_index
from sharding.shown_progress import Advance

PASSAGES = {
    "Anna": "Anna Smith was born in Oslo in 1900.",
    "Hugo": "Hugo Smith was born in Lyon in 1970.",
    "Elsewhere": "A passage that the corpus doesn't have.",
}


def _question(number: int, titles: list[str], **extra: Any) -> dict[str, Any]:
    passages = [{"title": t, "text": PASSAGES[t], "is_supporting": True} for t in titles]
    passages.append({"title": "Boris", "text": "Distraction.", "is_supporting": False})
    return {
        "id": f"q{number}",
        "question": f"Where was {titles[0] if titles else 'Edith'} born, {number}?",
        "answers": ["Oslo", "Lyon"],
        "passages": passages,
        **extra,
    }


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    records = [
        _question(0, ["Anna"], property="place of birth"),
        _question(1, ["Hugo"]),
        _question(2, ["Anna", "Hugo"]),
        _question(3, ["Anna", "Elsewhere"]),
        _question(4, []),
    ]
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


class Shown:
    """Notes what is shown of an evaluation."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.start = 0
        self.told: list[tuple[int, str]] = []

    @contextmanager
    def __call__(
        self, total: int | None, description: str, *, unit: str, start: int = 0
    ) -> Iterator[Advance]:
        self.total, self.start = total, start
        yield lambda done, note="", /: self.told.append((done, note))


def _predictions(directory: Path, method: str) -> list[dict[str, Any]]:
    lines = (directory / f"predictions-{method}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_results_are_those_of_the_predictions_for_every_method(
    encoded_run: tuple[Path, Config], questions: Path, tmp_path: Path
) -> None:
    run, config = encoded_run
    shown = Shown()
    out = tmp_path / "out"
    results = evaluate(
        run,
        config,
        questions_path=questions,
        methods=WITHOUT_MAP,
        out_dir=out,
        top_k=2,
        show=shown,
    )
    assert json.loads((out / "results.json").read_text()) == results
    assert list(results) == list(WITHOUT_MAP)
    num_methods = len(WITHOUT_MAP)
    assert (shown.total, shown.start) == (5 * num_methods, 0)
    assert shown.told == [(5, method) for method in WITHOUT_MAP]
    for method, result in results.items():
        predictions = _predictions(out, method)
        assert [each["id"] for each in predictions] == ["q0", "q1", "q2", "q3", "q4"]
        for each in predictions:
            scores = score(each["prediction"], each["answers"])
            assert (each["f1"], each["em"], each["contains"]) == (
                scores.f1,
                scores.em,
                scores.contains,
            )
            assert len(each["passages"]) == (0 if method == "closed" else 2)
        trusted = [each["f1"] for each in predictions if each["trusted"]]
        for each in predictions:
            assert (each["reason"] is None) == each["trusted"] == (each["confidence"] >= 0.4)
            assert (each["evidence"]["alone_logprob"] is None) == (
                method == "closed" or each["evidence"]["num_tokens"] == 0
            )
        assert result["trust"]["coverage"] == pytest.approx(len(trusted) / 5)
        assert result["trust"]["f1_trusted"] == (
            pytest.approx(np.mean(trusted)) if trusted else None
        )
        for name in ("f1", "em", "contains"):
            assert result[name] == pytest.approx(np.mean([each[name] for each in predictions]))
        low, high = result["ci95"]
        assert 0 <= low <= result["f1"] <= high <= 1
        low, high = result["contains_ci95"]
        assert 0 <= low <= result["contains"] <= high <= 1
        assert (result["n"], result["n_missing"], result["n_latency"]) == (5, 0, 5)
        assert 0 < result["latency_ms_p50"] <= result["latency_ms_p95"]
        assert (result["gold_retrieved"] is None) == (method == "closed")
    assert _predictions(out, "poly")[0]["extra"] == {"property": "place of birth"}
    assert _predictions(out, "poly")[0]["passages"][0] == {
        "id": 0,
        "key": "p0",
        "title": "Anna",
        "score": pytest.approx(_predictions(out, "rag")[0]["passages"][0]["score"]),
    }
    about = json.loads((out / "evaluation.json").read_text())
    assert about["num_questions"] == 5 and about["top_k"] == 2
    assert not list(out.glob(".*")), "a temporary file was left"
    assert not list(out.glob("unfinished-*"))


def test_gold_passages_replace_retrieval_and_missing_ones_are_counted(
    encoded_run: tuple[Path, Config], questions: Path, tmp_path: Path
) -> None:
    run, config = encoded_run
    results = evaluate(
        run,
        config,
        questions_path=questions,
        methods=("closed", "rag", "poly", "poly-wrong-row"),
        out_dir=tmp_path,
        gold_passages=True,
    )
    counts = {method: (each["n"], each["n_missing"]) for method, each in results.items()}
    assert counts == {
        "closed": (5, 0),
        "rag": (4, 1),
        "poly": (3, 2),
        "poly-wrong-row": (3, 2),
    }
    shown = {each["id"]: each["passages"] for each in _predictions(tmp_path, "rag")}
    assert [passage["title"] for passage in shown["q3"]] == ["Anna", "Elsewhere"]
    mixed = {each["id"]: each["passages"] for each in _predictions(tmp_path, "poly")}
    assert {name: [p["id"] for p in found] for name, found in mixed.items()} == {
        "q0": [0],
        "q1": [7],
        "q2": [0, 7],
    }


def test_wrong_rows_avoid_gold_passages_that_were_not_retrieved(
    encoded_run: tuple[Path, Config],
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, config = encoded_run
    seen: list[set[int]] = []

    def recording(question: str, *, barred: set[int], num_wanted: int, **_: Any) -> Any:
        seen.append(barred)
        return np.arange(num_wanted, dtype=np.int64)

    monkeypatch.setattr("polyprag.answering.mixing.other_passages", recording)
    evaluate(
        run,
        config,
        questions_path=questions,
        methods=("poly-wrong-row",),
        out_dir=tmp_path,
        top_k=1,
        limit=3,
    )
    assert seen[:3] == [{0}, {7}, {0, 7}]


def test_latency_is_of_single_requests_on_a_bounded_sample(
    encoded_run: tuple[Path, Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = encoded_run
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(json.dumps(_question(i, ["Anna"])) for i in range(50)))
    answerer = Answerer.open(run, config, modes=["closed"])
    sizes: list[int] = []
    answer = answerer.answer

    def counting(texts: list[str], **settings: Any) -> list[Answer]:
        sizes.append(len(texts))
        return answer(texts, **settings)

    monkeypatch.setattr(answerer, "answer", counting)
    results = evaluate(
        run,
        config,
        questions_path=path,
        methods=("closed",),
        out_dir=tmp_path / "out",
        answerer=answerer,
    )
    assert sizes == [32, 18, 1, 1] + [1] * LATENCY_SAMPLE  # chunks of 8 batches of 4, warm-up
    assert results["closed"]["n_latency"] == LATENCY_SAMPLE
    sizes.clear()
    monkeypatch.setattr("polyprag.evaluation.asking.LATENCY_S", 0.0)  # of a slow model
    asked = Asked(answerer, "closed", cases_of("closed", _cases(path), False), None, False)
    kept = KeptAnswers(tmp_path / "slow", made_of={}, chunk=1)
    assert latency(asked, kept)["n_latency"] == 5
    assert sizes == [1] * (2 + 5)


def _cases(path: Path) -> list[Case]:
    return [Case(question, None) for question in read_questions(path)]


class Interrupted:
    """An answerer that is interrupted in its n-th call, and counts the texts before."""

    def __init__(self, answerer: Answerer, at: int | None) -> None:
        self._answerer, self._at = answerer, at
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answerer, name)

    def answer(self, texts: list[str], **settings: Any) -> list[Answer]:
        if len(self.calls) == self._at:
            raise KeyboardInterrupt
        self.calls.append(len(texts))
        return self._answerer.answer(texts, **settings)


def _many(path: Path, *, last: str = "Anna") -> Path:
    """Seventy questions: chunks of 32, 32 and 6."""
    titles = ["Anna"] * 69 + [last]
    path.write_text("\n".join(json.dumps(_question(i, [t])) for i, t in enumerate(titles)))
    return path


LATENCIES = [1] * (2 + LATENCY_SAMPLE)


def test_an_interrupted_evaluation_goes_on_and_comes_to_the_same(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    answerer = Answerer.open(run, config, modes=["closed", "poly"])
    questions = _many(tmp_path / "many.jsonl")

    def ask(out: Path, at: int | None = None, **changed: Any) -> tuple[dict[str, Any], list[int]]:
        asked = Interrupted(answerer, at)
        arguments = {"questions_path": questions, "methods": ("closed", "poly")} | changed
        results: dict[str, Any] = {}
        with nullcontext() if at is None else pytest.raises(KeyboardInterrupt):
            results = evaluate(run, config, out_dir=out, answerer=asked, **arguments)
        return results, asked.calls

    whole, calls = ask(tmp_path / "whole")
    assert calls == [32, 32, 6, *LATENCIES] * 2
    out = tmp_path / "out"
    assert ask(out, at=2)[1] == [32, 32]
    assert not (out / "results.json").exists()
    # Of the first method's latencies, and in the second method.
    assert ask(out, at=20)[1] == [6, *LATENCIES[:19]]
    shown = Shown()
    assert ask(out, at=35, show=shown)[1] == [*LATENCIES, 32]
    assert (shown.total, shown.start, shown.told) == (140, 70, [(32, "poly")])
    results, calls = ask(out)
    assert calls == [32, 6, *LATENCIES]
    for method, result in whole.items():
        timed = {name: results[method][name] for name in result if "latency_ms" in name}
        assert results[method] == result | timed
        assert _predictions(out, method) == _predictions(tmp_path / "whole", method)
    assert not list(out.glob("unfinished-*"))


@pytest.mark.parametrize(
    "what", ["questions", "settings", "encoding", "top_k", "calibration", "older", "damage"]
)
def test_answers_to_something_else_are_not_used(
    encoded_run: tuple[Path, Config], tmp_path: Path, what: str
) -> None:
    original, config = encoded_run
    run = tmp_path / "run"
    shutil.copytree(original, run)
    out, questions = tmp_path / "out", _many(tmp_path / "many.jsonl")

    def ask(at: int | None, config: Config = config, **changed: Any) -> list[int]:
        asked = Interrupted(Answerer.open(run, config, modes=["poly"]), at)
        arguments = {"questions_path": questions, "methods": ("poly",)} | changed
        with nullcontext() if at is None else pytest.raises(KeyboardInterrupt):
            evaluate(run, config, out_dir=out, answerer=asked, **arguments)
        return asked.calls

    assert ask(1) == [32]
    changed: dict[str, Any] = {}
    if what == "questions":
        _many(questions, last="Hugo")
    elif what == "settings":
        generation = replace(config.generation, max_new_tokens=5)
        changed["config"] = replace(config, generation=generation)
    elif what == "encoding":
        forget_encoded_rows(run, [3])
        build_index(run, config)
    elif what == "top_k":
        changed["top_k"] = 1
    elif what == "calibration":
        rule = CalibratedRule(
            weights={},
            intercept=0.0,
            threshold=0.5,
            num_questions=40,
            f1=0.5,
            coverage=0.5,
            f1_trusted=0.9,
        )
        Abstention(experts_sha256=None, settings={}, modes={"poly": rule}).save(run)
    elif what == "older":  # as they were kept before answers were judged
        (kept,) = out.glob("unfinished-*/*.json")
        answers = json.loads(kept.read_bytes())
        old = ("question", "text", "passages")
        kept.write_text(json.dumps([{name: each[name] for name in old} for each in answers]))
    else:
        (kept,) = out.glob("unfinished-*/*.json")
        kept.write_bytes(b'[{"question": "\xff"}]')
    assert ask(2, **changed) == [32, 32]
    # What was kept before counts again when all is as it was.
    if what in ("settings", "top_k"):
        assert ask(None) == [32, 6, *LATENCIES]


def test_gold_passages_need_supporting_ones(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    path = tmp_path / "bare.jsonl"
    path.write_text(json.dumps(_question(0, [])))
    with pytest.raises(RunError, match="is_supporting"):
        evaluate(
            run,
            config,
            questions_path=path,
            methods=("closed", "rag"),
            out_dir=tmp_path,
            gold_passages=True,
        )


def test_scores_are_null_when_every_question_is_missing(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    path = tmp_path / "foreign.jsonl"
    path.write_text(json.dumps(_question(0, ["Elsewhere"])))
    results = evaluate(
        run,
        config,
        questions_path=path,
        methods=("poly",),
        out_dir=tmp_path / "out",
        gold_passages=True,
    )
    assert results["poly"]["f1"] is None and results["poly"]["ci95"] is None
    assert results["poly"]["contains_ci95"] is None
    assert (results["poly"]["n"], results["poly"]["n_missing"]) == (0, 1)
    assert (tmp_path / "out" / "predictions-poly.jsonl").read_text() == ""


def test_method_names_are_parsed_and_unknown_ones_get_the_nearest() -> None:
    assert parse_methods("closed, poly,closed,") == ("closed", "poly")
    with pytest.raises(ConfigError, match="did you mean 'poly-wrong-row'"):
        parse_methods("poly-wrong-rows")
    with pytest.raises(ConfigError, match="names no method"):
        parse_methods(" ,")


def test_nothing_is_judged_where_the_settings_say_so(
    encoded_run: tuple[Path, Config], questions: Path, tmp_path: Path
) -> None:
    run, config = encoded_run
    never = replace(config, answering=AnsweringConfig(abstain="never"))
    results = evaluate(
        run, never, questions_path=questions, methods=("poly",), out_dir=tmp_path / "out"
    )
    assert results["poly"]["trust"] is None
    judged = ("confidence", "trusted", "reason", "evidence")
    for each in _predictions(tmp_path / "out", "poly"):
        assert [each[name] for name in judged] == [None] * 4


def test_questions_that_nothing_answers_are_in_no_mean_of_right_answers(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    file, out = tmp_path / "questions.jsonl", tmp_path / "out"
    impossible = _question(1, [], answers=[], is_impossible=True)
    lines = [_question(0, ["Anna"]), impossible, _question(2, [], answers=[], is_impossible=True)]
    file.write_text("\n".join(map(json.dumps, lines)))
    result = evaluate(run, config, questions_path=file, methods=["poly"], out_dir=out)["poly"]
    first, *others = _predictions(out, "poly")
    assert (result["n"], result["n_impossible"], result["f1"]) == (1, 2, first["f1"])
    assert [each["f1"] for each in others] == [0, 0]
    trusted = [each["trusted"] for each in others]
    assert result["trust"]["impossible_trusted"] == sum(trusted) / 2
    assert result["trust"]["coverage"] == pytest.approx((sum(trusted) + first["trusted"]) / 3)
