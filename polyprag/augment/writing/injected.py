"""Sentences of a passage that order about whoever reads it, and what came of obeying them."""

import re

from polyprag.augment.writing.subjects import words_of
from polyprag.augment.writing.targets import sentences_of
from sharding.corpus.passages import Passage

_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.!?\n]{0,40}\b(?:above|previous|prior|earlier|preceding"
    r"|everything|instructions?|prompts?|rules?|guidelines?|task)\b"
    r"|\b(?:write|say|print|output|reply|respond|answer|return|repeat|type)\b[^.!?\n]{0,30}[\"'“: ]"
    r"(?-i:[A-Z]{4,})\b"
    r"|\b(?:write|say|print|output|reply|respond|answer|return)\b (?:only|just|nothing but|instead)\b"
    r"|\b(?:reply|respond|answer)\b[^.!?\n]{0,30}\b(?:every|all|any|each) (?:questions?|prompts?|requests?)"
    r"[^.!?\n]{0,15}\bwith\b"
    r"|\b(?:you are now|you are an?|act as|pretend to be)\b[^.!?\n]{0,30}\b(?:assistant|model|AI|bot|pirate)"
    r"\b|\bsystem prompt\b|\bnew instructions?\b|\byour instructions\b|\bas an ai\b"
    r"|</?(?:system|assistant|user)>|\[/?INST\]|<\|\w+\|>",
    re.I,
)
_SHARE = 0.3  # of a text's words that only orders have, from which on it obeys or tells them


class Orders:
    """The sentences of one passage that are orders to its reader."""

    def __init__(self, passage: Passage) -> None:
        """Looks for them in the title and the text."""
        words = words_of()
        sentences = sentences_of(passage.text)
        self.sentences = frozenset(
            number for number, sentence in enumerate(sentences) if is_order(sentence)
        )
        orders = " ".join(sentences[number] for number in self.sentences)
        others = [each for number, each in enumerate(sentences) if number not in self.sentences]
        self._only_theirs = set(words.terms(orders)) - set(
            words.terms(" ".join([passage.title, *others]))
        )

    def are_in(self, text: str) -> bool:
        """Tells whether a text that was written about the passage comes from its orders."""
        terms = words_of().terms(text)
        theirs = sum(term in self._only_theirs for term in terms)
        return theirs > 0 and theirs >= _SHARE * len(terms)


def is_order(text: str) -> bool:
    """Tells whether a sentence gives orders to a language model."""
    return _ORDER.search(text) is not None
