"""What is kept of what a model wrote about a passage, item by item, and why the rest isn't."""

# ruff: noqa: RUF001, SIM905 - the dashes and quotes of real text are what is matched

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from polyprag.augment.writing.avoided import Avoided, plain_words_of
from polyprag.augment.writing.finished import misfits, says_answer
from polyprag.augment.writing.injected import Orders, is_order
from polyprag.augment.writing.subjects import Subjects, own_terms, without_reference, words_of
from polyprag.augment.written import Dropped, Written
from sharding.corpus.passages import QA, Augmentation, Passage
from sharding.ingest.chunking import count_words

MALFORMED, INSTRUCTION, WITHOUT_SUBJECT = "malformed", "instruction", "no subject"
UNSUPPORTED, OVERLAP, DUPLICATE = "unsupported", "evaluation overlap", "duplicate"
OVER_BUDGET = "over budget"

_ACRONYM = re.compile(r"\b([A-Z])\.(?=[A-Z]\.|\W|$)")  # "F.C." is "FC"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ASKS = re.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|may"
    r"|must|should|will|would|has|have|had|name|in|on|at|by|for|to|from|of|under|with|until)\b",
    re.I,
)
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
).split()
_TENS = "thirty forty fifty sixty seventy eighty ninety hundred thousand".split()
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)} | dict(
    zip(_TENS, ("30", "40", "50", "60", "70", "80", "90", "100", "1000"), strict=True)
)
_ENGLISH = frozenset("the and of is are have has with from by".split())
_MOST_ELSEWHERE = 2  # of these in a text, from where on it is English
_OWN_WORDS = 0.5  # the share of a question's words that the passage must have
_FEWEST_WORDS, _MOST_WORDS = 3, 60  # of a question
_MARKS = ("?", "\uff1f", "\u061f")  # Latin, Chinese and Japanese, Arabic
_MOST_WORDS_OF_ANSWER = 60
_SHOWN = 300  # characters of what is dropped
_ALL_OF = 3  # words of an answer up to which the passage must have every one
_MOST_OF = 0.75  # the share that it must have of longer ones
_ALIKE = 0.5  # F1 of two answers
_MOST_REPEATS = 3  # of three words running in one rewrite
_SHARE_OF_REWRITE = 0.5  # of a rewrite's words: others are synonyms, or inventions


@dataclass(frozen=True, slots=True)
class Proposed:
    """One item of a reply, before anything is checked.

    Attributes:
        question: empty for a rewrite.
        answer: the answer, or the rewrite's text.
        full_answer: the answer as a sentence, or nothing.
    """

    question: str
    answer: str
    full_answer: str = ""

    def shown(self) -> str:
        """Returns the item on one line."""
        return on_one_line(f"{self.question} -> {self.answer}" if self.question else self.answer)


