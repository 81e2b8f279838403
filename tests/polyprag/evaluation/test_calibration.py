"""A calibration on answers whose chances are known, and what can't be calibrated."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.answering.abstention import Abstention, CalibratedRule
from polyprag.answering.confidence import Evidence
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.calibration import Target, calibrate, experts_of, fit_rule
from polyprag.evaluation.run import evaluate


def _answers(number: int, *, seed: int = 0) -> tuple[list[Evidence], list[float], np.ndarray]:
    """Evidence, F1, and each answer's chance of being right: a logistic function of two numbers."""
    rng = np.random.default_rng(seed)
    match, logprob = rng.uniform(0, 1, number), -rng.exponential(1.0, number)
    chance = 1 / (1 + np.exp(-(6 * match + 2 * logprob - 2)))
    evidence = [
        Evidence(True, float(m), 1 + i % 3, float(p), float(p) - 0.5, -5.0 + i % 2)
        for i, (m, p) in enumerate(zip(match, logprob, strict=True))
    ]
    return evidence, (rng.uniform(size=number) < chance).astype(float).tolist(), chance


def _rule(*args: Any) -> CalibratedRule:
    rule = fit_rule(*args)
    assert isinstance(rule, CalibratedRule), rule
    return rule


def test_confidences_come_near_to_the_true_chances() -> None:
    evidence, f1, _ = _answers(4000)
    rule = _rule(evidence, f1, Target())
    fresh, _, chance = _answers(500, seed=1)
    found = np.asarray([rule.rule.confidence(each) for each in fresh])
    assert np.abs(found - chance).mean() < 0.02
    assert rule.threshold == 0.5 and rule.num_questions == 4000
    assert rule.f1 == pytest.approx(np.mean(f1))
    # The share and the F1 of those whose chance is above a half, within what 4000 draws allow.
    _, _, true = _answers(4000)
    assert rule.coverage == pytest.approx((true >= 0.5).mean(), abs=0.03)
    assert rule.f1_trusted == pytest.approx(true[true >= 0.5].mean(), abs=0.03)


def test_a_partly_right_answer_counts_as_partly_right() -> None:
    evidence, f1, chance = _answers(2000)
    rule = _rule(evidence, chance.tolist(), Target())
    found = np.asarray([rule.rule.confidence(each) for each in evidence])
    assert np.abs(found - chance).max() < 0.02
    assert np.mean(f1) == pytest.approx(found.mean(), abs=0.03)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_wanted_coverage_is_met(share: float) -> None:
    evidence, f1, _ = _answers(400)
    rule = _rule(evidence, f1, Target(coverage=share))
    assert rule.coverage == pytest.approx(share, abs=0.005)


def test_a_wanted_f1_is_reached_by_as_many_answers_as_can_be() -> None:
    evidence, f1, _ = _answers(400)
    loose, strict = (_rule(evidence, f1, Target(f1=wanted)) for wanted in (0.7, 0.9))
    assert loose.f1_trusted is not None and strict.f1_trusted is not None
    assert loose.f1_trusted >= 0.7 and strict.f1_trusted >= 0.9
    assert strict.coverage < loose.coverage < 1
    with pytest.raises(ConfigError, match=r"--f1 1: no threshold reaches it; .* come to 0\.\d\d"):
        fit_rule(evidence, [0.99 * each for each in f1], Target(f1=1.0))


def test_answers_without_a_passage_are_never_among_the_trusted() -> None:
    evidence, f1, _ = _answers(100)
    none = [Evidence.of([-0.1], has_passages=False)] * 100
    rule = _rule(evidence + none, f1 + [0.0] * 100, Target())
    assert rule.num_questions == 200 and rule.f1 == pytest.approx(sum(f1) / 200)
    assert rule.coverage <= 0.5
    assert rule.rule.confidence(none[0]) == 0


def test_a_coverage_that_only_answers_without_a_passage_could_fill_is_refused() -> None:
    evidence, f1, _ = _answers(60)
    nothing = [Evidence.of([-0.1], has_passages=False)] * 60
    with pytest.raises(ConfigError, match="only 50% of the answers"):
        fit_rule([*evidence, *nothing], [*f1, *[0.0] * 60], Target(coverage=0.9))
    assert _rule([*evidence, *nothing], [*f1, *[0.0] * 60], Target(coverage=0.4)).coverage == 0.4


