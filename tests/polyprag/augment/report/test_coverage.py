"""Coverage counted by hand, on passages small enough for it."""

from pathlib import Path

import pytest
from msgspec import structs

from polyprag.augment.corpus import counts_of
from polyprag.augment.report.coverage import coverage_of
from polyprag.augment.report.sentences import asked_about, sentences_of
from polyprag.augment.report.text import coverage_fields, coverage_text
from polyprag.augment.work.partition import Came
from polyprag.augment.written import Dropped
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import QA, Augmentation, Passage, Record
from sharding.corpus.reader import Corpus

TEXT = (
    "The Kite is a 1961 Italian film. It was directed by Carla Monti. "
    "The music is by J. S. Bach. Nobody has seen it since."
)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (TEXT, ["The Kite is a 1961 Italian film.", "It was directed by Carla Monti.",
                "The music is by J. S. Bach.", "Nobody has seen it since."]),
        ("It costs 3.50 euros. Really so!", ["It costs 3.50 euros."]),  # two words are none
        ("Leave of absence\n- ten days a year\n- two weeks notice",
         ["Leave of absence", "- ten days a year", "- two weeks notice"]),
        ("He said “Come here.” Then he left.", ["He said “Come here.", "Then he left."]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [each.rstrip("”") for each in sentences_of(text)] == sentences


@pytest.mark.parametrize(
    ("question", "answer", "full_answer", "number"),
    [
        ("Who made The Kite?", "Carla Monti", "", 1),
        ("From which year is it?", "1961", "", 0),
        ("Who composed it?", "Johann Sebastian Bach", "The music of it is by Bach.", 2),
        ("Is it lost?", "yes", "Nobody has seen it since.", 3),
        ("Is it lost?", "no", "", None),  # "no" isn't in "Nobody"
    ],
)
def test_the_sentence_that_a_question_asks_about(
    question: str, answer: str, full_answer: str, number: int | None
) -> None:
    qa = QA(question, answer, full_answer or answer)
    assert asked_about(sentences_of(TEXT), [qa]) == (set() if number is None else {number})


def test_an_answer_in_several_sentences_asks_about_the_one_that_is_most_like_the_question() -> None:
    sentences = ["Ann was born in Oslo.", "Ann later taught in Oslo.", "She left."]
    assert asked_about(sentences, [QA("Where did Ann teach later?", "Oslo", "Oslo")]) == {1}
    assert asked_about(sentences, [QA("Where?", "Oslo", "Oslo")]) == {0}


def _corpus(directory: Path) -> Corpus:
    def record(number: int, augmentation: Augmentation | None) -> Record:
        return Record(Passage(number, f"k{number}", f"T{number}", TEXT), augmentation)

    def qa(question: str, answer: str) -> QA:
        return QA(question, answer, answer)

    records = [
        record(0, Augmentation(("Again.",), (qa("Who?", "Carla Monti"), qa("who", "Monti"),
                                             qa("When?", "1961"), qa("Year?", "1961")))),
        record(1, Augmentation((), ())),
        record(2, None),
        record(3, None),
    ]  # fmt: skip
    parts = []
    for index, mine in enumerate((records[:2], records[2:])):
        total = {name: sum(counts_of(each)[name] for each in mine) for name in counts_of(mine[0])}
        is_done = index == 0
        part = write_partition(
            directory, index, records=mine, augmented=is_done, counts=total if is_done else {}
        )
        parts.append(part)
    manifest = CorpusManifest([], 4, 2, tuple(parts))
    how = {"backend": "rules", "num_rewrites": 1, "num_qas": 3, "dropped": {"duplicate": 2}}
    structs.replace(manifest, augmentation=how).save(directory)
    return Corpus.open(directory)


def test_averages_reasons_and_samples(tmp_path: Path) -> None:
    coverage = coverage_of(_corpus(tmp_path))
    assert coverage.num_passages == coverage.num_looked_at == 4
    assert (coverage.num_open, coverage.num_empty) == (2, 1)
    assert coverage.questions == 3 / 4  # "Who?" and "who" are one
    assert coverage.facts == 3 / 4
    assert coverage.rewrites == 1 / 4
    assert coverage.sentences == 4
    assert coverage.asked_about == 2 / 16
    assert coverage.dropped == {"duplicate": 2}
    (sample,) = coverage.samples
    assert (sample.key, sample.qa.question) == ("k0", "Who?")


def test_the_report_tells_what_is_missing_why_and_what_to_do(tmp_path: Path) -> None:
    came = Came()
    came.failures["503 busy"] += 2
    came.drop([Dropped("duplicate", "Who?"), Dropped("duplicate", "When?")])
    coverage = coverage_of(_corpus(tmp_path))
    text = coverage_text("runs/mine", "runs/mine/corpus", coverage, came)
    assert "2 of 4 passages augmented, 1 of them without any rewrite" in text
    assert "1 of 4 passages (25%): no rule found a fact in them" in text
    assert "2 of 4 passages (50%)\n  2 x 503 busy" in text
    assert "not kept: 2 items\n  2 duplicate: Who?; When?" in text
    assert "asked about: 12% of the sentences" in text
    assert "next: polyprag augment runs/mine" in text.splitlines()[-1]
    fields = coverage_fields(coverage, came)
    assert fields["failures"] == {"503 busy": 2}
    assert fields["dropped_samples"] == {"duplicate": ["Who?", "When?"]}