@dataclass(slots=True)
class Sieve:
    """Keeps what is good of what is written about one passage.

    Attributes:
        qas: kept so far.
        rewrites: kept so far.
        dropped: what isn't kept.
    """

    passage: Passage
    avoided: Avoided = field(default_factory=Avoided)
    qas: list[QA] = field(default_factory=list)
    rewrites: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    orders: Orders = field(init=False)
    _subjects: Subjects = field(init=False)
    _terms: frozenset[str] = field(init=False)
    _numbers: frozenset[str] = field(init=False)
    _seen: set[str] = field(init=False)
    _is_english: bool = field(init=False)

    def __post_init__(self) -> None:
        told = f"{self.passage.title}\n{self.passage.text}"
        self.orders = Orders(self.passage)
        self._subjects = Subjects.of(self.passage)
        self._terms = frozenset(words_of().terms(told))
        self._numbers = frozenset(_numbers_of(told))
        self._seen = {_key(each) for each in (self.passage.text, *self.rewrites)}
        self._seen |= {_key(qa.question) for qa in self.qas}
        self._is_english = len(_ENGLISH & set(self.passage.text.lower().split())) >= _MOST_ELSEWHERE

    def add(self, proposed: Iterable[Proposed]) -> None:
        """Keeps or drops items, in their order: of two that are alike the first is kept."""
        for item in proposed:
            reason = self._qa(item) if item.question else self._rewrite(item)
            if reason:
                self.drop(reason, item.shown())

    def check(self, question: str, answer: str) -> None:
        """Drops a question that was kept if a model answers it otherwise.

        Args:
            question: as it was kept.
            answer: what the model says, which need be only alike.
        """
        for qa in self.qas:
            if qa.question == question and not _are_alike(qa.answer, answer):
                self.qas.remove(qa)
                self.drop(UNSUPPORTED, f"{question} -> {qa.answer}, but itself says: {answer}")
                return

    def drop(self, reason: str, text: str) -> None:
        """Notes what isn't kept."""
        shown = on_one_line(text).encode(errors="replace").decode()
        self.dropped.append(Dropped(reason, shown[:_SHOWN]))

    def written(self, *, num_qas: int, num_rewrites: int, failure: str | None = None) -> Written:
        """Returns what is kept, up to these numbers: of every answer one question comes first."""
        turns: Counter[str] = Counter()
        turn_of = []
        for qa in self.qas:
            turn_of.append(turns[_key(qa.answer)])
            turns[_key(qa.answer)] += 1
        order = sorted(range(len(self.qas)), key=turn_of.__getitem__)
        qas = [self.qas[i] for i in order]
        for qa in qas[num_qas:]:
            self.drop(OVER_BUDGET, f"{qa.question} -> {qa.answer}")
        for text in self.rewrites[num_rewrites:]:
            self.drop(OVER_BUDGET, text)
        kept = Augmentation(tuple(self.rewrites[:num_rewrites]), tuple(qas[:num_qas]))
        return Written(kept, tuple(self.dropped), failure)

    def supports(self, text: str, *, share: float | None = None) -> bool:
        """Tells whether the passage has a text's numbers and words, however they are inflected.

        Args:
            text: an answer. `yes` and `no` have no words that a passage could have.
            share: of the words that it must have; by default all of up to three, most of more.
        """
        numbers = set(_numbers_of(text))
        plain = [word for word in plain_words_of(text) if word not in _DIGITS]
        plain = [word for word in plain if not any(c.isdigit() for c in word)]
        words = set(words_of().terms(" ".join(plain))) - {"yes", "no"}
        if not numbers <= self._numbers or not (numbers or words):
            return False
        found = len(words & self._terms)
        if share is None:
            share = 1.0 if len(words) <= _ALL_OF else _MOST_OF
        return found >= share * len(words)

    def _qa(self, item: Proposed) -> str | None:
        """Keeps a question and its answer, or returns why it isn't kept."""
        raw = without_reference(_plain(item.question.strip()))
        question, answer = on_one_line(raw), on_one_line(_plain(item.answer)).strip(" \"'“”")
        if not _is_question(question) or _is_garbled(question) or _is_garbled(answer):
            return MALFORMED
        if len(answer.split()) > _MOST_WORDS_OF_ANSWER:
            return MALFORMED
        if is_order(question) or self.orders.are_in(answer) or self.orders.are_in(question):
            return INSTRUCTION
        if not self._subjects.are_in(raw, answer=answer):
            return WITHOUT_SUBJECT
        if not self.supports(answer) or not set(_numbers_of(question)) <= self._numbers:
            return UNSUPPORTED
        if says_answer(question, answer):
            return MALFORMED
        if self._invents(question) or misfits(question, answer):
            return UNSUPPORTED
        if self.avoided.has(question):
            return OVERLAP
        if _key(question) in self._seen:
            return DUPLICATE
        self._seen.add(_key(question))
        full = on_one_line(_plain(item.full_answer))
        if not full or not self.supports(full, share=_SHARE_OF_REWRITE) or self.orders.are_in(full):
            full = answer
        self.qas.append(QA(question, answer, full))
        return None

    def _rewrite(self, item: Proposed) -> str | None:
        text = on_one_line(_plain(item.answer))
        if not text or _is_garbled(text) or _goes_round(text):
            return MALFORMED
        if self.orders.are_in(text) or (is_order(text) and not self.orders.sentences):
            return INSTRUCTION
        if len(text.split()) < _FEWEST_WORDS:
            return MALFORMED
        if not self.supports(text, share=_SHARE_OF_REWRITE):
            return UNSUPPORTED
        if self.avoided.has(text):
            return OVERLAP
        if _key(text) in self._seen:
            return DUPLICATE
        self._seen.add(_key(text))
        self.rewrites.append(text)
        return None

    def _invents(self, question: str) -> bool:
        """Tells whether a question has a name that the passage hasn't, or is about something else.

        Its first word has a capital in any case.
        """
        own = own_terms(_ACRONYM.sub(r"\1", question))
        if not self._is_english:  # of whose words none are known for asking, or for joining others
            return not own & self._terms
        words = question.split()[1:]
        names = [each for each in words if each.strip("\"'“(‘")[:1].isupper() and len(each) > 1]
        terms = words_of().terms(_ACRONYM.sub(r"\1", " ".join(names)))
        if any(term not in self._terms and not _ASKS.fullmatch(term) for term in terms):
            return True
        return len(own & self._terms) < _OWN_WORDS * len(own)


def on_one_line(text: str) -> str:
    """Returns a text with its white space as single spaces."""
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Returns a text without Markdown's emphasis, its compatibility letters as usual ones."""
    return re.sub(r"\*\*|__|`", "", unicodedata.normalize("NFC", text))


def _is_question(question: str) -> bool:
    return (
        _FEWEST_WORDS <= count_words(question) <= _MOST_WORDS
        and question.endswith(_MARKS)
        and sum(map(question.count, _MARKS)) == 1
    )


def _is_garbled(text: str) -> bool:
    """Tells whether a text can't be stored (half a surrogate), or has no letters and digits."""
    return any("\ud800" <= c <= "\udfff" or c == "\ufffd" for c in text) or not any(
        c.isalnum() for c in text
    )


def _goes_round(text: str) -> bool:
    """Tells whether a text says the same over and over, as models do that don't find an end."""
    words = plain_words_of(text)
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    return any(count > _MOST_REPEATS for count in runs.values())


def _are_alike(answer: str, other: str) -> bool:
    """Tells whether two answers share at least half of their words, F1."""
    words = Counter(words_of().terms(answer) + list(_numbers_of(answer)))
    others = Counter(words_of().terms(other) + list(_numbers_of(other)))
    common = (words & others).total()
    return common > 0 and 2 * common >= _ALIKE * (words.total() + others.total())


def _numbers_of(text: str) -> Sequence[str]:
    """Returns a text's numbers in digits, without thousands' separators."""
    found = [_digits(number) for number in _NUMBER.findall(text)]
    spelled = [_DIGITS[word] for word in plain_words_of(text) if word in _DIGITS and word != "one"]
    return found + spelled


def _digits(number: str) -> str:
    """Returns "60755" for "60,755" and "2.5" for "2.5" and "2,5"."""
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", number):
        return re.sub(r"[.,]", "", number)
    return number.replace(",", ".")


def _key(text: str) -> str:
    return " ".join(plain_words_of(text))
