"""All that a teacher is to say about a run's corpus: made once, and kept in RUN/teacher.

A partition whose shard has changed since is asked again, and of it only what is new.
"""

import time
from bisect import bisect_left
from collections.abc import Collection, Iterable
from itertools import chain

from msgspec import structs

from polyprag.config import Config
from polyprag.encoding.base import describe_base
from polyprag.errors import RunError
from polyprag.method.base_model import load_tokenizer
from polyprag.run_dir import CORPUS
from polyprag.teaching.asked import ASKED_NAME, asked_files
from polyprag.teaching.manifest import (
    PART_NAME,
    TaughtPart,
    TeachingManifest,
    load_teaching,
    teacher_dir,
    teaching_settings,
)
from polyprag.teaching.task import TeachTask, release_teacher, teach_partition, without_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.shown_progress import PartCount, ShowProgress, show_nothing
from sharding.storage.cache import LocalCache
from sharding.storage.decoding import strict_json
from sharding.storage.files import (
    TEMPORARY_NAME,
    join,
    list_names,
    remove,
    remove_directory,
)
from sharding.task_pool import InlinePool, TaskPool

_SAVE_EVERY_S = 2.0


def teach_corpus(
    run_dir: str,
    config: Config,
    *,
    only: Collection[int] | None = None,
    pool: TaskPool | None = None,
    keeps_model: bool = True,
    show: ShowProgress = show_nothing,
) -> TeachingManifest:
    """Has the teacher say what it hasn't said yet; a stop loses the last seconds and no more.

    Args:
        run_dir: RUN, augmented; as workers see it.
        config: `model` is the teacher; `generation` and `train.teacher_*` say how it is asked.
        only: the partitions that are needed; all, by default.
        pool: who does the work; this process, by default.
        keeps_model: whether its processes keep the base model from one partition to the next. Those
            that live on when this returns had better not.
        show: shows how far it is.

    Returns:
        The manifest, which has every partition that is needed.

    Raises:
        RunError: a partition isn't augmented, or the manifest that is there is damaged.
        CorpusError: a shard is missing or damaged.
        ConfigError: the base model can't be loaded.
    """
    corpus = CorpusManifest.load(join(run_dir, CORPUS))
    base = describe_base(config.model, load_tokenizer(config.model))
    before = load_teaching(run_dir)
    manifest = TeachingManifest(base, teaching_settings(config, base), ())
    parts: dict[int, TaughtPart] = {}
    if before is not None and before.is_of(base, manifest.settings):
        manifest = before
        parts = {part.index: part for part in before.parts if part.index < len(corpus.partitions)}
    wanted, current = set(only or ()), manifest.current(corpus.partitions, config)
    waiting = [
        partition
        for partition in corpus.partitions
        if (only is None or partition.index in wanted) and partition.index not in current
    ]
    for partition in waiting:
        if not partition.augmented:
            raise RunError(
                f"{join(run_dir, CORPUS)}: partition {partition.index} isn't augmented, so that "
                "there is nothing to ask a teacher; run `polyprag augment RUN`"
            )
    if not waiting and manifest is before:
        return manifest
    asked = asked_files(list_names(teacher_dir(run_dir)), teacher=manifest.teacher)
    tasks = [
        TeachTask(
            run_dir,
            partition,
            before=parts.get(partition.index),
            teacher=manifest.teacher,
            asked=asked.get(partition.index, ()),
            settings=strict_json(config),
            keeps_model=keeps_model,
        )
        for partition in waiting
    ]
    sizes = [partition.num_passages for partition in waiting]
    saved_at = time.monotonic()

    def save() -> TeachingManifest:
        saved = structs.replace(manifest, parts=tuple(parts[index] for index in sorted(parts)))
        saved.save(teacher_dir(run_dir))
        return saved

    num_done = 0
    try:
        with show(sum(sizes), "teaching", unit="passages") as advance:
            count = PartCount(advance, sizes)
            with count.listening():
                for part in (pool or InlinePool()).map(teach_partition, tasks):
                    parts[part.index] = part
                    num_done += 1
                    count.finish()
                    if time.monotonic() - saved_at >= _SAVE_EVERY_S:
                        save()
                        saved_at = time.monotonic()
    finally:
        release_teacher()
        if num_done or not tasks:  # else what another teacher has said stays
            saved = save()
            whole = saved.current(corpus.partitions, config)
            left = asked_files(list_names(teacher_dir(run_dir)), teacher=saved.teacher)
            go_on = [names for index, names in left.items() if index not in whole]
            _remove_unnamed(run_dir, saved, but=chain(*go_on))
    return save()


def forget_taught(run_dir: str, ids: Collection[int], *, cache: LocalCache | None = None) -> None:
    """Takes passages out of RUN/teacher; what can't be read there is deleted.

    Args:
        run_dir: RUN, whose corpus has lost them already.
        ids: of the passages.
        cache: forgets the files that go.

    Raises:
        RunError: the manifest can't be read.
    """
    manifest = load_teaching(run_dir)
    if manifest is None:
        remove_directory(teacher_dir(run_dir))  # files of a killed writer
        return
    partitions = CorpusManifest.load(join(run_dir, CORPUS)).partitions
    ids = sorted(ids)
    kept = []
    for part in manifest.parts:
        if part.index >= len(partitions):
            continue
        partition = partitions[part.index]
        first, end = partition.first_id, partition.first_id + partition.num_passages
        gone = {i - first for i in ids[bisect_left(ids, first) : bisect_left(ids, end)]}
        left = without_passages(run_dir, part, gone) if gone else part
        if left is not None:
            kept.append(left)
        if cache is not None and gone:
            cache.drop(part.sha256)
    saved = structs.replace(manifest, parts=tuple(kept))
    if saved != manifest:
        saved.save(teacher_dir(run_dir))
    _remove_unnamed(run_dir, saved)  # what was asked and isn't whole yet may be of the passages


def _remove_unnamed(run_dir: str, manifest: TeachingManifest, *, but: Iterable[str] = ()) -> None:
    """Deletes what the manifest doesn't name, and files of killed writers; `but` others."""
    directory = teacher_dir(run_dir)
    kept = {*but, *(part.file for part in manifest.parts)}
    for name in list_names(directory):
        if is_teachers(name) and name not in kept:
            remove(join(directory, name))


def is_teachers(name: str) -> bool:
    """Tells whether a file in RUN/teacher is one that a teacher's manifest names, or may."""
    forms = (PART_NAME, ASKED_NAME, TEMPORARY_NAME)
    return any(form.fullmatch(name) for form in forms)
