"""Rewrites and question-answer pairs without any model: from lead facts, and from what prose says.

Deterministic in (passage, seed), so that a corpus gets the same augmentation wherever it is made.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from polyprag.augment.facts import Fact, extract_facts, subject_name
from polyprag.augment.lead import has_lead
from polyprag.augment.phrasings import PHRASINGS
from polyprag.augment.prose.facts import prose_facts
from polyprag.augment.prose.sentences import lines_of, sentences_in
from polyprag.augment.writing.avoided import Avoided
from polyprag.augment.writing.keep import OVERLAP
from polyprag.augment.writing.subjects import subject_of
from polyprag.augment.written import Dropped, Written
from sharding.corpus.passages import QA, Augmentation, Passage

# How often each lead fact is asked for before anything else is: in every wording. With 1, prose
# comes second; docs/experiments.md has figures for that.
LEAD_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """A question on a lead fact in a wording that no training example uses."""

    kind: str
    question: str
    answer: str


def _statement(fact: Fact, subject: str, rng: random.Random) -> str:
    statement = rng.choice(PHRASINGS[fact.kind].statements).format(x=subject, v=fact.value)
    # "a American actor" -> "an American actor"
    for vowel in "AEIOaeio":
        statement = statement.replace(f" a {vowel}", f" an {vowel}")
    return statement


def augment(
    passage: Passage, *, num_rewrites: int = 1, num_qas: int = 3, seed: int = 0
) -> Augmentation:
    """Writes a passage's augmentation.

    Of an encyclopaedia's page the lead facts come first: every fact is asked for once before any is
    asked for a second time, in another wording. What is left of `num_qas` then goes, in the same
    way, to what the sentences, lists and tables of the text say.

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
        fact: rng.sample(PHRASINGS[fact.kind].questions, len(PHRASINGS[fact.kind].questions))
        for fact in facts
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
    prose = (
        _rounds_of_prose(passage, rng, known=known)
        if sum(map(len, lead[:LEAD_ROUNDS])) < num_qas
        else []
    )
    later = chain(*zip_longest(prose, lead[LEAD_ROUNDS:], fillvalue=[]))
    asked = chain(*lead[:LEAD_ROUNDS], *later)
    return Augmentation(rewrites=tuple(rewrites), qas=tuple(asked)[:num_qas])


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


def _rounds_of_prose(passage: Passage, rng: random.Random, *, known: set[str]) -> list[list[QA]]:
    """Returns the questions on what prose says: each fact once, then once more, ..."""
    facts = [fact for fact in prose_facts(passage) if fact.answer.casefold() not in known]
    rng.shuffle(facts)  # so that few questions are spread over the text
    rounds = max((len(fact.questions) for fact in facts), default=0)
    return [
        [
            QA(question=fact.questions[turn], answer=fact.answer, full_answer=fact.said)
            for fact in facts
            if turn < len(fact.questions)
        ]
        for turn in range(rounds)
    ]


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
