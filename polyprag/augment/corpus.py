"""A run's corpus augmented partition by partition; what is done isn't done again."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from polyprag.augment.prompt import EMPTY
from polyprag.augment.written import Writer
from polyprag.config import AugmentConfig, Config, trust
from polyprag.config.paths import absolute_if_there
from polyprag.errors import ConfigError
from polyprag.method.examples import count_examples
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Record
from sharding.corpus.rewrite import rewrite_partitions
from sharding.storage.files import join
from sharding.task_pool import TaskPool

# Beside the kinds of example, a partition's counts have the passages that got no augmentation: no
# pattern of `rules` matched, or every attempt of a model failed.
_WITHOUT = "without_augmentation"


def augment_corpus(
    run_dir: str | Path,
    config: Config,
    *,
    progress: Callable[[int], None] | None = None,
    pool: TaskPool | None = None,
) -> CorpusManifest:
    """Writes rewrites and question-answer pairs into `run_dir`'s corpus.

    Finished partitions are kept, so the same call continues what was interrupted.

    Args:
        run_dir: RUN, prepared.
        config: `augment` says who writes and how many.
        progress: called with the number of passages done since its last call; those that were done
            before count too.
        pool: who does the work, this process by default; for `rules`, which needs no model.

    Returns:
        The manifest, every partition augmented; see `num_without_augmentation`.

    Raises:
        ConfigError: the corpus was augmented with other settings, or the backend can't be used.
        CorpusError: there is no corpus, or a shard is damaged.
    """
    corpus_dir = join(run_dir, "corpus")
    manifest = CorpusManifest.load(corpus_dir)
    settings = describe(config)
    _refuse_other_settings(corpus_dir, manifest.augmentation, settings)
    if all(partition.augmented for partition in manifest.partitions):
        if progress is not None:
            progress(manifest.num_passages)
        return manifest
    return rewrite_partitions(
        corpus_dir,
        partial(_augmented, write=_writer(config)),
        needs=lambda partition: not partition.augmented,
        describe=settings,
        count=counts_of,
        progress=progress,
        pool=pool,
    )


def num_without_augmentation(manifest: CorpusManifest) -> int:
    """Counts the passages without rewrites and questions, which are learnt as plain text."""
    return sum(partition.counts.get(_WITHOUT, 0) for partition in manifest.partitions)


def describe(config: Config) -> dict[str, Any]:
    """Returns the settings that decide what is written; recorded in the manifest."""
    augment = config.augment
    settings: dict[str, Any] = {
        "backend": augment.backend,
        "num_rewrites": augment.wanted_rewrites,
        "num_qas": augment.wanted_qas,
    }
    if augment.backend == "rules":
        return settings
    settings |= {"max_new_tokens": augment.max_new_tokens, "temperature": augment.temperature}
    if augment.backend == "hf":
        return settings | {"model": absolute_if_there(augment.model or config.model.path)}
    return settings | {"model": augment.model, "endpoint": _without_secrets(augment.base_url)}


def _refuse_other_settings(
    corpus_dir: str, recorded: dict[str, Any] | None, settings: dict[str, Any]
) -> None:
    if recorded is not None and recorded.get("backend") == "hf":
        recorded = recorded | {"model": absolute_if_there(str(recorded.get("model")))}
    if recorded is None or recorded == settings:
        return
    different = sorted(
        name
        for name in recorded.keys() | settings.keys()
        if recorded.get(name) != settings.get(name)
    )
    changes = ", ".join(
        f"{name} {recorded.get(name)!r} there and {settings.get(name)!r} now" for name in different
    )
    raise ConfigError(
        f"{corpus_dir} is augmented with other settings (augment: {changes}): use the same "
        "settings, or prepare another RUN"
    )


def _writer(config: Config) -> Writer:
    """Returns the backend; its packages are imported only when it is the chosen one."""
    if config.augment.backend == "hf":
        from polyprag.augment.hf import load_writer

        return load_writer(config)
    if config.augment.backend == "openai":
        from polyprag.augment.openai import OpenAIWriter

        asked = trust.endpoint_of(config, trust.AUGMENT_ENDPOINT)
        trust.remember([] if asked is None else [asked])  # so that `add` asks it, too
        return OpenAIWriter(config.augment)
    return _rules_writer(config.augment)


def _rules_writer(augment: AugmentConfig) -> Writer:
    from polyprag.augment import rules
    from polyprag.augment.writing.avoided import avoided_in

    return partial(
        rules.write_all,
        num_rewrites=augment.wanted_rewrites,
        num_qas=augment.wanted_qas,
        avoided=avoided_in(augment.avoid),
    )


def _augmented(records: list[Record], *, write: Writer) -> list[Record]:
    """Augments the records of a partition; nothing is written about a removed passage."""
    passages = [record.passage for record in records if not record.passage.is_removed]
    by_id = {passages[at].id: written.augmentation for at, written in write(passages)}
    return [replace(record, augmentation=by_id.get(record.passage.id)) for record in records]


def counts_of(record: Record) -> dict[str, int]:
    """Returns what a record adds to its partition's counts in the manifest."""
    is_without = not record.passage.is_removed and record.augmentation in (None, EMPTY)
    return count_examples(record) | {_WITHOUT: int(is_without)}


def _without_secrets(base_url: str | None) -> str | None:
    """Returns an endpoint's URL without a user, a password or a query."""
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
