"""What a run still lacks after its corpus has grown, and the steps of `add` that mend it.

The files alone show which steps are done: partitions that aren't augmented, partitions that the
encoding has no rows of. So an `add` that was stopped goes on where it was.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from msgspec import structs

from polyprag.augment.bare import refuse_bare
from polyprag.augment.corpus import augment_corpus, has_open
from polyprag.augment.settings import describe, recorded_settings
from polyprag.augment.work.partition import Came
from polyprag.config import AugmentConfig, Config, trust
from polyprag.config.paths import with_absolute_paths
from polyprag.encoding.edit import extend_encoding
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest
from polyprag.encoding.reader import Encoding, encoding_dir
from polyprag.errors import RunError
from polyprag.growth.rows_task import RowsTask, release, task_of, train_partition
from polyprag.run_dir import CORPUS
from polyprag.teaching.counts import TaughtCounts
from polyprag.teaching.manifest import needs_teacher
from polyprag.teaching.teach import teach_corpus
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.shown_progress import PartCount, ShowProgress, show_nothing
from sharding.storage.files import exists, join
from sharding.task_pool import InlinePool, TaskPool


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a run lacks.

    Attributes:
        augmentation: passages of an augmented corpus's partitions about which something is still
            to be written; of those that the encoding has rows of, none.
        rows: partitions that the run's encoding has no rows of; none where it isn't encoded.
        num_encoded: partitions that it has rows of.
    """

    augmentation: int
    rows: tuple[Partition, ...]
    num_encoded: int = 0

    @property
    def num_rows(self) -> int:
        """Passages without a row."""
        return sum(partition.num_passages for partition in self.rows)


def what_is_lacking(run_dir: str) -> Lacking:
    """Returns what a run lacks, by its manifests.

    Raises:
        CorpusError, RunError: the corpus's or the encoding's can't be read, or they don't fit.
    """
    corpus = CorpusManifest.load(join(run_dir, CORPUS))
    directory = encoding_dir(run_dir)
    if not exists(join(directory, MANIFEST_NAME)):
        return Lacking(_num_to_augment(corpus, 0), ())
    encoding = EncodingManifest.load(directory)
    there = [(part.first_id, part.num_passages) for part in encoding.parts]
    extents = [(part.first_id, part.num_passages) for part in corpus.partitions]
    if extents[: len(there)] != there:
        raise RunError(
            f"{directory} holds rows of other passages than {join(run_dir, CORPUS)} has: nothing "
            "can be added to it; run `polyprag verify RUN`, which says where they differ"
        )
    num_encoded = len(there)
    return Lacking(
        _num_to_augment(corpus, num_encoded), corpus.partitions[num_encoded:], num_encoded
    )


def _num_to_augment(corpus: CorpusManifest, num_encoded: int) -> int:
    """Counts the passages of partitions that want augmenting, as `augment_new` does it."""
    if corpus.augmentation is None:
        return 0
    return sum(
        partition.num_passages
        for partition in corpus.partitions
        if not partition.augmented or (partition.index >= num_encoded and has_open(partition))
    )


