import gc
import weakref

import pytest

from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.analysis import Analyzer


def test_terms_are_lower_cased_stemmed_and_free_of_stop_words_and_diacritics() -> None:
    analyzer = Analyzer.of_language("english")
    assert analyzer.terms("In what city was Dvořák's Orchestra playing?") == [
        "citi",
        "dvorak",
        "orchestra",
        "play",
    ]


def test_composed_and_decomposed_letters_give_the_same_terms() -> None:
    analyzer = Analyzer.of_language("english")
    assert analyzer.terms("Zoe\u0308 \ufb01sh") == analyzer.terms("Zo\u00eb fish")


def test_no_language_keeps_every_word() -> None:
    assert Analyzer.of_language("none").terms("What was it?") == ["what", "was", "it"]


def test_other_languages_have_their_own_stop_words_and_stemmer() -> None:
    assert Analyzer.of_language("german").terms("Die Häuser und der Garten") == ["haus", "gart"]


def test_settings_make_the_same_analyzer_again() -> None:
    analyzer = Analyzer(stopwords=["foo"], stemmer="porter")
    again = Analyzer.from_settings(analyzer.settings, where="here")
    assert again.settings == analyzer.settings
    assert again.terms("foo walking") == analyzer.terms("foo walking") == ["walk"]


def test_an_unknown_language_is_a_config_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"index\.language='klingon'.*english"):
        Analyzer.of_language("klingon")


@pytest.mark.parametrize(
    "settings", [None, {}, {"stopwords": [1]}, {"stopwords": [], "stemmer": "klingon"}]
)
def test_settings_that_are_not_an_analyzers_are_refused(settings: object) -> None:
    with pytest.raises(RunError, match="here"):
        Analyzer.from_settings(settings, where="here")


def test_the_cache_goes_with_its_analyzer() -> None:
    """Each task of a build has one, and a cache of 262,144 words takes 58 MB."""
    analyzer = Analyzer.of_language("english")
    assert analyzer.terms("sailing boats") == ["sail", "boat"]
    gone = weakref.ref(analyzer)
    gc.disable()
    try:
        del analyzer
        assert gone() is None
    finally:
        gc.enable()
