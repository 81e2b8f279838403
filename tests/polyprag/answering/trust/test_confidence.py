"""Evidence becomes a confidence and a verdict, by the rule without and with a calibration."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.answering.trust.confidence import (
    NO_MATCH,
    NO_PASSAGE,
    NO_WORDS,
    NOT_SURE,
    Evidence,
    Rule,
)

LOGPROB = st.floats(-30, 0)


def test_evidence_is_of_the_answers_own_tokens() -> None:
    evidence = Evidence.of([-1.0, -3.0], alone=[-2.0, -8.0], has_passages=True, match=0.25)
    assert evidence == Evidence(True, 0.25, 2, -2.0, -3.0, -5.0)
    assert evidence.features() == {
        "match": 0.25,
        "mean_logprob": -2.0,
        "min_logprob": -3.0,
        "alone_logprob": -5.0,
        "log_tokens": math.log(2),
    }


def test_without_a_calibration_the_least_sure_token_and_the_match_count() -> None:
    evidence = Evidence.of([math.log(0.9), math.log(0.8)], has_passages=True, match=0.5)
    trust = Rule().judge(evidence)
    assert trust.confidence == pytest.approx(0.4) and not trust.is_calibrated
    assert Rule(threshold=0.39).judge(evidence).reason is None
    assert Rule(threshold=0.41).judge(evidence).reason == NO_MATCH
    closed = Evidence.of([math.log(0.9), math.log(0.3)])
    assert Rule().confidence(closed) == pytest.approx(0.3)
    assert Rule().judge(closed).reason == NOT_SURE
    matching = Evidence.of([math.log(0.3)], has_passages=True, match=0.9)
    assert Rule().judge(matching).reason == NOT_SURE


def test_a_calibration_is_a_logistic_regression() -> None:
    evidence = Evidence.of([-0.5], has_passages=True, match=0.5)
    rule = Rule(threshold=0.6, weights={"match": 4.0, "mean_logprob": 2.0}, intercept=-0.5)
    trust = rule.judge(evidence)
    assert trust.confidence == pytest.approx(1 / (1 + math.exp(-0.5)))  # 2 - 1 - 0.5
    assert trust.is_calibrated and trust.reason is None


def test_evidence_without_a_weighed_number_is_judged_without_the_calibration() -> None:
    rule = Rule(threshold=0.9, weights={"match": 9.0, "mean_logprob": 1.0})
    evidence = Evidence.of([math.log(0.5)], has_passages=True)
    trust = rule.judge(evidence)
    assert trust.confidence == pytest.approx(0.5)
    assert (trust.reason, trust.is_calibrated) == (None, False)


@pytest.mark.parametrize("weights", [None, {"match": 1.0}])
def test_nothing_is_trusted_without_a_passage_or_an_answer(
    weights: dict[str, float] | None,
) -> None:
    rule = Rule(threshold=0.0, weights=weights)
    for evidence, reason in (
        (Evidence.of([-0.001], has_passages=False), NO_PASSAGE),
        (Evidence.of([], has_passages=True, match=1.0), NO_WORDS),
        (Evidence.of([]), NO_WORDS),
    ):
        trust = rule.judge(evidence)
        assert (trust.confidence, trust.reason) == (0.0, reason)


@given(
    st.lists(st.floats(max_value=0) | st.just(math.nan), max_size=4),
    st.floats(0, 1),
    st.dictionaries(
        st.sampled_from(["match", "min_logprob", "log_tokens"]), st.floats(-1e6, 1e6), min_size=1
    ),
)
def test_a_confidence_is_between_0_and_1_whatever_the_model_says(
    logprobs: list[float], match: float, weights: dict[str, float]
) -> None:
    evidence = Evidence.of(logprobs, has_passages=True, match=match)
    for rule in (Rule(), Rule(weights=weights)):
        assert 0 <= rule.judge(evidence).confidence <= 1


@given(LOGPROB, LOGPROB, st.floats(0, 1))
def test_a_surer_answer_is_never_trusted_less(one: float, other: float, match: float) -> None:
    low, high = sorted([one, other])
    confidences = [
        Rule().confidence(Evidence.of([each], has_passages=True, match=match))
        for each in (low, high)
    ]
    assert confidences[0] <= confidences[1]