def test_what_is_not_always_there_is_not_weighed() -> None:
    evidence, f1, _ = _answers(100)
    closed = [Evidence.of([-1.0 - i % 4]) for i in range(100)]
    assert set(_rule(closed, f1, Target()).weights) == {"mean_logprob", "min_logprob", "log_tokens"}
    assert "match" not in _rule(evidence[:50] + closed[:50], f1, Target()).weights


def test_what_can_not_be_calibrated_is_said() -> None:
    evidence, f1, _ = _answers(100)
    assert "are too few" in str(fit_rule(evidence[:19], f1[:19], Target()))
    assert "all its answers are wrong" in str(fit_rule(evidence, [0.0] * 100, Target()))
    assert "all its answers are right" in str(fit_rule(evidence, [1.0] * 100, Target()))
    assert "answering.abstain=never" in str(fit_rule([*evidence[:99], None], f1, Target()))


@pytest.fixture
def evaluated(encoded_run: tuple[Path, Config], tmp_path: Path) -> tuple[Path, Path]:
    """A run, and a directory with evaluation.json and made-up predictions of `poly`."""
    run, config = encoded_run
    questions, out = tmp_path / "questions.jsonl", tmp_path / "out"
    asked = [{"id": f"q{i}", "question": "Anna Smith?", "answers": ["Oslo"]} for i in range(3)]
    questions.write_text("\n".join(map(json.dumps, asked)))
    evaluate(run, config, questions_path=questions, methods=("poly",), out_dir=out)
    line = json.loads((out / "predictions-poly.jsonl").read_text().splitlines()[0])
    evidence, f1, _ = _answers(200)
    lines = [
        line
        | {"id": f"q{i}", "f1": score}
        | {"evidence": {name: getattr(each, name) for name in line["evidence"]}}
        for i, (each, score) in enumerate(zip(evidence, f1, strict=True))
    ]
    (out / "predictions-poly.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return run, out


def test_an_evaluations_files_become_the_runs_calibration(
    evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    run, out = evaluated
    earlier = (out / "predictions-poly.jsonl").read_text()
    (out / "predictions-rag.jsonl").write_text(earlier)  # which results.json doesn't have
    made = calibrate(run, [out, out], target=Target())
    assert made.left_out == {} and list(made.abstention.modes) == ["poly"]
    assert made.abstention.modes["poly"].num_questions == 400
    assert made.abstention.experts_sha256 == experts_of(run)
    assert made.abstention.settings["retrieval.top_k"] == 3
    made.abstention.save(tmp_path)
    assert Abstention.load(tmp_path) == made.abstention
    weights = made.abstention.modes["poly"].weights
    assert all(math.isfinite(weight) for weight in weights.values())


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"experts_sha256": "0" * 64}, "other experts than"),
        ({"gold_passages": True}, "--gold-passages"),
        (None, "not of this polyprag"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    evaluated: tuple[Path, Path], about: dict[str, Any] | None, message: str
) -> None:
    run, out = evaluated
    path = out / "evaluation.json"
    whole = json.loads(path.read_text())
    if about is None:
        del whole["abstention_settings"]
    path.write_text(json.dumps(whole | (about or {})))
    with pytest.raises(RunError, match=message) as error:
        calibrate(run, [out], target=Target())
    assert str(path) in str(error.value)


def test_evaluations_with_other_settings_are_not_mixed(
    evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    run, out = evaluated
    about = json.loads((out / "evaluation.json").read_text())
    about["abstention_settings"]["retrieval.top_k"] = 7
    other = tmp_path / "other"
    other.mkdir()
    (other / "evaluation.json").write_text(json.dumps(about))
    (other / "results.json").write_text("{}")
    with pytest.raises(RunError, match="evaluate both alike"):
        calibrate(run, [out, other], target=Target())
    with pytest.raises(RunError, match="there are no predictions"):
        calibrate(run, [other], target=Target())


def test_a_damaged_line_is_named(evaluated: tuple[Path, Path]) -> None:
    run, out = evaluated
    path = out / "predictions-poly.jsonl"
    lines = path.read_text().splitlines()
    for wrong in ('{"id": "q1"', '{"id": "q1"}', json.dumps(json.loads(lines[1]) | {"f1": "x"})):
        path.write_text("\n".join([lines[0], wrong, *lines[2:]]))
        with pytest.raises(RunError, match=r"predictions-poly\.jsonl:2: not a prediction"):
            calibrate(run, [out], target=Target())
