"""A calibration on answers whose chances are known, and what can't be calibrated."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from polyprag.answering.trust.abstention import Abstention, CalibratedRule
from polyprag.answering.trust.confidence import Evidence, Rule
from polyprag.cli import main
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.calibration import NoRule, Target, calibrate, experts_of, fit_rule
from polyprag.evaluation.run import evaluate


def _answers(number: int, *, seed: int = 0) -> tuple[list[Evidence], list[float], np.ndarray]:
    """Evidence, F1, and each answer's chance of being right: a logistic function of two numbers.

    Much of a match speaks against an answer here, which the rule without a calibration can't know.
    """
    rng = np.random.default_rng(seed)
    match, logprob = rng.uniform(0, 1, number), -rng.exponential(1.0, number)
    chance = 1 / (1 + np.exp(-(4 - 6 * match + 2 * logprob)))
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
    sure = [float(i % 4 > i % 5) for i in range(100)]  # the less sure, the better
    weighed = _rule(closed, sure, Target()).weights
    assert set(weighed) == {"mean_logprob", "min_logprob", "log_tokens"}
    assert "match" not in _rule(evidence[:50] + closed[:50], f1[:50] + sure[:50], Target()).weights


def test_what_can_not_be_calibrated_is_said() -> None:
    evidence, f1, _ = _answers(100)
    assert "are too few" in _reason(evidence[:19], f1[:19])
    assert "all its answers are wrong" in _reason(evidence, [0.0] * 100)
    assert "all its answers are right" in _reason(evidence, [1.0] * 100)
    assert "answering.abstain=never" in _reason([*evidence[:99], None], f1)


def _reason(evidence: list[Evidence | None] | list[Evidence], f1: list[float]) -> str:
    found = fit_rule(evidence, f1, Target())
    assert isinstance(found, NoRule) and not found.is_default_better
    return found.reason


def _by_default(number: int) -> tuple[list[Evidence], list[float]]:
    """Answers of which those are right that the rule without a calibration is surer of.

    Both numbers that it multiplies must be high, which no weighed sum of them says as well.
    """
    rng = np.random.default_rng(3)
    match, least = rng.uniform(0, 1, number), rng.uniform(0, 1, number)
    evidence = [
        Evidence(True, float(m), 3, -0.01, math.log(p), -5.0)
        for m, p in zip(match, least, strict=True)
    ]
    return evidence, (match * least > 0.25).astype(float).tolist()


def test_a_rule_that_sorts_no_better_than_the_default_is_not_taken() -> None:
    evidence, f1 = _by_default(200)
    found = fit_rule(evidence, f1, Target())
    assert isinstance(found, NoRule) and found.is_default_better
    right = sum(f1)
    # All right ones before all wrong ones: no risk up to there, then 1 - right / n.
    best = sum(1 - right / n for n in range(int(right) + 1, 201)) / 200
    assert f"(AURC {best:.3f}, " in found.reason and "threshold" not in found.reason
    shares = fit_rule(evidence, f1, Target(coverage=0.1))
    assert isinstance(shares, NoRule)
    least = float(shares.reason.split("answering.threshold=")[1].split(" ")[0])
    confidences = sorted((Rule().confidence(each) for each in evidence), reverse=True)
    assert confidences[20] < least <= confidences[19] < least + 0.001
    # Where the match misleads, the regression is better, and taken.
    against = [msgspec.structs.replace(each, match=1 - (each.match or 0)) for each in evidence]
    assert isinstance(fit_rule(against, f1, Target()), CalibratedRule)


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
    assert made.abstention is not None
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


def test_the_command_writes_nothing_where_the_default_is_as_good(
    evaluated: tuple[Path, Path],
) -> None:
    run, out = evaluated
    evidence, f1 = _by_default(60)
    path = out / "predictions-poly.jsonl"
    line = json.loads(path.read_text().splitlines()[0])
    lines = [
        line | {"f1": score} | {"evidence": msgspec.to_builtins(each)}
        for each, score in zip(evidence, f1, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    command = ["calibrate", str(run), "--results", str(out)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "nothing is written: answers are judged by the rule without" in done.stdout
    assert "poly: has no calibration: the rule without one sorts" in done.stderr
    assert not (run / "abstention.json").exists()
    told = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert told["modes"] == {} and list(told["left_out"]) == ["poly"]
    (run / "abstention.json").write_text("an earlier one")
    done = CliRunner().invoke(main, command)
    assert "stays as it was; delete it" in done.stdout
    assert (run / "abstention.json").read_text() == "an earlier one"
    (run / "abstention.json").unlink()


def test_the_command_warns_of_few_answers(evaluated: tuple[Path, Path]) -> None:
    run, out = evaluated
    path = out / "predictions-poly.jsonl"
    command = ["calibrate", str(run), "--results", str(out)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and "are few" not in done.stderr
    path.write_text("\n".join(path.read_text().splitlines()[:99]))
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "warning: poly: 99 answers are few" in done.stderr
    (run / "abstention.json").unlink()
