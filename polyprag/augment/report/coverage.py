"""How much of a corpus its rewrites and questions cover."""

from collections.abc import Iterator
from dataclasses import dataclass

from polyprag.augment.corpus import num_open, num_without_augmentation
from polyprag.augment.report.sentences import asked_about, sentences_of
from polyprag.augment.settings import DROPPED, recorded_settings
from polyprag.augment.worded import worded
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.passages import QA, Record
from sharding.corpus.reader import Corpus

_LOOKED_AT = 4_000  # passages, about; more tell no more
_SAMPLES = 3
_WHY = {
    "rules": "no rule found a fact in them",
    "none": "no pair of your own is about them, and augment.backend=none writes nothing",
}
_WHY_MODEL = "nothing that the model wrote was worth keeping"


@dataclass(frozen=True, slots=True)
class AskedPassage:
    """A passage with a question and the answer."""

    key: str
    title: str
    qa: QA


@dataclass(frozen=True, slots=True)
class Covered:
    """What is written about a corpus.

    Attributes:
        num_passages: that aren't removed.
        num_open: for which nothing has come yet.
        num_empty: without a rewrite and a question, though they aren't open.
        why_empty: the reason.
        num_looked_at: passages that the averages are of; spread over the corpus.
        questions: distinct questions a passage.
        facts: distinct answers a passage.
        rewrites: a passage.
        sentences: a passage.
        asked_about: share of the sentences that a question asks about.
        dropped: items that weren't kept, by reason.
        samples: passages spread over the corpus, each with a question.
    """

    num_passages: int
    num_open: int
    num_empty: int
    why_empty: str
    num_looked_at: int
    questions: float
    facts: float
    rewrites: float
    sentences: float
    asked_about: float
    dropped: dict[str, int]
    samples: tuple[AskedPassage, ...]

    @property
    def num_bare(self) -> int:
        """Passages that training would learn hardly anything of."""
        return self.num_open + self.num_empty


def coverage_of(corpus: Corpus, *, at_most: int = _LOOKED_AT) -> Covered:
    """Returns what is written about a corpus.

    Args:
        corpus: prepared; augmented or not.
        at_most: passages to look at, about: whole partitions, spread over the corpus.

    Raises:
        CorpusError: a shard is damaged.
    """
    manifest = corpus.manifest
    settings = recorded_settings(manifest) or {}
    open_ = num_open(manifest)
    records = list(_looked_at(corpus, at_most))
    totals = _Totals()
    for record in records:
        totals.add(record)
    count = max(len(records), 1)
    bare = num_without_augmentation(manifest)
    open_and_augmented = sum(
        part.counts.get("open", 0) for part in manifest.partitions if part.augmented
    )
    return Covered(
        num_passages=manifest.num_passages - len(manifest.removed),
        num_open=open_,
        num_empty=bare - open_and_augmented,
        why_empty=_WHY.get(str(settings.get("backend")), _WHY_MODEL),
        num_looked_at=len(records),
        questions=totals.questions / count,
        facts=totals.facts / count,
        rewrites=totals.rewrites / count,
        sentences=totals.sentences / count,
        asked_about=totals.asked_about / max(totals.sentences, 1),
        dropped=dict((manifest.augmentation or {}).get(DROPPED, {})),
        samples=tuple(_samples(records)),
    )


class _Totals:
    """Sums over passages."""

    def __init__(self) -> None:
        self.questions = self.facts = self.rewrites = self.sentences = self.asked_about = 0

    def add(self, record: Record) -> None:
        """Counts a passage's."""
        sentences = sentences_of(record.passage.text)
        self.sentences += len(sentences)
        if record.augmentation is None:
            return
        qas = record.augmentation.qas
        self.questions += len({worded(qa.question) for qa in qas})
        self.facts += len({worded(qa.answer) for qa in qas})
        self.rewrites += len(record.augmentation.rewrites)
        self.asked_about += len(asked_about(sentences, qas))


def _looked_at(corpus: Corpus, at_most: int) -> Iterator[Record]:
    for partition in _spread(corpus.manifest, at_most):
        for record in corpus.records(partition):
            if not record.passage.is_removed:
                yield record


def _spread(manifest: CorpusManifest, at_most: int) -> list[Partition]:
    """Returns partitions spread over a corpus that have about so many passages together."""
    partitions = manifest.partitions
    if manifest.num_passages <= at_most or not partitions:
        return list(partitions)
    wanted = max(1, at_most * len(partitions) // manifest.num_passages)
    return [partitions[number * len(partitions) // wanted] for number in range(wanted)]


def _samples(records: list[Record]) -> Iterator[AskedPassage]:
    asked = [each for each in records if each.augmentation and each.augmentation.qas]
    for number in range(min(_SAMPLES, len(asked))):
        record = asked[number * len(asked) // min(_SAMPLES, len(asked))]
        assert record.augmentation is not None
        qas = record.augmentation.qas
        yield AskedPassage(record.passage.key, record.passage.title, qas[number % len(qas)])
