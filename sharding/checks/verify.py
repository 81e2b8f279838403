"""Everything that can be wrong with a corpus directory, found in one pass.

`prepare`, `encode` and `index` stop at the first thing that is wrong. This goes on, so that one
look at a corpus that was copied or kept for long tells all there is to mend.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from msgspec import structs

from sharding.checks.damaged_manifest import (
    all_problems,
    is_of_other_version,
    named_shards,
    sound_facts,
)
from sharding.checks.problem import Problem, leftovers
from sharding.checks.rebuild import (
    INDEX_AGAIN,
    FoundShard,
    ShardFile,
    look_at,
    lost_facts,
    rebuild_manifest,
    whole_corpus,
)
from sharding.checks.shard import ShardTask, inspect_shard
from sharding.corpus.manifest import (
    MANIFEST_NAME,
    SHARD_NAME,
    CorpusManifest,
)
from sharding.corpus.partitions import unnamed_shards
from sharding.corpus.passages import Record
from sharding.corpus.shard_index import index_name
from sharding.errors import CorpusError, FileError, PolypragError
from sharding.ingest.prepare import WORK_DIR
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import TEMPORARY_NAME, exists, join, list_sizes, size_of
from sharding.task_pool import InlinePool, TaskPool

_KILLED = "a writer that was killed"
_NAMED = 5  # partitions with wrong counts


@dataclass(frozen=True, slots=True)
class CorpusFindings:
    """What came of it; without a manifest that can be read nothing else can be held against it."""

    manifest: CorpusManifest | None
    problems: list[Problem]


def verify_corpus(
    corpus_dir: str,
    *,
    quick: bool = False,
    count: Callable[[Record], dict[str, int]] | None = None,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> CorpusFindings:
    """Checks the manifest, every shard to its last member, every index, and looks for leftovers.

    Changes nothing.

    Args:
        corpus_dir: a path or URL.
        quick: whether only the manifest and the files' presence and sizes are checked.
        count: how many training examples of each kind a record gives; the manifest's counts are
            checked where it is given. A function of a module.
        pool: who reads the shards; this process, by default.
        show: shows how far it is.
    """
    pool = pool or InlinePool()
    try:
        manifest = CorpusManifest.load(corpus_dir)
    except (CorpusError, FileError) as error:
        look = _Lost(corpus_dir, quick=quick, count=count, pool=pool, show=show)
        return CorpusFindings(None, look.problems(error))
    sizes, can_list = _sizes(corpus_dir, manifest)
    tasks = [
        ShardTask(
            corpus_dir,
            partition,
            sizes.get(partition.file),
            sizes.get(index_name(partition.file)),
            count,
            quick,
            manifest.removed_in(partition),
        )
        for partition in manifest.partitions
    ]
    problems: list[Problem] = []
    counts: dict[int, dict[str, int]] = {}
    removed: dict[int, list[int]] = {}
    total = sum(partition.num_bytes for partition in manifest.partitions)
    with show(total, "corpus", unit="bytes") as advance:
        for findings in pool.map(inspect_shard, tasks):
            problems += findings.problems
            if findings.counts is not None:
                counts[findings.partition.index] = findings.counts
            if findings.removed is not None:
                removed[findings.partition.index] = findings.removed
            advance(findings.partition.num_bytes)
    problems += _wrong_counts(corpus_dir, counts)
    problems += _wrong_removed(corpus_dir, removed)
    if can_list:
        problems += _leftovers(corpus_dir, manifest, sizes)
    return CorpusFindings(manifest, problems)


def _sizes(corpus_dir: str, manifest: CorpusManifest) -> tuple[dict[str, int], bool]:
    """Returns the bytes of the directory's files.

    Of those that are named, where it can't be listed.
    """
    try:
        return list_sizes(corpus_dir), True
    except FileError:  # http
        sizes = {}
        for partition in manifest.partitions:
            for name in (partition.file, index_name(partition.file)):
                if exists(join(corpus_dir, name)):
                    sizes[name] = size_of(join(corpus_dir, name))
        return sizes, False


def _leftovers(corpus_dir: str, manifest: CorpusManifest, names: Iterable[str]) -> list[Problem]:
    temporary = [name for name in names if TEMPORARY_NAME.fullmatch(name)]
    unnamed = unnamed_shards(names, manifest)
    work = [WORK_DIR] if WORK_DIR in set(names) else []
    stopped = "a `polyprag prepare` or `add` that was stopped, and that would go on with it"
    return [
        *leftovers(corpus_dir, temporary, what=_KILLED),
        *leftovers(corpus_dir, unnamed, what="a command that was stopped (no manifest names it)"),
        *leftovers(corpus_dir, work, what=stopped, is_directory=True),
    ]


def _wrong_counts(corpus_dir: str, counts: dict[int, dict[str, int]]) -> list[Problem]:
    if not counts:
        return []
    url = join(corpus_dir, MANIFEST_NAME)
    some = ", ".join(f"partitions[{index}].counts" for index in list(counts)[:_NAMED])
    more = f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else ""
    message = (
        f"{url}: {some}{more} differ from what the shards' records give; --repair counts again"
    )
    return [Problem(url, message, partial(_recount, corpus_dir, counts))]


def _recount(corpus_dir: str, counts: dict[int, dict[str, int]]) -> str:
    manifest = CorpusManifest.load(corpus_dir)
    partitions = tuple(
        structs.replace(partition, counts=counts.get(partition.index, partition.counts))
        for partition in manifest.partitions
    )
    structs.replace(manifest, partitions=partitions).save(corpus_dir)
    url = join(corpus_dir, MANIFEST_NAME)
    return f"{url}: counts of {len(counts)} partitions made anew; {INDEX_AGAIN}"


def _wrong_removed(corpus_dir: str, removed: dict[int, list[int]]) -> list[Problem]:
    if not removed:
        return []
    url = join(corpus_dir, MANIFEST_NAME)
    message = (
        f"{url}: removed: differs from what {len(removed)} of the shards hold, the first of them "
        f"partition {min(removed)}; --repair writes it anew from them"
    )
    return [Problem(url, message, partial(_renew_removed, corpus_dir, removed))]


def _renew_removed(corpus_dir: str, removed: dict[int, list[int]]) -> str:
    manifest = CorpusManifest.load(corpus_dir)
    ids = [
        passage_id
        for partition in manifest.partitions
        for passage_id in removed.get(partition.index, manifest.removed_in(partition))
    ]
    structs.replace(manifest, removed=ids).save(corpus_dir)
    return f"{join(corpus_dir, MANIFEST_NAME)}: removed made anew; {INDEX_AGAIN}"


@dataclass(frozen=True, slots=True)
class _Lost:
    """A corpus whose manifest can't be read."""

    corpus_dir: str
    quick: bool
    count: Callable[[Record], dict[str, int]] | None
    pool: TaskPool
    show: ShowProgress

    def problems(self, error: PolypragError) -> list[Problem]:
        url = join(self.corpus_dir, MANIFEST_NAME)
        messages = all_problems(self.corpus_dir) or [str(error)]
        try:
            names = list_sizes(self.corpus_dir)
        except FileError:
            names = {}
        temporary = [name for name in names if TEMPORARY_NAME.fullmatch(name)]
        others = leftovers(self.corpus_dir, temporary, what=_KILLED)
        if WORK_DIR in names:
            messages[0] += (
                f"; {join(self.corpus_dir, WORK_DIR)} is of a `polyprag prepare` or `add` that is "
                "at work or was stopped: the same command goes on with it"
            )
        shards = {name: size for name, size in names.items() if SHARD_NAME.fullmatch(name)}
        # With work/ there may be more to come than the shards that are here.
        if not shards or self.quick or WORK_DIR in names or is_of_other_version(self.corpus_dir):
            return [*(Problem(url, message) for message in messages), *others]
        found = []
        tasks = [ShardFile(self.corpus_dir, name, self.count) for name in shards]
        with self.show(sum(shards.values()), "shards", unit="bytes") as advance:
            for size, each in zip(shards.values(), self.pool.map(look_at, tasks), strict=True):
                found.append(each)
                advance(size)
        facts, expected = sound_facts(self.corpus_dir), named_shards(self.corpus_dir)
        partitions, broken = whole_corpus(self.corpus_dir, found, expected=expected)
        if broken:
            messages.append(
                f"{url}: can't be made anew from the shards until what is said of them is mended"
            )
            return [*(Problem(url, message) for message in (*messages, *broken)), *others]
        total = sum(partition.num_passages for partition in partitions)
        lost = lost_facts(facts)
        messages[0] += (
            f"; or let --repair make it anew from the {len(partitions)} shards that are here, "
            f"which hold the passages 0 to {total - 1}"
            + (f" (lost is {lost})" if lost else "")
            + ("" if expected else "; whether there were more shards can't be told from them")
        )
        shards_found = (each for each in found if isinstance(each, FoundShard))
        removed = sorted(passage_id for each in shards_found for passage_id in each.removed)
        facts["removed"] = removed
        repair = partial(rebuild_manifest, self.corpus_dir, partitions, facts)
        return [*(Problem(url, message, repair) for message in messages), *others]
