"""A run's corpus augmented partition by partition; what is done isn't done again."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from polyprag.augment.prompt import EMPTY
from polyprag.augment.settings import (
    DROPPED,
    deciding,
    describe,
    differences,
    recorded_settings,
    refuse_other_settings,
)
from polyprag.augment.work.overwriting import begins_anew, ends, is_overwriting
from polyprag.augment.work.own_pairs import keep_own_pairs, own_pairs
from polyprag.augment.work.partition import Came, PartitionWork
from polyprag.augment.work.replies import drop_replies, partitions_with_replies, settings_digest
from polyprag.augment.work.writers import forget_endpoint
from polyprag.config import Config
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest
from polyprag.errors import TRY_AGAIN, RunError
from polyprag.method.examples import count_examples
from polyprag.run_dir import CORPUS, ENCODING
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.passages import QA, Record
from sharding.corpus.reader import Corpus
from sharding.corpus.rewrite import rewrite_partitions
from sharding.storage.files import exists, join
from sharding.task_pool import TaskPool

# Beside the kinds of example, a partition's counts have the passages without any rewrite and
# question, and those of them that are open: nothing has come for them yet.
_WITHOUT, _OPEN = "without_augmentation", "open"
_OUTAGE = 64  # passages in whole partitions that failed one after another: nothing more is asked
_CHECKPOINTS, _ALL = "checkpoints", 1 << 62  # passages of which any may have been trained with
_WORDS = 3  # kinds of failure that an error names

Pairs = Mapping[int, Mapping[int, tuple[QA, ...]]]  # by partition and passage id
_NO_PAIRS: Pairs = {}


class OpenPassagesError(RunError):
    """Nothing usable came for some passages; what came is kept, and another try asks for them."""

    exit_status = TRY_AGAIN


class _OutageError(Exception):
    """Passages fail one after another."""


def augment_corpus(
    run_dir: str | Path,
    config: Config,
    *,
    overwrite: bool = False,
    keep: bool = False,
    pairs: Pairs = _NO_PAIRS,
    only: Callable[[Partition], bool] = lambda partition: True,
    lets_go: bool = False,
    came: Came | None = None,
    progress: Callable[[int], None] | None = None,
    pool: TaskPool | None = None,
) -> CorpusManifest:
    """Writes rewrites and question-answer pairs into `run_dir`'s corpus.

    What came is kept the moment it comes, and finished partitions are, so the same call continues
    what was interrupted, and asks for the passages alone that are open.

    Args:
        run_dir: RUN, prepared.
        config: `augment` says who writes and how many.
        overwrite: whether to write again what is written.
        keep: whether what was written with other settings stays.
        pairs: own question-answer pairs, which join what is written about their passages, now and
            whenever something is written about these.
        only: which partitions to look at.
        lets_go: whether passages stay open whatever goes wrong with an endpoint, and none is left
            unasked.
        came: gets what came.
        progress: called with the number of passages done since its last call; those that were done
            before count too.
        pool: who does the work, this process by default.

    Returns:
        The manifest, every partition augmented and no passage open; see `num_without_augmentation`.

    Raises:
        ConfigError: the corpus was augmented with other settings, or the backend can't be used.
        CorpusError: there is no corpus, or a shard is damaged.
        OpenPassagesError: passages are open, for which nothing usable came.
    """
    run, corpus_dir = str(run_dir), join(run_dir, "corpus")
    manifest = CorpusManifest.load(corpus_dir)
    settings = describe(config)
    recorded = recorded_settings(manifest)
    num_written = _num_live(manifest) - num_open(manifest)
    if recorded is not None and num_written and not overwrite and not keep:
        refuse_other_settings(
            corpus_dir,
            recorded,
            settings,
            num_written=num_written,
            num_passages=_num_live(manifest),
            num_open=num_open(manifest),
        )
    own = keep_own_pairs(run, Corpus(corpus_dir, manifest), pairs) if pairs else own_pairs(run)
    anew = overwrite and begins_anew(run, manifest, settings_digest(deciding(settings)))
    if not is_overwriting(run):
        _forget_kept(run, manifest)
    came = Came() if came is None else came
    dropped_before = {} if anew else dict((manifest.augmentation or {}).get(DROPPED, {}))
    is_known = recorded is not None and not differences(recorded, settings) and num_written > 0
    is_known = is_known or bool(partitions_with_replies(run))
    forget_endpoint(is_known=is_known, lets_go=lets_go)
    counting = _Counting(came, lets_go=lets_go)
    try:
        manifest = rewrite_partitions(
            corpus_dir,
            lambda partition: PartitionWork(
                run,
                partition.index,
                config,
                deciding(settings),
                anew or not partition.augmented,
                own.get(partition.index, {}),
                lets_go,
            ),
            needs=lambda partition: (
                only(partition) and (anew or _is_lacking(partition) or partition.index in pairs)
            ),
            anew=anew,
            describe=lambda: _described(settings, dropped_before, came),
            count=counts_of,
            see=counting.see,
            progress=progress,
            pool=pool,
        )
    except _OutageError:
        manifest = CorpusManifest.load(corpus_dir)
    # Until the first shard is written anew, those of before are all there, and lack nothing.
    is_begun = came.failures and is_overwriting(run)
    if not is_begun and not any(_is_lacking(partition) for partition in manifest.partitions):
        ends(run)
    if not is_overwriting(run):
        _forget_kept(run, manifest)
    if came.failures:
        raise _open_passages(run, manifest, came)
    return manifest


def refuse_what_is_trained(
    run_dir: str | Path, *, pairs: Collection[int] = (), overwrite: bool = False
) -> None:
    """Refuses to write about passages that an encoding or a checkpoint was trained with.

    Neither would belong to the corpus any more. Partitions that joined it since may be written.

    Args:
        run_dir: RUN.
        pairs: the partitions that own pairs join.
        overwrite: whether all is written anew.

    Raises:
        RunError: some of what is to be written was trained with.
    """
    encoding, checkpoint = (join(run_dir, name, MANIFEST_NAME) for name in (ENCODING, _CHECKPOINTS))
    if exists(encoding):
        trained = EncodingManifest.load(join(run_dir, ENCODING)).num_passages
    elif exists(checkpoint):
        trained = _ALL
    else:
        return
    changed = [
        partition.index
        for partition in CorpusManifest.load(join(run_dir, CORPUS)).partitions
        if partition.first_id < trained
        and (overwrite or _is_lacking(partition) or partition.index in pairs)
    ]
    if changed:
        raise RunError(
            f"{run_dir}: was trained with {len(changed):,} of the partitions that would change "
            f"(the first is {changed[0]}): its encoding, checkpoint and index would be of no use "
            "any more; prepare another RUN, or delete its encoding, checkpoints and index first"
        )


class _Counting:
    """Adds up what came, and ends the work where nothing comes any more."""

    def __init__(self, came: Came, *, lets_go: bool) -> None:
        self._came, self._failed, self._lets_go = came, 0, lets_go

    def see(self, partition: Partition, notes: Came) -> None:
        self._came.join(notes)
        if not notes.asked:
            return
        self._failed = 0 if notes.written else self._failed + notes.asked
        if self._failed >= _OUTAGE and not self._lets_go:
            raise _OutageError


def num_without_augmentation(manifest: CorpusManifest) -> int:
    """Counts the passages without rewrites and questions, which are learnt as plain text."""
    return sum(partition.counts.get(_WITHOUT, 0) for partition in manifest.partitions)


def num_open(manifest: CorpusManifest) -> int:
    """Counts the passages for which nothing has come yet, be it nothing worth keeping."""
    return sum(
        partition.counts.get(_OPEN, 0)
        if partition.augmented
        else partition.num_passages - len(manifest.removed_in(partition))
        for partition in manifest.partitions
    )


def counts_of(record: Record) -> dict[str, int]:
    """Returns what a record adds to its partition's counts in the manifest."""
    is_live = not record.passage.is_removed
    return count_examples(record) | {
        _WITHOUT: int(is_live and record.augmentation in (None, EMPTY)),
        _OPEN: int(is_live and record.augmentation is None),
    }


