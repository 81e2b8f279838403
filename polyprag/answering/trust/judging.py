"""Answers are judged: what speaks for each is gathered, and held to the rule of its mode."""

from collections.abc import Callable, Sequence

from polyprag.answering.modes import MIXES, Mode
from polyprag.answering.said import Said
from polyprag.answering.trust.abstention import CALIBRATE_AGAIN, Abstention, abstention_settings
from polyprag.answering.trust.confidence import Evidence, Rule, Trust
from polyprag.config import Config
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import Index


class Judge:
    """The rules by which a run's answers are judged: calibrated where that still holds."""

    def __init__(
        self,
        config: Config,
        *,
        calibration: Abstention | None = None,
        experts_sha256: str | None = None,
    ) -> None:
        """Takes what there is.

        Args:
            config: `answering`, and what `abstention_settings` reads.
            calibration: RUN/abstention.json.
            experts_sha256: of the experts in use.
        """
        self._config, self._calibration, self._experts = config, calibration, experts_sha256

    def rule(self, mode: Mode, *, top_k: int | None = None) -> Rule:
        """Returns the rule for a mode.

        Args:
            mode: of the answers.
            top_k: passages a question; None for `retrieval.top_k`.
        """
        rule, threshold = Rule(), self._config.answering.threshold
        calibration = self._calibration
        if calibration and mode in calibration.modes and not self._stale(mode, top_k):
            rule = calibration.modes[mode].rule
        if threshold is None:
            return rule
        return Rule(threshold=threshold, weights=rule.weights, intercept=rule.intercept)

    def judged(
        self,
        questions: Sequence[str],
        said: Sequence[Said],
        *,
        mode: Mode,
        hits: Sequence[Hits] | None,
        index: Index | None,
        alone: Callable[[], Sequence[Sequence[float]]],
        top_k: int | None = None,
        all_evidence: bool = False,
    ) -> list[tuple[Evidence, Trust]] | None:
        """Returns what speaks for each answer, and whether to trust it; None: nothing is judged.

        Args:
            questions: that were asked.
            said: the answers, scored.
            mode: of the answers.
            hits: each question's passages; None where nothing was searched.
            index: that they were searched in.
            alone: gives the log-probabilities of the answers' tokens for the base model alone.
            top_k: passages a question; None for `retrieval.top_k`.
            all_evidence: whether to look also at evidence that the mode's rule doesn't weigh.
        """
        if self._config.answering.abstain == "never":
            return None
        rule = self.rule(mode, top_k=top_k)
        weighs_alone = all_evidence or "alone_logprob" in (rule.weights or ())
        evidence = evidence_of(
            questions,
            said,
            alone=alone() if weighs_alone and mode != "closed" else None,
            hits=hits,
            index=index,
            by_words=self._config.retrieval.method != "dense",
        )
        return [(each, rule.judge(each)) for each in evidence]

    def note(self, mode: Mode, *, top_k: int | None = None) -> str | None:
        """Returns what keeps the run's calibration from being used, and what to do; None: nothing.

        Args:
            mode: of the answers.
            top_k: passages a question; None for `retrieval.top_k`.
        """
        stale = self._stale(mode, top_k)
        if stale is None:
            return None
        return f"abstention.json isn't used, {stale}: {CALIBRATE_AGAIN}"

    def _stale(self, mode: Mode, top_k: int | None) -> str | None:
        calibration = self._calibration
        if calibration is None:
            return None
        # What the base model says by itself is the same whatever the experts are.
        experts = self._experts if mode in MIXES else calibration.experts_sha256
        settings = abstention_settings(self._config, top_k=top_k)
        return calibration.stale(experts_sha256=experts, settings=settings)


def evidence_of(
    questions: Sequence[str],
    said: Sequence[Said],
    *,
    alone: Sequence[Sequence[float]] | None,
    hits: Sequence[Hits] | None,
    index: Index | None,
    by_words: bool,
) -> list[Evidence]:
    """Returns what speaks for each answer.

    Args:
        questions: that were asked.
        said: the answers, scored.
        alone: the log-probabilities of their tokens for the base model alone; None: not asked for.
        hits: each question's passages; None where nothing was searched.
        index: that they were searched in.
        by_words: whether the search looked at words, so that the share of the question's that a
            passage has says something.
    """
    found = []
    for i, (question, answer) in enumerate(zip(questions, said, strict=True)):
        passages = None if hits is None else hits[i].passages
        match = None
        if passages and by_words and index is not None:
            match = index.matched(question, passages[0])
        # Spaces and control characters may be likely enough, and are no answer.
        logprobs = () if is_blank(answer.text) else answer.logprobs or ()
        found.append(
            Evidence.of(
                logprobs,
                alone=None if alone is None or not logprobs else alone[i],
                has_passages=None if passages is None else len(passages) > 0,
                match=match,
            )
        )
    return found


def is_blank(text: str) -> bool:
    """Tells whether an answer shows nothing: it is empty, or has spaces and control characters."""
    return not any(letter.isprintable() and not letter.isspace() for letter in text)
