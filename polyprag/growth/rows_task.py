"""One partition of new passages whose routing rows are to be trained, as a task for any worker.

A task needs nothing from others and leaves one file of rows, whose name is a hash of all that
decides what is in it. So a file that is there is done, even if its command was stopped.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np

from polyprag.config import Config, trust
from polyprag.config.keys import flatten
from polyprag.encoding.base import describe_base
from polyprag.encoding.edit import ROWS
from polyprag.encoding.manifest import EncodingManifest, RowsPart
from polyprag.encoding.reader import Encoding, encoding_dir
from polyprag.growth.row_start import start_rows
from polyprag.growth.train_rows import RowTrainer
from polyprag.method.base_model import load_base, vocab_size_of
from polyprag.method.experts import inject
from polyprag.method.support.check import check_experts
from polyprag.retrieval.search import Index
from polyprag.run_dir import CORPUS
from polyprag.teaching.reader import open_taught
from polyprag.teaching.task import release_teacher
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.partitions import read_shard
from sharding.corpus.reader import records_in
from sharding.errors import FileError
from sharding.rows.file import load_rows, save_rows
from sharding.rows.part import RowPartition
from sharding.shown_progress import tell_part
from sharding.storage.decoding import strict_json
from sharding.storage.files import exists, join, sha256_of

_DECIDING = (  # settings that rows depend on
    "add.",
    "data.formats",
    "data.max_length",
    "experts.",
    "generation.date",
    "generation.instruction",
    "generation.prompt",
    "generation.thinking",
    "model.dtype",
    "retrieval.method",
    "router.",
    "train.",
)


@dataclass(frozen=True, slots=True)
class RowsTask:
    """Rows to train.

    Attributes:
        run_dir: RUN, as the worker sees it.
        partition: whose passages.
        num_before: passages that had rows before any of these.
        shape: (S, K) of a row.
        file: that the rows go to, inside the encoding's directory.
        settings: the config, as JSON.
    """

    run_dir: str
    partition: Partition
    num_before: int
    shape: tuple[int, int]
    file: str
    settings: bytes


@dataclass(frozen=True, slots=True)
class RowsDone:
    """What a task leaves: the part for the manifest, and the loss; None if it was done before."""

    part: RowsPart
    loss: float | None


def task_of(
    run_dir: str, partition: Partition, config: Config, encoding: EncodingManifest
) -> RowsTask:
    """Returns the task for a partition that an encoding has no rows of.

    Args:
        run_dir: RUN.
        partition: of the corpus.
        config: see `extend.row_settings`.
        encoding: the manifest of what is there.
    """
    deciding = {key: value for key, value in flatten(config).items() if key.startswith(_DECIDING)}
    told = json.dumps([partition.sha256, encoding.experts.sha256, deciding], sort_keys=True)
    name = f"part-{partition.index:05d}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    return RowsTask(
        run_dir,
        partition,
        encoding.num_passages,
        (encoding.num_sites, encoding.num_experts),
        f"{ROWS}/{name}.safetensors",
        strict_json(config),
    )


def train_partition(task: RowsTask) -> RowsDone:
    """Trains a partition's rows and saves them; what is saved already is kept.

    A process loads the base model and the experts for its first task.

    Raises:
        CorpusError: the shard is missing or damaged.
        RunError: the encoding is damaged, or add.init=neighbours has no index.
        ConfigError: the base model can't be loaded.
    """
    part = task.partition
    url = join(encoding_dir(task.run_dir), task.file)

    def entry(sha256: str) -> RowsPart:
        return RowsPart(
            part.index, part.first_id, part.num_passages, task.file, sha256, joint=False
        )

    if (kept := _kept(url, task)) is not None:
        return RowsDone(entry(kept), None)
    shard = join(task.run_dir, CORPUS, part.file)
    records = records_in(read_shard(shard, part), part, url=shard)
    config = msgspec.json.decode(task.settings, type=Config)
    loss = None
    if all(record.passage.is_removed for record in records):
        rows = np.zeros((part.num_passages, *task.shape), np.float32)
        steps = np.zeros(part.num_passages, np.int32)
        trained = RowPartition(part.index, part.first_id, rows, rows, rows, steps)
    else:
        start = start_rows(
            part,
            [record.passage for record in records],
            config,
            shape=task.shape,
            index=_index(task.run_dir, task.settings) if config.add.init == "neighbours" else None,
            below=task.num_before,
        )
        trainer = _trainer(task.run_dir, task.settings)
        result = trainer.train(
            records,
            start,
            partition=part.index,
            seed=config.train.seed,
            progress=lambda step, steps: tell_part(step / steps),
        )
        trained, loss = result.part, result.loss
    # Another node that was given the task meanwhile may have been faster, and the manifest may
    # promise its rows; on another kind of processor they differ by rounding.
    if (kept := _kept(url, task)) is not None:
        return RowsDone(entry(kept), loss)
    sha256, _ = save_rows(url, trained, moments=False)
    return RowsDone(entry(sha256), loss)


def release() -> None:
    """Lets go of the model that this process has loaded for its tasks."""
    _trainer.cache_clear()
    _index.cache_clear()


def _kept(url: str, task: RowsTask) -> str | None:
    """Returns the SHA-256 of a file that an earlier command left; None where it isn't sound."""
    if not exists(url):
        return None
    try:
        sha256 = sha256_of(url)
        rows = load_rows(url, sha256=sha256)
    except FileError:
        return None  # it is written anew
    found = (rows.index, rows.first_id, *rows.rows.shape)
    expected = (
        task.partition.index,
        task.partition.first_id,
        task.partition.num_passages,
        *task.shape,
    )
    return sha256 if found == expected else None


@lru_cache(maxsize=1)
def _trainer(run_dir: str, settings: bytes) -> RowTrainer:
    config = msgspec.json.decode(settings, type=Config)
    encoding = Encoding.load(run_dir)
    release_teacher()  # this process may have been it
    model, tokenizer = load_base(config.model)
    base = describe_base(config.model, tokenizer)
    encoding.check_base_model(base)
    pool = inject(model, config.experts, config.router, seed=config.train.seed)
    check_experts(model, pool)
    pool.load_state_dict(encoding.expert_state())
    taught = open_taught(
        run_dir,
        config,
        CorpusManifest.load(join(run_dir, CORPUS)),
        base=base,
        vocab_size=vocab_size_of(model),
        first=encoding.manifest.num_passages,
    )
    return RowTrainer(model, pool, tokenizer, config, taught=taught)


@lru_cache(maxsize=1)
def _index(run_dir: str, settings: bytes) -> Index:
    config = msgspec.json.decode(settings, type=Config)
    asked = trust.endpoint_of(config, trust.INDEX_ENDPOINT)
    trust.allow([] if asked is None else [asked])  # the command that gave the task has checked it
    return Index.open(
        run_dir,
        gpu=config.index.gpu,
        cache_dir=config.data.cache_dir,
        cache_gb=config.data.cache_gb,
        retrieval=config.retrieval,
    )