def has_open(partition: Partition) -> bool:
    """Returns whether passages of an augmented partition are open."""
    return partition.counts.get(_OPEN, 0) > 0


def _is_lacking(partition: Partition) -> bool:
    return not partition.augmented or has_open(partition)


def _num_live(manifest: CorpusManifest) -> int:
    return manifest.num_passages - len(manifest.removed)


def _described(
    settings: dict[str, Any], dropped_before: Mapping[str, int], came: Came
) -> dict[str, Any]:
    dropped = {
        reason: dropped_before.get(reason, 0) + came.dropped[reason]
        for reason in sorted({*dropped_before, *came.dropped})
    }
    return settings | ({DROPPED: dropped} if dropped else {})


def _forget_kept(run_dir: str, manifest: CorpusManifest) -> None:
    """Deletes the replies of partitions whose shards have them."""
    whole = {part.index for part in manifest.partitions if not _is_lacking(part)}
    waiting = partitions_with_replies(run_dir)
    drop_replies(run_dir, waiting & whole)


def _open_passages(run_dir: str, manifest: CorpusManifest, came: Came) -> OpenPassagesError:
    kinds = came.failures.most_common(_WORDS)
    words = "; ".join(f"{count:,} x {words}" for words, count in kinds)
    more = (
        f"; and {len(came.failures) - _WORDS:,} other failures"
        if len(came.failures) > _WORDS
        else ""
    )
    number = num_open(manifest) or came.failures.total()  # of shards that stay as they are
    return OpenPassagesError(
        f"{join(run_dir, 'corpus')}: {number:,} of {_num_live(manifest):,} passages are open, for "
        f"which nothing usable came: {words}{more}. What came is kept: run the same command "
        "again, with all its settings and options, and it asks for those alone"
    )
