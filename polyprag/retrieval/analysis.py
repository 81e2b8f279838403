"""Text to index terms: the one tokenisation that building and searching share.

What an index was built with is saved inside it as `settings`, stop words and version included, so a
search can't tokenise differently from the build, whatever the installed libraries or the config
say. An index of version 1 is searched with the rules of version 1 until it is built anew.
"""

import re
import threading
import unicodedata
from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any, Self

import Stemmer
from bm25s import stopwords as bm25s_stopwords

from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.remedy import REMEDY
from polyprag.retrieval.words import (
    folded,
    is_run,
    letters_of,
    needs_all_rules,
    plain_words,
    terms_of_run,
    without_marks,
    words_and_runs,
)

_VERSION = 2  # raise it with any change of the terms of any text
_FIRST_VERSION = 1  # cut words at marks, and had no version in its settings
_FIRST_WORD = re.compile(r"\w+")
_CACHED_WORDS = 1 << 18
_TURKISH_CAPITALS = str.maketrans({"I": "\u0131", "\u0130": "i"})


class Analyzer:
    """Lower-cased words without stop words, stemmed (Snowball), accents and points removed.

    Runs of scripts without spaces give pairs of syllables: see `polyprag.retrieval.words`.
    """

    def __init__(
        self, *, stopwords: Collection[str], stemmer: str | None, version: int = _VERSION
    ) -> None:
        """Sets up; `of_language` chooses the arguments.

        Args:
            stopwords: lower-case words that aren't terms.
            stemmer: a Snowball algorithm; None leaves words as they are.
            version: of the rules; 1 only for an index that has them.

        Raises:
            ConfigError: there is no such Snowball algorithm.
        """
        self._stopwords = frozenset(stopwords)
        self._stemmer_name = stemmer
        self._version = version
        try:
            self._stemmer = None if stemmer is None else Stemmer.Stemmer(stemmer)
        except KeyError as error:
            names = ", ".join(Stemmer.algorithms())
            raise ConfigError(
                f"index.language={stemmer!r} isn't known: use none or one of {names}"
            ) from error
        is_first = version == _FIRST_VERSION
        # Nothing cached refers to this object: the cache, of up to 60 MB, goes when it goes, and
        # not when the garbage collector next looks for cycles.
        term_of_word = partial(
            _first_term_of_word if is_first else _term_of_word,
            stopwords=self._stopwords if is_first else frozenset(map(_as_written, stopwords)),
            stemmer=self._stemmer,
            lock=threading.Lock(),  # a Snowball stemmer isn't thread-safe
        )
        self._term = lru_cache(maxsize=_CACHED_WORDS)(term_of_word)

    @classmethod
    def of_language(cls, language: str) -> Self:
        """Returns the language's stemmer, with its stop words where bm25s has a list.

        `none`: neither.
        """
        if language == "none":
            return cls(stopwords=(), stemmer=None)
        # The longer English list holds the question words, which are rare in passages and would
        # therefore weigh much: without it recall@1 of PopQA subjects falls by 2 points.
        suffix = "EN_PLUS" if language == "english" else language.upper()
        words = getattr(bm25s_stopwords, f"STOPWORDS_{suffix}", ())
        return cls(stopwords=words, stemmer=language)

    @property
    def settings(self) -> dict[str, Any]:
        """What `from_settings` needs, as JSON values."""
        settings = {"stopwords": sorted(self._stopwords), "stemmer": self._stemmer_name}
        return (
            settings if self._version == _FIRST_VERSION else settings | {"version": self._version}
        )

    @classmethod
    def from_settings(cls, settings: Any, *, where: str) -> Self:
        """Returns the analyzer that gave `settings`.

        Raises:
            RunError: the settings, read from `where`, aren't an analyzer's.
        """
        words = settings.get("stopwords") if isinstance(settings, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RunError(f"{where}: not an analyzer's settings; {REMEDY}")
        stemmer, version = settings.get("stemmer"), settings.get("version", _FIRST_VERSION)
        if stemmer is not None and stemmer not in Stemmer.algorithms():
            raise RunError(
                f"{where}: needs the stemmer {stemmer!r}, which the installed PyStemmer lacks; "
                f"upgrade PyStemmer or {REMEDY}"
            )
        if version not in (_FIRST_VERSION, _VERSION):
            raise RunError(
                f"{where}: words are cut by rules of version {version!r}, which this polyprag "
                f"doesn't have; {REMEDY}, or take the polyprag that built it"
            )
        return cls(stopwords=words, stemmer=stemmer, version=version)

    def terms(self, text: str) -> list[str]:
        """Returns the terms of a text in their order, repeated ones as often as they occur."""
        if self._version == _FIRST_VERSION:
            words = _FIRST_WORD.findall(unicodedata.normalize("NFKC", text).lower())
            return [term for word in words if (term := self._term(word))]
        text = unicodedata.normalize("NFKC", text)
        if self._stemmer_name == "turkish":
            text = text.translate(_TURKISH_CAPITALS)
        text = text.lower()
        if not needs_all_rules(text):
            return [term for word in plain_words(text) if (term := self._term(word))]
        terms = []
        for word in words_and_runs(text):
            if is_run(word):
                terms += terms_of_run(word)
            elif term := self._term(word):
                terms.append(term)
        return terms


def _as_written(stopword: str) -> str:
    """Returns a stop word of a list as `_term_of_word` meets it."""
    return letters_of(unicodedata.normalize("NFKC", stopword).lower())


def _term_of_word(
    word: str, *, stopwords: Collection[str], stemmer: Any, lock: threading.Lock
) -> str:
    """Returns a word's term; empty for a stop word."""
    word = letters_of(word)
    if word in stopwords:
        return ""
    if stemmer is not None and word:
        with lock:
            word = stemmer.stemWord(word)
    return folded(word)


def _first_term_of_word(
    word: str, *, stopwords: Collection[str], stemmer: Any, lock: threading.Lock
) -> str:
    """Returns a word's term by the rules of version 1."""
    if word in stopwords:
        return ""
    if stemmer is not None:
        with lock:
            word = stemmer.stemWord(word)
    return without_marks(word)
