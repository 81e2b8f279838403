"""The user's own pairs in RUN/augment: they join whatever is written about their passages.

A passage that is open has nothing for them to join yet, and `--overwrite` writes it anew; neither
takes them away.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from polyprag.augment.worded import worded
from polyprag.augment.work.replies import passage_digest
from polyprag.errors import RunError
from polyprag.run_dir import REPLIES
from sharding.corpus.passages import QA, Passage
from sharding.corpus.reader import Corpus
from sharding.storage.files import exists, join, remove
from sharding.storage.versioned import FileKind, Natural, Stored

_FORMAT, _VERSION = "polyprag-own-pairs", 1
_NAME = "own-pairs.json"

# By partition, then by `passage_digest`.
OwnPairs = Mapping[int, Mapping[str, tuple[QA, ...]]]


class PairsOfPassage(Stored, frozen=True):
    """A passage's own pairs.

    Attributes:
        partition: that has it.
        passage: its digest, so that a removed passage's key isn't in it.
        qas: the pairs, each question once.
    """

    partition: Natural
    passage: str
    qas: tuple[QA, ...]


class KeptPairs(Stored, frozen=True):
    """All own pairs of a run."""

    passages: tuple[PairsOfPassage, ...]
    format: str = _FORMAT
    version: int = _VERSION


OWN_PAIRS = FileKind(
    struct=KeptPairs,
    form=_FORMAT,
    version=_VERSION,
    what="a run's own question-answer pairs",
    error=RunError,
    make="run `polyprag augment RUN --qa FILE` first",
    remedy="delete it and run `polyprag augment RUN --qa FILE` again",
)


def own_pairs(run_dir: str) -> OwnPairs:
    """Returns the pairs that a run has been given.

    Raises:
        RunError: the file that has them is damaged.
    """
    found: dict[int, dict[str, tuple[QA, ...]]] = defaultdict(dict)
    if exists(url := join(run_dir, REPLIES, _NAME)):
        for each in OWN_PAIRS.read(url).passages:
            found[each.partition][each.passage] = each.qas
    return found


def num_own_pairs(run_dir: str) -> int:
    """Returns how many pairs a run has been given."""
    return sum(len(qas) for of in own_pairs(run_dir).values() for qas in of.values())


def keep_own_pairs(
    run_dir: str, corpus: Corpus, pairs: Mapping[int, Mapping[int, tuple[QA, ...]]]
) -> OwnPairs:
    """Adds pairs to those that a run was given; returns all. Of equal questions the last stays.

    Args:
        run_dir: RUN.
        corpus: its.
        pairs: new ones, by partition and passage id.
    """
    kept = {index: dict(of) for index, of in own_pairs(run_dir).items()}
    for index, of in pairs.items():
        for passage_id, qas in of.items():
            digest = passage_digest(corpus.record(passage_id).passage)
            there = kept.setdefault(index, {}).get(digest, ())
            named = {worded(qa.question): qa for qa in (*there, *qas)}
            kept[index][digest] = tuple(named.values())
    _save(run_dir, kept)
    return kept


def keep_pairs_of(run_dir: str, index: int, passages: Iterable[Passage]) -> None:
    """Deletes a partition's own pairs but for those of some passages, as they are worded now."""
    kept = {number: dict(of) for number, of in own_pairs(run_dir).items()}
    if index not in kept:
        return
    there = {passage_digest(passage) for passage in passages}
    kept[index] = {digest: qas for digest, qas in kept[index].items() if digest in there}
    _save(run_dir, kept)


def _save(run_dir: str, kept: OwnPairs) -> None:
    passages = tuple(
        PairsOfPassage(index, digest, qas)
        for index, of in sorted(kept.items())
        for digest, qas in of.items()
    )
    url = join(run_dir, REPLIES, _NAME)
    if passages:
        OWN_PAIRS.write(url, KeptPairs(passages))
    else:
        remove(url)
