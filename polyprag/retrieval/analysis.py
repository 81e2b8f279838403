"""Text to index terms: the one tokenisation that building and searching share.

What an index was built with is saved inside it as `settings`, stop words included, so a search
can't tokenise differently from the build, whatever the installed libraries or the config say.
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

_WORD = re.compile(r"\w+")
_CACHED_WORDS = 1 << 18


class Analyzer:
    """Lower-cased words without stop words, stemmed (Snowball), diacritics removed."""

    def __init__(self, *, stopwords: Collection[str], stemmer: str | None) -> None:
        """Sets up; `of_language` chooses both arguments.

        Args:
            stopwords: lower-case words that aren't terms.
            stemmer: a Snowball algorithm; None leaves words as they are.

        Raises:
            ConfigError: there is no such Snowball algorithm.
        """
        self._stopwords = frozenset(stopwords)
        self._stemmer_name = stemmer
        try:
            self._stemmer = None if stemmer is None else Stemmer.Stemmer(stemmer)
        except KeyError as error:
            names = ", ".join(Stemmer.algorithms())
            raise ConfigError(
                f"index.language={stemmer!r} isn't known: use none or one of {names}"
            ) from error
        # Nothing cached refers to this object: the cache, of up to 60 MB, goes when it goes, and
        # not when the garbage collector next looks for cycles.
        term_of_word = partial(
            _term_of_word,
            stopwords=self._stopwords,
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
        return {"stopwords": sorted(self._stopwords), "stemmer": self._stemmer_name}

    @classmethod
    def from_settings(cls, settings: Any, *, where: str) -> Self:
        """Returns the analyzer that gave `settings`.

        Raises:
            RunError: the settings, read from `where`, aren't an analyzer's.
        """
        words = settings.get("stopwords") if isinstance(settings, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RunError(f"{where}: not an analyzer's settings; {REMEDY}")
        stemmer = settings.get("stemmer")
        if stemmer is not None and stemmer not in Stemmer.algorithms():
            raise RunError(
                f"{where}: needs the stemmer {stemmer!r}, which the installed PyStemmer lacks; "
                f"upgrade PyStemmer or {REMEDY}"
            )
        return cls(stopwords=words, stemmer=stemmer)

    def terms(self, text: str) -> list[str]:
        """Returns the terms of a text in their order, repeated ones as often as they occur."""
        words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
        return [term for word in words if (term := self._term(word))]


def _term_of_word(
    word: str, *, stopwords: Collection[str], stemmer: Any, lock: threading.Lock
) -> str:
    """Returns a word's term; empty for a stop word."""
    if word in stopwords:
        return ""
    if stemmer is not None:
        with lock:
            word = stemmer.stemWord(word)
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(char for char in decomposed if not unicodedata.combining(char))
