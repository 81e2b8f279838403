"""Where a paragraph can be cut: behind sentences, and within one that is too long between words."""

from typing import Any

import regex

# A mark that ends a sentence, with the quotes and brackets that close behind it, then white space
# and no lower case letter; in scripts without spaces the mark alone.
_END: Any = regex.compile(
    r"""[.!?\u2026\u061f\u06d4\u0964][.!?"'\u201d\u2019\u00bb)\]]*+(\s++)(?=[^\s\p{Ll}])"""
    r"""|[\u3002\uff01\uff1f\uff61][\u300d\u300f\u201d)\uff09]*+(\s*+)(?=\S)"""
)
_ABBREVIATION: Any = regex.compile(
    r"(?:^|[\s(\"'])(?:\p{Lu}|(?i:mr|mrs|ms|dr|prof|st|no|nr|nos|vs|e\.g|i\.e|cf|fig|figs|eq|sec"
    r"|vol|ch|pp?|art|approx|ca|bzw|z\.\s?b|d\.\s?h|inc|ltd|jr|sr|tel))\.$"
)
_ABBREVIATION_CHARACTERS = 12


def split_sentences(text: str) -> list[str]:
    """Returns a paragraph's sentences, without the white space between them."""
    sentences = []
    begin = 0
    for match in _END.finditer(text):
        space = match.start(1) if match[1] is not None else match.start(2)
        if _ABBREVIATION.search(text, max(begin, space - _ABBREVIATION_CHARACTERS), space):
            continue
        sentences.append(text[begin:space].strip())
        begin = match.end()
    sentences.append(text[begin:].strip())
    return [sentence for sentence in sentences if sentence]
