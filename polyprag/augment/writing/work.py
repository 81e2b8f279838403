"""The work on one passage: what is asked about it, and what came of each reply."""

from polyprag.augment.writing.asks import (
    CHECK,
    ITEMS,
    SPAN,
    Ask,
    ModelRequest,
    question_requests,
    rewrite_requests,
    span_requests,
)
from polyprag.augment.writing.avoided import Avoided
from polyprag.augment.writing.keep import INSTRUCTION, MALFORMED, Proposed, Sieve
from polyprag.augment.writing.reading import (
    proposed_items,
    proposed_question,
    proposed_text,
)
from polyprag.augment.written import Written
from polyprag.config import AugmentConfig
from polyprag.tokens.thinking import without_thinking
from sharding.corpus.passages import Augmentation, Passage

_TOKENS_AN_ITEM = 56  # of JSON, with a question, an answer and a sentence
_MOST_AT_ONCE = 12  # questions of a request
_MORE_SPANS = 1.5  # asked for than wanted: of a small model's questions more are dropped


class PassageWork:
    """Asks about a passage and sifts what comes."""

    def __init__(
        self,
        passage: Passage,
        config: AugmentConfig,
        *,
        simple: bool,
        avoided: Avoided,
        before: Written | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            passage: what is written about.
            config: how much is wanted.
            simple: one question a request, as a small model can.
            avoided: questions that nothing may repeat.
            before: what came of an earlier try, which failed in the midst.
        """
        self.passage, self._config, self._simple = passage, config, simple
        self._sieve = Sieve(passage, avoided)
        if before is not None:
            kept = before.augmentation
            self._sieve = Sieve(
                passage, avoided, list(kept.qas), list(kept.rewrites), list(before.dropped)
            )
        self._asks: dict[str, Ask] = {}  # of single questions

    def question_requests(self) -> list[ModelRequest]:
        """Returns what is asked first."""
        wanted = self._config.wanted_qas
        if not wanted or self.passage.is_removed:
            return []
        if self._simple:
            return span_requests(self.passage, wanted, more=_MORE_SPANS)
        at_once = min(_MOST_AT_ONCE, max(1, self._config.max_new_tokens // _TOKENS_AN_ITEM))
        return question_requests(self.passage, wanted, at_once=at_once)

    def check_requests(self) -> list[ModelRequest]:
        """Returns the questions that were asked for alone, each to be answered from its sentence.

        A small model often writes a question that its span doesn't answer, in words that are all
        the passage's. Where it doesn't answer it so itself, the question goes.
        """
        return [
            ModelRequest(CHECK, self.passage, (self._asks[qa.question],), question=qa.question)
            for qa in self._sieve.qas
            if qa.question in self._asks
        ]

    def rewrite_requests(self) -> list[ModelRequest]:
        """Returns what is asked then; some rewrites are for questions that were kept."""
        if self.passage.is_removed:
            return []
        return rewrite_requests(
            self.passage,
            self._config.wanted_rewrites,
            questions=[qa.question for qa in self._sieve.qas],
            simple=self._simple,
        )

    def take(self, request: ModelRequest, reply: str, *, is_last: bool = True) -> bool:
        """Keeps what is good in a reply.

        Args:
            request: what was asked.
            reply: what the model wrote.
            is_last: whether it is asked no more; then a reply that says nothing is counted.

        Returns:
            Whether the reply had what was asked for, good or not.
        """
        if request.kind == CHECK:
            self._sieve.check(request.question, reply)
            return True
        proposed = _proposed(request, reply)
        if proposed:
            num_before = len(self._sieve.qas)
            self._sieve.add(proposed)
            if request.kind == SPAN and len(self._sieve.qas) > num_before:
                self._asks[self._sieve.qas[-1].question] = request.asks[0]
        elif is_last:
            said = without_thinking(reply) or reply
            obeyed = self._sieve.orders.are_in(said)
            self._sieve.drop(INSTRUCTION if obeyed else MALFORMED, said)
            return obeyed
        return bool(proposed)

    def cut_short(self, failure: str, *, asked: int) -> Written:
        """Returns what came before a request failed; the next try goes on with that.

        Args:
            failure: why it failed.
            asked: requests that were answered.
        """
        sieve = self._sieve
        kept = Augmentation(tuple(sieve.rewrites), tuple(sieve.qas))
        return Written(kept, tuple(sieve.dropped), failure, asked)

    def written(self, failure: str | None = None) -> Written:
        """Returns what is kept and what isn't."""
        return self._sieve.written(
            num_qas=self._config.wanted_qas,
            num_rewrites=self._config.wanted_rewrites,
            failure=failure,
        )


def _proposed(request: ModelRequest, reply: str) -> list[Proposed]:
    if request.kind == ITEMS:
        return proposed_items(reply)
    if request.kind == SPAN:
        ask = request.asks[0]
        question = proposed_question(f"{ask.opening} {reply.strip()}".strip())
        return [Proposed(question, ask.answer)] if question else []
    text = proposed_text(reply)
    return [Proposed("", text)] if text else []
