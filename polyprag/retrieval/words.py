"""Text to words in every script: where they are cut, and which spellings of one are the same.

A word is a run of letters, digits and the marks on them, as Unicode's word rules (UAX #29) have it,
but for apostrophes and full stops: these cut, as most languages join two words by them. Scripts
that put no space between words are cut into overlapping pairs of syllables, as Lucene's CJK
analyzer does, so a question's word is found inside any longer run.
"""

import re
import unicodedata
from itertools import zip_longest
from typing import Any

import regex

_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_LETTERS_AND_MARKS: Any = regex.compile(r"\w+")
# Other scripts, invisible characters, Catalan's dot.
_BEYOND_LATIN_AND_GREEK = re.compile(
    "[\u00ad\u00b7\u0400-\u1dff\u200b-\u200f\u2060-\u206f\u2c00-\U0010ffff]"
)

# Scripts without spaces (line breaking class SA is Thai, Lao, Khmer, Myanmar and their kin), and
# Hangul, whose words carry their particles.
_UNSPACED = (
    r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Bopomofo}\p{Hangul}\p{lb=SA}\p{Javanese}"
    r"\p{Balinese}]--\p{Nd}]"
)
_IN_WORD = rf"[[\w\p{{Cf}}]--[\u200b{_UNSPACED}]]"
# What joins letters to one word as marks do: the apostrophe of Ukrainian, geresh and gershayim of
# Hebrew, the dot of Catalan.
_JOINED = (
    r"(?:['\u2019\u05f3\"\u05f4\u00b7]"
    r"(?<=\p{Cyrillic}['\u2019]|\p{Hebrew}[^\u00b7]|l\u00b7)(?=[\p{Cyrillic}\p{Hebrew}l]))"
)
_WORD_OR_RUN = regex.compile(
    rf"[\w--{_UNSPACED}]{_IN_WORD}*+(?:{_JOINED}{_IN_WORD}++)*+"
    rf"|{_UNSPACED}[{_UNSPACED}\p{{M}}\p{{Cf}}]*+",
    regex.V1,
)
_STARTS_RUN = regex.compile(_UNSPACED, regex.V1)
# A letter with its marks; in Thai and Lao with the vowels that are written as letters before and
# after it, in Khmer, Burmese and others with the consonants below it.
_SYLLABLE = regex.compile(
    r"[\u0e40-\u0e44\u0ec0-\u0ec4]?\P{M}"
    r"(?:[\p{M}\u0e30\u0e32\u0e45\u0eb0\u0eb2]|(?<=[\u17d2\u1039\u1a60\ua9c0\u1b44])\P{M})*+"
    r"|\p{M}++",
    regex.V1,
)
_INVISIBLE = regex.compile(r"\p{Cf}")  # such as the space of no width that some put between words
_HAN = regex.compile(r"\p{Han}")
_KOREAN_PARTICLES = frozenset("은는이가을를의에도로와과만")  # those of one syllable

# Marks that belong to several scripts, or to one that is read without them: stress, harakat,
# points. Japanese voicing marks are of several, and make another letter.
_UNREAD = regex.compile(
    r"[[\p{M}&&[\p{Inherited}\p{Common}\p{Arabic}\p{Hebrew}\p{Syriac}\p{Cyrillic}\p{Greek}]]"
    r"--[\u3099\u309a]]"
    r"|[\p{Cf}--\u200c]|(?<!\p{Arabic})\u200c"  # the Persian stemmer looks for it
    r"|(?<!l)\u00b7|[\u0640\u02bb-\u02bf'\u2019\u05f3\"\u05f4]",
    regex.V1,
)
_IS_GREEK = regex.compile(r"\p{Greek}")
_DECOMPOSED = regex.compile(r"[\p{Latin}\p{Arabic}]")
# As Lucene's HindiNormalizer: what is written in either way.
_DEVANAGARI = str.maketrans({"\u093c": "", "\u0901": "\u0902"})
_DEAD_N = regex.compile("\u0928\u094d(?=\\p{L})")
_VARIANTS = str.maketrans(
    {
        "\u200c": "",
        "\u00b7": "",
        "ı": "i",
        "ё": "е",
        "ѐ": "е",
        "ѝ": "и",
        "\u0671": "\u0627",  # alef with wasla
        "\u0649": "\u064a",  # yeh without dots, and Persian's
        "\u06cc": "\u064a",
        "\u06a9": "\u0643",  # Persian's kaf
    }
)


def needs_all_rules(text: str) -> bool:
    """Returns whether a text has anything but Latin and Greek letters, digits and punctuation.

    Where it hasn't, `plain_words` finds the same words as `words_and_runs`, three times as fast.
    """
    return not text.isascii() and _BEYOND_LATIN_AND_GREEK.search(text) is not None


def plain_words(text: str) -> list[str]:
    """Returns the words of a text that doesn't need all rules."""
    found: list[str] = (_ASCII_WORD if text.isascii() else _LETTERS_AND_MARKS).findall(text)
    return found


def words_and_runs(text: str) -> list[str]:
    """Returns a text's words, and its runs of letters in scripts without spaces, in their order.

    Args:
        text: lower-case, in the normal form NFKC.
    """
    found: list[str] = _WORD_OR_RUN.findall(text)
    return found


def is_run(word: str) -> bool:
    """Returns whether it is of a script without spaces."""
    return _STARTS_RUN.match(word) is not None


def terms_of_run(run: str) -> list[str]:
    """Returns the pairs of neighbouring syllables of a run; one alone is itself a term.

    So is each Han character, which has a meaning of its own, and a Korean syllable before a
    particle of one syllable.
    """
    syllables: list[str] = _SYLLABLE.findall(_INVISIBLE.sub("", run))
    if len(syllables) == 1:
        return syllables
    if len(syllables) == 2 and syllables[1] in _KOREAN_PARTICLES:
        return [syllables[0], "".join(syllables)]
    terms = []
    for syllable, following in zip_longest(syllables, syllables[1:]):
        if _HAN.match(syllable):
            terms.append(syllable)
        if following is not None:
            terms.append(syllable + following)
    return terms


def letters_of(word: str) -> str:
    """Returns a word as stop words and stemmers are written: without marks that some leave out.

    Accents of Latin letters stay, since stemmers look for them.
    """
    if word.isascii():
        return word
    word = _UNREAD.sub("", word)
    if _IS_GREEK.search(word):
        word = without_marks(word).replace("ς", "σ")
    return str(_DEAD_N.sub("\u0902", word.translate(_DEVANAGARI)))


def folded(word: str) -> str:
    """Returns a stemmed word with other spellings folded: accents, digits of any script, hamza."""
    if word.isascii():
        return word
    word = _DECOMPOSED.sub(lambda letter: without_marks(letter[0]), word).translate(_VARIANTS)
    return "".join(
        str(digit) if (digit := unicodedata.decimal(char, None)) is not None else char
        for char in word
    )


def without_marks(word: str) -> str:
    """Returns a word's letters, decomposed, without any mark on them."""
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(char for char in decomposed if not unicodedata.combining(char))