def augment_new(
    run_dir: str,
    config: Config,
    *,
    lets_go: bool = False,
    came: Came | None = None,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> CorpusManifest:
    """Augments new partitions as the others were; nothing happens to a corpus that isn't augmented.

    Args:
        run_dir: RUN.
        config: of the run; see `augment_settings`.
        lets_go: see `augment_corpus`.
        came: gets what came.
        pool: who does the work, where the backend can do it elsewhere than here.
        show: shows how far it is.

    Raises:
        OpenPassagesError: nothing usable came for some passages.
    """
    manifest = CorpusManifest.load(join(run_dir, CORPUS))
    recorded = recorded_settings(manifest)
    lacking = what_is_lacking(run_dir)
    if recorded is None or not lacking.augmentation:
        return manifest
    as_before = augment_settings(config, recorded)
    alone = as_before.augment.backend not in ("rules", "hf")
    with show(manifest.num_passages, "augmenting", unit="passages") as advance:
        return augment_corpus(
            run_dir,
            as_before,
            # Open passages that are trained already were let go.
            only=lambda part: not part.augmented or part.index >= lacking.num_encoded,
            lets_go=lets_go,
            came=came,
            progress=advance,
            pool=InlinePool() if alone else pool,
        )


def augment_settings(config: Config, recorded: dict[str, Any]) -> Config:
    """Returns a config that augments as a corpus was augmented, by its manifest.

    Args:
        config: of the run, which has what isn't recorded (keys of an endpoint, batch sizes).
        recorded: see `polyprag.augment.settings.recorded_settings`.
    """
    if describe(config) == recorded:
        return config
    known = {name: value for name, value in recorded.items() if name != "endpoint"}
    if "endpoint" in recorded:
        known["base_url"] = recorded["endpoint"]
        if describe(config).get("endpoint") == recorded["endpoint"]:
            known["base_url"] = config.augment.base_url  # with its password, which isn't recorded
    values = {**asdict(config.augment), **known}
    try:
        as_before = replace(config, augment=AugmentConfig(**values))
    except TypeError as error:
        raise RunError(
            f"the corpus was augmented in a way that this polyprag doesn't know ({recorded}); "
            "augment it with the polyprag that did it before"
        ) from error
    asked = trust.endpoint_of(as_before, trust.AUGMENT_ENDPOINT)
    if as_before.augment.backend == "openai" and asked is not None:
        places = dict.fromkeys(asked.values, "augmentation in the corpus's manifest")
        trust.check(asked, given=(), places=places, trust_run=False)
    return as_before


def check_new_bare(
    run_dir: str, lacking: Lacking, *, allow: bool, say: Callable[[str], object]
) -> None:
    """Refuses to train rows of new passages about which too little is written.

    Args:
        run_dir: RUN.
        lacking: what it lacks.
        allow: whether the user wants to go on whatever is missing.
        say: shows a note.

    Raises:
        RunError: see `refuse_bare`.
    """
    manifest = CorpusManifest.load(join(run_dir, CORPUS))
    new = structs.replace(manifest, partitions=lacking.rows)
    refuse_bare(run_dir, new, allow=allow, say=say, go_on=f"polyprag add {run_dir}")


def row_settings(run_dir: str, config: Config) -> Config:
    """Returns the config to train rows with: the encoding's, and of the run's what may change."""
    trained_with = Encoding.load(run_dir).config
    return replace(
        trained_with,
        model=with_absolute_paths(config).model,
        add=config.add,
        index=config.index,
        retrieval=config.retrieval,
        data=replace(
            trained_with.data, cache_dir=config.data.cache_dir, cache_gb=config.data.cache_gb
        ),
        train=replace(trained_with.train, max_tokens=config.train.max_tokens),
    )


def row_tasks(run_dir: str, config: Config) -> list[RowsTask]:
    """Returns a task for each partition without rows.

    Args:
        run_dir: RUN.
        config: of the run.

    Raises:
        RunError: a partition isn't augmented, or the encoding is of another corpus.
    """
    lacking = what_is_lacking(run_dir)
    bare = [partition.index for partition in lacking.rows if not partition.augmented]
    if bare:
        raise RunError(
            f"{join(run_dir, CORPUS)}: partition {bare[0]} isn't augmented, so that there is "
            "nothing to train its rows with; run `polyprag augment RUN`"
        )
    if not lacking.rows:
        return []
    settings = row_settings(run_dir, config)
    encoding = EncodingManifest.load(encoding_dir(run_dir))
    return [task_of(run_dir, partition, settings, encoding) for partition in lacking.rows]


def train_new_rows(
    run_dir: str,
    config: Config,
    *,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Trains the rows of all partitions without rows, which then join the encoding together.

    Args:
        run_dir: RUN, encoded; as workers see it.
        config: of the run: `add` says how, `model` where the base model is.
        pool: who does the work; this process, by default.
        show: shows how far it is.
        say: is told what had better be set otherwise.

    Returns:
        How many passages have a row now that had none.

    Raises:
        RunError, CorpusError, FileError, ConfigError: see `row_tasks` and `train_partition`.
    """
    tasks = row_tasks(run_dir, config)
    if not tasks:
        return 0
    settings = row_settings(run_dir, config)
    if needs_teacher(settings, CorpusManifest.load(join(run_dir, CORPUS))):
        lacking = [task.partition.index for task in tasks]
        teaching = teach_corpus(run_dir, settings, only=lacking, pool=pool, show=show)
        advice = TaughtCounts.of(teaching).advice(settings)
        if advice is not None:
            say(advice)
    total = sum(task.partition.num_passages for task in tasks)
    parts = []
    try:
        with show(total, "training rows", unit="passages") as advance:
            count = PartCount(advance, [task.partition.num_passages for task in tasks])
            with count.listening():
                for done in (pool or InlinePool()).map(train_partition, tasks):
                    parts.append(done.part)
                    count.finish("" if done.loss is None else f"loss {done.loss:.3f}")
    finally:
        release()
    extend_encoding(run_dir, parts)
    return total
