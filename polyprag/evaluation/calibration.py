"""From an evaluation's answers to the confidences that are worth trusting: RUN/abstention.json.

A logistic regression predicts an answer's F1 from its evidence. The threshold is chosen by
confidences that come from regressions on the other four fifths of the questions, and where these
don't sort the answers better than the rule without a calibration, there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from polyprag.answering.modes import CONTROLS, MIXES, MODES, Mode
from polyprag.answering.trust.abstention import Abstention, CalibratedRule
from polyprag.answering.trust.confidence import FEATURES, Evidence, Rule
from polyprag.encoding.manifest import EncodingManifest
from polyprag.encoding.reader import encoding_dir
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.risk_coverage import aurc_of, mean_or_none, means_of_surest
from sharding.storage.decoding import decode
from sharding.storage.files import exists, join, read_bytes, read_json

_LEAST_ANSWERS = 20
_FOLDS = 5
_LIKELY = 0.5  # the threshold where nothing else is asked for: more right than wrong
_FEWEST_TRUSTED = 5  # answers from which on a mean F1 counts as reached

Numbers = npt.NDArray[np.float64]


class _Line(msgspec.Struct, frozen=True):
    """What is read of a line of predictions-<method>.jsonl."""

    id: str
    f1: float
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What the threshold is to reach; nothing: answers that are more right than wrong.

    Attributes:
        f1: mean F1 of the trusted answers, at least.
        coverage: share of the answers that are trusted.
    """

    f1: float | None = None
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a calibration made.

    Attributes:
        abstention: to be saved in the run; None: the rule without a calibration is as good for
            every mode that could be calibrated.
        left_out: the modes without a calibration, and why.
    """

    abstention: Abstention | None
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class NoRule:
    """Why a mode has no calibration.

    Attributes:
        reason: in words.
        is_default_better: whether one could be made, and the rule without is as good or better.
    """

    reason: str
    is_default_better: bool = False


def calibrate(
    run_dir: str | Path, results_dirs: Sequence[str | Path], *, target: Target
) -> Calibrated:
    """Fits a rule for each mode that evaluations have answers of.

    Args:
        run_dir: RUN, whose answers these are.
        results_dirs: where `polyprag.evaluation.run.evaluate` wrote; their answers count together.
        target: of the thresholds.

    Raises:
        RunError: an evaluation can't be used, or no mode can be calibrated.
        ConfigError: no threshold reaches the target.
    """
    experts = experts_of(run_dir)
    settings: dict[str, Any] | None = None
    lines: dict[Mode, list[_Line]] = {}
    for directory in results_dirs:
        about = _about(directory)
        if about["experts_sha256"] != experts:
            raise RunError(
                f"{join(directory, 'evaluation.json')}: made with other experts than {run_dir} has "
                "now: run `polyprag evaluate` again"
            )
        if settings is not None and settings != about["abstention_settings"]:
            raise RunError(
                f"{join(directory, 'evaluation.json')}: made with other settings of retrieval or "
                f"prompts than {join(results_dirs[0], 'evaluation.json')}: evaluate both alike"
            )
        settings = about["abstention_settings"]
        scored = read_json(join(directory, "results.json"))  # others are of an earlier evaluation
        for mode in MODES:
            path = join(directory, f"predictions-{mode}.jsonl")
            if mode not in CONTROLS and mode in scored and exists(path):
                lines.setdefault(mode, []).extend(_read(path))
    modes: dict[str, CalibratedRule] = {}
    left_out: dict[str, str] = {}
    keeps_default = False
    for mode, answers in lines.items():
        rule = fit_rule([each.evidence for each in answers], [e.f1 for e in answers], target)
        if isinstance(rule, NoRule):
            left_out[mode] = rule.reason
            keeps_default = keeps_default or rule.is_default_better
        else:
            modes[mode] = rule
    if not modes and keeps_default:
        return Calibrated(None, left_out)
    if not modes:
        why = "; ".join(f"{mode}: {reason}" for mode, reason in left_out.items())
        raise RunError(
            f"{', '.join(map(str, results_dirs))}: no mode can be calibrated"
            f"{f' ({why})' if why else ': there are no predictions'}"
        )
    uses_experts = any(mode in MIXES for mode in modes)
    return Calibrated(
        Abstention(
            experts_sha256=experts if uses_experts else None,
            settings=settings or {},
            modes=modes,
        ),
        left_out,
    )


def fit_rule(
    evidence: Sequence[Evidence | None], f1: Sequence[float], target: Target
) -> CalibratedRule | NoRule:
    """Returns the rule for one mode's answers, or why there is none.

    Args:
        evidence: of n answers.
        f1: of each.
        target: of the threshold.

    Raises:
        ConfigError: no threshold reaches the target.
    """
    if any(each is None for each in evidence):
        return NoRule("its answers have no evidence: evaluate without answering.abstain=never")
    known = [each for each in evidence if each is not None]
    f1_n = np.asarray(f1, dtype=np.float64)
    usable_n = np.asarray([each.lack is None for each in known], dtype=bool)
    if usable_n.sum() < _LEAST_ANSWERS:
        return NoRule(f"{usable_n.sum()} answers are too few: {_LEAST_ANSWERS} are needed")
    features = [each.features() for each in known if each.lack is None]
    names = [name for name in FEATURES if all(name in each for each in features)]
    X_mF = np.asarray([[each[name] for name in names] for each in features])
    f1_m = f1_n[usable_n]
    if f1_m.max() == 0 or f1_m.min() == 1:
        return NoRule(f"all its answers are {'wrong' if f1_m.max() == 0 else 'right'}")
    # Without a passage or an answer the confidence is 0, as in `Rule.confidence`.
    confidences_n = np.zeros(len(f1_n))
    confidences_n[usable_n] = _out_of_fold(X_mF, f1_m)
    default_n = np.asarray([Rule().confidence(each) for each in known])
    aurc, default_aurc = (aurc_of(each, f1_n) for each in (confidences_n, default_n))
    if aurc >= default_aurc:
        return NoRule(
            "the rule without one sorts these answers as well or better (AURC "
            f"{default_aurc:.3f}, by regressions that didn't see them {aurc:.3f})"
            f"{_threshold_advice(default_n, f1_n, target)}",
            is_default_better=True,
        )
    threshold = _threshold(confidences_n, f1_n, target)
    trusted_n = usable_n & (confidences_n >= threshold)
    weights_F, intercept = _fit(X_mF, f1_m)
    return CalibratedRule(
        weights=dict(zip(names, weights_F.tolist(), strict=True)),
        intercept=intercept,
        threshold=threshold,
        num_questions=len(f1_n),
        f1=float(f1_n.mean()),
        coverage=float(trusted_n.mean()),
        f1_trusted=mean_or_none(f1_n[trusted_n]),
    )


def experts_of(run_dir: str | Path) -> str | None:
    """Returns the SHA-256 of a run's experts; None without an encoding."""
    if not exists(join(encoding_dir(run_dir), "manifest.json")):
        return None
    return EncodingManifest.load(encoding_dir(run_dir)).experts.sha256


