"""Rewrites and question-answer pairs from a passage's lead facts, without any model.

Deterministic in (passage, seed), so that a corpus gets the same augmentation wherever it is made.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polyprag.augment.facts import Fact, extract_facts
from polyprag.augment.phrasings import PHRASINGS
from polyprag.augment.writing.avoided import Avoided
from polyprag.augment.writing.keep import OVERLAP
from polyprag.augment.writing.subjects import subject_of
from polyprag.augment.written import Dropped, Written
from sharding.corpus.passages import QA, Augmentation, Passage


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
    """Writes a passage's augmentation from its lead facts.

    Every fact is asked for once before any is asked for a second time, in another wording.

    Args:
        passage: the passage; nothing else is looked at.
        num_rewrites: rewrites, each stating all facts in another wording and order.
        num_qas: question-answer pairs at most; fewer where the wordings run out.
        seed: chooses wordings and order.

    Returns:
        The augmentation; empty where the passage matches no pattern, or nothing says what it is
        about.
    """
    facts, subject = extract_facts(passage), subject_of(passage)
    if not facts or subject is None:
        return Augmentation(rewrites=(), qas=())
    rng = random.Random(f"{seed}/{passage.key}/{passage.title}")
    rewrites = []
    for _ in range(num_rewrites):
        order = rng.sample(facts, len(facts))
        rewrites.append(" ".join(_statement(fact, subject, rng) for fact in order))
    wordings = {
        fact: rng.sample(PHRASINGS[fact.kind].questions, len(PHRASINGS[fact.kind].questions))
        for fact in facts
    }
    rounds = max(len(options) for options in wordings.values())
    asked = [
        QA(
            question=wordings[fact][turn].format(x=subject),
            answer=fact.value,
            full_answer=_statement(fact, subject, rng),
        )
        for turn in range(rounds)
        for fact in facts
        if turn < len(wordings[fact])
    ]
    return Augmentation(rewrites=tuple(rewrites), qas=tuple(asked[:num_qas]))


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
    subject = subject_of(passage)
    if subject is None:
        return []
    return [
        HeldOutQuestion(fact.kind, wording.format(x=subject), fact.value)
        for fact in extract_facts(passage)
        for wording in PHRASINGS[fact.kind].held_out
    ]
