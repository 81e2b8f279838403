"""Rewrites and question-answer pairs without any model: from lead facts, and from what prose says.

Deterministic in (passage, seed), so that a corpus gets the same augmentation wherever it is made.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from polyprag.augment.facts import Fact, extract_facts, subject_name
from polyprag.augment.lead import has_lead
from polyprag.augment.phrasings import PHRASINGS
from polyprag.augment.prose.facts import prose_facts
from polyprag.augment.prose.prose_fact import ProseFact
from polyprag.augment.prose.sentences import lines_of, sentences_in
from polyprag.augment.worded import holds, worded
from polyprag.augment.writing.avoided import Avoided
from polyprag.augment.writing.finished import is_balanced, is_finished, with_its_stop
from polyprag.augment.writing.gaps import gap_questions
from polyprag.augment.writing.keep import OVERLAP
from polyprag.augment.writing.lead_wordings import wordings_for
from polyprag.augment.writing.subjects import subject_of
from polyprag.augment.written import Dropped, Written
from sharding.corpus.passages import QA, Augmentation, Passage

# Sounded as a consonant, or as a vowel in spite of the letter; letters that are named one by one.
_CONSONANT = re.compile(
    r"eu|ewe|one\b|once\b|u(?:ni|s[aeiu]|r[aeiou]|t[aeio]|k|ganda)|ub[aei]q", re.I
)
_VOWEL = re.compile(r"[aeiou]|(?:hour|heir|honest|honou?r)", re.I)
_NAMED = re.compile(r"[AEFHILMNORSX](?:[A-Z]{0,2}|[B-DF-HJ-NP-TV-Z][A-Z]*)\b")


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """A question on a lead fact in a wording that no training example uses."""

    kind: str
    question: str
    answer: str


def _statement(fact: Fact, subject: str, rng: random.Random) -> str:
    template = rng.choice(PHRASINGS[fact.kind].statements)
    return template.replace(" a {v}", f" {_article(fact.value)} {{v}}").format(
        x=subject, v=fact.value
    )


def _article(text: str) -> str:
    """Returns "a" or "an", as what follows is spoken."""
    is_vowel = _NAMED.match(text) or (_VOWEL.match(text) and not _CONSONANT.match(text))
    return "an" if is_vowel else "a"


def augment(
    passage: Passage, *, num_rewrites: int = 1, num_qas: int = 3, seed: int = 0
) -> Augmentation:
    """Writes a passage's augmentation.

    Of an encyclopaedia's page the lead facts come first, each asked for once. Then each sentence,
    item and row of the text is asked about once, in turn with a second wording of a lead fact, and
    what no grammar reads by question words in a span's place; only when none is left come further
    facts of the same sentences, and further wordings, of all in turn. A question that has another
    answer already is left out.

    Args:
        passage: the passage; nothing else is looked at.
        num_rewrites: rewrites, each stating all lead facts in another wording and order.
        num_qas: question-answer pairs at most; fewer where the wordings run out.
        seed: chooses wordings and order.

    Returns:
        The augmentation; empty where the passage matches no pattern, or nothing says what it is
        about.
    """
    facts, subject = _lead(passage)
    rng = random.Random(f"{seed}/{passage.key}/{passage.title}")
    rewrites = []
    for _ in range(num_rewrites if facts else 0):
        order = rng.sample(facts, len(facts))
        rewrites.append(" ".join(_statement(fact, subject, rng) for fact in order))
    wordings = {
        fact: [
            fitting
            for each in rng.sample(questions, len(questions))
            for fitting in wordings_for(each, fact, subject=subject, text=passage.text)
        ]
        for fact in facts
        for questions in (PHRASINGS[fact.kind].questions,)
    }
    rounds = max(map(len, wordings.values()), default=0)
    lead = [
        [
            QA(
                question=wordings[fact][turn].format(x=subject),
                answer=fact.value,
                full_answer=_statement(fact, subject, rng),
            )
            for fact in facts
            if turn < len(wordings[fact])
        ]
        for turn in range(rounds)
    ]
    known = {fact.value.casefold() for fact in facts}
    of_text = _finished(prose_facts(passage)) if len(facts) < num_qas else []
    of_text = [fact for fact in of_text if fact.answer.casefold() not in known]
    of_gaps = _gaps_beside(passage, of_text, known=known) if len(of_text) < num_qas else []
    prose, gaps = _rounds_of(of_text, rng), _rounds_of(of_gaps, rng, of_others=of_text)
    again = lead[1] if len(lead) > 1 else []
    ordered = [*lead[:1], _in_turn(prose[0], again), gaps[0]]
    more: tuple[list[QA], ...]
    for more in zip_longest(prose[1:], lead[2:], gaps[1:], fillvalue=[]):
        ordered.extend(more)
    asked: dict[str, QA] = {}
    for qa in chain(*ordered):
        if is_balanced(qa.question) and is_balanced(qa.answer):
            asked.setdefault(qa.question.casefold(), qa)
    return Augmentation(rewrites=tuple(rewrites), qas=tuple(asked.values())[:num_qas])


def _in_turn(ones: Sequence[QA], others: Sequence[QA]) -> list[QA]:
    """Returns one of either, then the next of either, and so on to the end of both."""
    return [qa for pair in zip_longest(ones, others) for qa in pair if qa is not None]


def _lead(passage: Passage) -> tuple[list[Fact], str]:
    """Returns the lead facts of what a passage opens with, and its name.

    That is what the title names. A part of a document, or a passage without a title, may open with
    a name of its own ("Aurora Bikes was founded ..."); then its first sentence alone is about that.
    """
    if has_lead(passage):
        return extract_facts(passage), subject_name(passage.title)
    subject = subject_of(passage)
    first = next((part for line in lines_of(passage.text) for part in sentences_in(line.text)), "")
    if subject is None or not first.removeprefix("The ").startswith(subject):
        return [], ""
    return extract_facts(Passage(passage.id, passage.key, subject, first)), subject


def _finished(facts: Iterable[ProseFact]) -> list[ProseFact]:
    """Returns the facts whose answers are whole, with those of their questions that are, too."""
    found = []
    for fact in facts:
        answer = with_its_stop(fact.answer, fact.said)
        asked = tuple(each for each in fact.questions if is_finished(each, answer, fact.said))
        if asked:
            found.append(replace(fact, questions=asked, answer=answer))
    return found


def _gaps_beside(
    passage: Passage, others: Sequence[ProseFact], *, known: set[str]
) -> list[ProseFact]:
    """Returns what is asked by question words in a span's place, and by nothing else."""
    known = known | {fact.answer.casefold() for fact in others}
    return [fact for fact in gap_questions(passage) if fact.answer.casefold() not in known]