def _fit(X_mF: Numbers, f1_m: Numbers) -> tuple[Numbers, float]:
    """Returns the weights (F,) on the features as they are, and the intercept.

    An F1 between 0 and 1 is partly a right answer, partly a wrong one.
    """
    from sklearn.linear_model import LogisticRegression

    mean_F, std_F = X_mF.mean(axis=0), X_mF.std(axis=0)
    std_F[std_F == 0] = 1.0
    standard_mF = (X_mF - mean_F) / std_F
    regression = LogisticRegression().fit(
        np.concatenate([standard_mF, standard_mF]),
        np.repeat([1, 0], len(f1_m)),
        sample_weight=np.concatenate([f1_m, 1 - f1_m]),
    )
    weights_F = regression.coef_[0] / std_F
    return weights_F, float(regression.intercept_[0] - weights_F @ mean_F)


def _out_of_fold(X_mF: Numbers, f1_m: Numbers) -> Numbers:
    """Returns the confidence of each answer by a regression on the folds without it."""
    from sklearn.model_selection import KFold

    confidences_m = np.zeros(len(f1_m))
    for seen, unseen in KFold(_FOLDS, shuffle=True, random_state=0).split(X_mF):
        if f1_m[seen].max() == 0 or f1_m[seen].min() == 1:
            confidences_m[unseen] = f1_m[seen].mean()
            continue
        weights_F, intercept = _fit(X_mF[seen], f1_m[seen])
        confidences_m[unseen] = 1 / (1 + np.exp(-(X_mF[unseen] @ weights_F + intercept)))
    return confidences_m


def _threshold_advice(confidences_n: Numbers, f1_n: Numbers, target: Target) -> str:
    """Returns what to set so that the rule without a calibration reaches a target."""
    if target == Target():
        return ""
    # Down, so that rounding leaves none out.
    least = np.floor(_threshold(confidences_n, f1_n, target) * 1000) / 1000
    return f"; with it, answering.threshold={least:.3f} does what was asked for"


def _threshold(confidences_n: Numbers, f1_n: Numbers, target: Target) -> float:
    """Returns the least confidence of a trusted answer."""
    falling_n = np.sort(confidences_n)[::-1]
    if target.coverage is not None:
        least = float(falling_n[max(1, round(target.coverage * len(falling_n))) - 1])
        if least == 0:
            share = float((falling_n > 0).mean())
            raise ConfigError(
                f"--coverage {target.coverage:g}: only {share:.0%} of the answers have a passage "
                "and words, and no others are trusted: ask for less"
            )
        return least
    if target.f1 is None:
        return _LIKELY
    means_n = means_of_surest(confidences_n, f1_n)
    last_of_ties_n = np.append(falling_n[1:] < falling_n[:-1], True)
    reached_n = (means_n >= target.f1) & last_of_ties_n & (falling_n > 0)
    reached_n[: _FEWEST_TRUSTED - 1] = False
    if not reached_n.any():
        best = means_n[_FEWEST_TRUSTED - 1 :].max()
        raise ConfigError(
            f"--f1 {target.f1:g}: no threshold reaches it; the surest answers come to {best:.2f}: "
            "ask for less"
        )
    return float(falling_n[np.flatnonzero(reached_n)[-1]])


def _about(directory: str | Path) -> dict[str, Any]:
    """Returns an evaluation's settings, refused where a calibration by them would be wrong."""
    url = join(directory, "evaluation.json")
    about = read_json(url)
    if not isinstance(about, dict) or not {"experts_sha256", "abstention_settings"} <= set(about):
        raise RunError(f"{url}: not of this polyprag: run `polyprag evaluate` again")
    if about.get("gold_passages"):
        raise RunError(
            f"{url}: made with --gold-passages, which says nothing about retrieval: evaluate "
            "without it"
        )
    return about


def _read(path: str) -> list[_Line]:
    found = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        try:
            found.append(decode(line, _Line))
        except ValueError as error:
            raise RunError(
                f"{path}:{number}: not a prediction ({error}): run `polyprag evaluate` again"
            ) from error
    return found
