"""Sentences of a passage that order about whoever reads it, and what came of obeying them."""

import re

from polyprag.augment.writing.subjects import words_of
from polyprag.augment.writing.targets import lines_and_sentences
from sharding.corpus.passages import Passage

_SPEAK = r"(?:write|say|print|output|reply|respond|answer)"
_ORDER = re.compile(
    # "Ignore all previous instructions", but not "Never ignore the above warning".
    r"(?<!not )(?<!never )(?<!n't )(?<!n\u2019t )\b(?:ignore|disregard|forget|override)\b"
    r"(?: (?:all|any|of|the|your|these|those|my|our))*"
    r" (?:above|previous|prior|earlier|preceding|instructions?|system prompt|prompts?"
    r"|everything (?:above|before|you))\b"
    # "..., and write HACKED"
    rf"|(?:^|[.!?:;,]\s*|\b(?:and|then|instead|please|only|just)\s+){_SPEAK}\b"
    r"(?: (?:with|only|just|exactly|nothing but|the|words?))*\s*[\"'“:]*\s*(?-i:[A-Z]{4,})\b"
    rf"|\b{_SPEAK}(?: with)? (?:nothing but|exactly)\b"
    r"|\b(?:reply|respond|answer)\b[^.!?\n]{0,30}\b(?:every|all|any|each) "
    r"(?:questions?|prompts?|requests?)[^.!?\n]{0,15}\bwith\b"
    r"|\b(?:you are now|act as|pretend to be)\b[^.!?\n]{0,30}\b(?:assistant|model|AI|bot|pirate)\b"
    r"|\byour (?:system prompt|instructions are)\b|\bnew instructions:"
    r"|</?(?:system|assistant|user)>|\[/?INST\]|<\|\w+\|>",
    re.I,
)
_SHARE = 0.3  # of a text's words that only orders have, from which on it obeys or tells them


class Orders:
    """The sentences of one passage that are orders to its reader."""

    def __init__(self, passage: Passage) -> None:
        """Looks for them in the title and the text."""
        words = words_of()
        sentences = lines_and_sentences(passage.text)
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