def _rounds_of(
    facts: Sequence[ProseFact], rng: random.Random, *, of_others: Sequence[ProseFact] = ()
) -> list[list[QA]]:
    """Returns the questions on facts: one a sentence, one a fact, then other wordings.

    Args:
        facts: of prose.
        rng: spreads few questions over the text.
        of_others: whose sentences are asked about already.
    """
    facts = rng.sample(facts, len(facts))
    first = {fact.said: fact for fact in reversed(facts)}
    asked = {worded(fact.said) for fact in of_others}
    once: list[ProseFact] = []
    more: list[ProseFact] = []
    for fact in facts:
        words = worded(fact.said)
        is_next = first[fact.said] is fact and not any(holds(words, other) for other in asked)
        (once if is_next else more).append(fact)
    turns = [(0, once), (0, more)]
    turns += [(turn, facts) for turn in range(1, max(map(_num_wordings, facts), default=0))]
    return [
        [
            QA(question=fact.questions[turn], answer=fact.answer, full_answer=fact.said)
            for fact in some
            if turn < len(fact.questions)
        ]
        for turn, some in turns
    ]


def _num_wordings(fact: ProseFact) -> int:
    return len(fact.questions)


def write_all(
    passages: Sequence[Passage], *, num_rewrites: int, num_qas: int, avoided: Avoided
) -> Iterator[tuple[int, Written]]:
    """Yields the augmentation of each of several passages, without what is to be avoided."""
    for at, passage in enumerate(passages):
        made = augment(passage, num_rewrites=num_rewrites, num_qas=num_qas)
        repeated = [qa for qa in made.qas if avoided.has(qa.question)]
        if repeated:
            made = Augmentation(made.rewrites, tuple(qa for qa in made.qas if qa not in repeated))
        dropped = (Dropped(OVERLAP, f"{qa.question} -> {qa.answer}") for qa in repeated)
        yield at, Written(made, tuple(dropped))


def held_out_questions(passage: Passage) -> list[HeldOutQuestion]:
    """Returns every lead fact asked for in every held-out wording; none without a subject."""
    facts, subject = _lead(passage)
    return [
        HeldOutQuestion(fact.kind, wording.format(x=subject), fact.value)
        for fact in facts
        for wording in PHRASINGS[fact.kind].held_out
    ]
