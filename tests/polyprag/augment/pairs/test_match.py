"""Pairs find their passages by key, by text in either direction, and by title with answer."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.augment.pairs.match import match_pairs
from polyprag.augment.pairs.pair import Pair
from sharding.change.removal import remove_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import QA, Passage, Record
from sharding.corpus.reader import Corpus

TEXTS = [
    ("k0", "The Kite", "The Kite is a 1961 film. It was directed by Carla Monti in Rome."),
    ("k1", "Oslo", "Oslo is the capital of Norway, and its largest city by far."),
    ("k2", "Oslo", "The harbour of Oslo freezes in some winters, though never in summer."),
    ("k3", "", "A passage without any title says that the battery lasts nine hours."),
]
DOCUMENT = f"{TEXTS[1][2]}  {TEXTS[2][2]}"


def corpus_of(directory: Path, texts: list[tuple[str, str, str]], size: int = 2) -> Corpus:
    records = [Record(Passage(i, *each)) for i, each in enumerate(texts)]
    parts = [
        write_partition(directory, index, records=records[start : start + size])
        for index, start in enumerate(range(0, len(records), size))
    ]
    CorpusManifest([], len(records), size, tuple(parts)).save(directory)
    return Corpus.open(directory)


def pair(answer: str = "A", **where: str) -> Pair:
    return Pair(QA("Q?", answer, answer), "file:1", **where)


@pytest.mark.parametrize(
    ("given_", "ids"),
    [
        (pair(key="k2"), [2]),
        (pair(text="k2"), [2]),  # a `passage` that is a key
        (pair(text="the kite is a 1961   FILM"), [0]),
        (pair(text="Oslo Oslo is the capital of Norway"), [1]),  # with the title before it
        (pair(text="says that the battery lasts nine hours."), [3]),
        (pair("nine hours", text="battery lasts"), [3]),
        (pair("Norway", text=DOCUMENT), [1]),  # the document, of which the passage is a part
        (pair("the harbour", text=DOCUMENT), [2]),
        (pair("some winters", title="OSLO"), [2]),
        (pair(key="unknown", text="Carla Monti in Rome"), [0]),
    ],
)
def test_a_pair_finds_its_passage(tmp_path: Path, given_: Pair, ids: list[int]) -> None:
    matched = match_pairs(corpus_of(tmp_path, TEXTS), [given_])
    assert matched.pairs == {i // 2: {i: (given_.qa,)} for i in ids}
    assert (matched.num_matched, matched.unmatched) == (1, [])


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        (pair(key="k9"), "no passage has its key"),
        (pair(text="The Kite is a 1962 film"), "no passage has its text"),
        (pair(text="ite is a 1961"), "no passage has its text"),  # half of a word
        (pair("Bergen", title="Oslo"), "no passage has its title that holds its answer"),
        (pair("Bergen", text=DOCUMENT), "no passage has its text"),
    ],
)
def test_a_pair_without_a_passage_is_told_why(tmp_path: Path, given_: Pair, why: str) -> None:
    matched = match_pairs(corpus_of(tmp_path, TEXTS), [given_])
    assert matched.pairs == {} and matched.num_matched == 0
    assert matched.unmatched == [(given_, why)]


@pytest.mark.parametrize(
    ("title", "answer", "ids"),
    [
        ("Handbook > Leave > Sick leave", "two days", [0]),
        ("Sick leave", "two days", [0]),
        ("leave - sick leave", "two days", [0]),
        ("Handbook", "two days", [0, 1]),  # the document, in each passage with the answer
        ("Leave", "two days", [1]),  # a passage's own heading, before the one above it
        ("Sick leave", "three days", []),
    ],
)
def test_a_title_may_be_a_heading_or_the_documents(
    tmp_path: Path, title: str, answer: str, ids: list[int]
) -> None:
    texts = [
        ("a", "Handbook > Leave > Sick leave", "After two days a note is needed."),
        ("b", "Handbook > Leave", "Ask two days before."),
        ("c", "Handbook > Travel", "Trains come first."),
    ]
    matched = match_pairs(corpus_of(tmp_path, texts), [pair(answer, title=title)])
    assert [i for part in matched.pairs.values() for i in part] == ids


def test_a_text_of_too_many_passages_says_too_little(tmp_path: Path) -> None:
    texts = [(f"k{i}", "", f"Number {i} of the same kind of text.") for i in range(9)]
    matched = match_pairs(corpus_of(tmp_path, texts), [pair(text="the same kind of text")])
    assert matched.num_matched == 0
    assert matched.unmatched[0][1].startswith("9 passages have its text: give more of it")


def test_a_question_is_kept_once_and_a_removed_passage_has_none(tmp_path: Path) -> None:
    corpus_of(tmp_path, TEXTS)
    remove_passages(tmp_path, [2], count=lambda record: {})
    pairs = [pair("first", key="k1"), pair("second", key="k1"), pair(key="k2")]
    matched = match_pairs(Corpus.open(tmp_path), pairs)
    assert matched.pairs == {0: {1: (pairs[0].qa,)}}
    assert [each for each, _ in matched.unmatched] == [pairs[2]]


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(passages=st.lists(WORDS, min_size=1, max_size=5), text=WORDS)
def test_texts_are_found_as_a_plain_search_finds_them(
    tmp_path_factory: pytest.TempPathFactory, passages: list[list[str]], text: list[str]
) -> None:
    texts = [(f"k{i}", "", " ".join(words)) for i, words in enumerate(passages)]
    wanted = pair("zzz", text=" ".join(text))
    matched = match_pairs(corpus_of(tmp_path_factory.mktemp("c"), texts, 10), [wanted])
    expected = {i for i, words in enumerate(passages) if f" {' '.join(text)} " in
                f" {' '.join(words)} "}  # fmt: skip
    assert set(matched.pairs.get(0, {})) == expected
