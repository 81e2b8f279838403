"""Facts about a run's checkpoint and encoding: `polyprag inspect`.

A checkpoint's manifest has most of them. Norms and the experts' usage need the rows themselves,
which are read from partitions spread evenly over the table.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cluster.checkpoints.files import load_row_partition
from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.encoding.manifest import MANIFEST_NAME
from polyprag.encoding.reader import Encoding, encoding_dir
from polyprag.errors import RunError
from polyprag.method.router import gates
from sharding.corpus.manifest import CorpusManifest
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import exists, join

_MAX_LISTED = 1000


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint in numbers.

    Attributes:
        step: global steps behind it.
        is_finished: whether its last phase is done.
        world_size: of the workers that wrote it.
        phases: (first step, last step, epochs, partitions) of each.
        partitions: with trained rows, and of the corpus.
        dirty: partitions that this checkpoint wrote; the others lie as an earlier one wrote them.
        expert_bytes: experts and moments.
        row_bytes: all rows, moments and step counts.
        rows: trained or not, in those partitions.
        updates: mean number of updates that a row has had.
        untrained: rows that were never trained, of those partitions, removed ones apart.
        untrained_ids: of the first of these.
        rows_without_file: rows of partitions that were never trained.
    """

    step: int
    is_finished: bool
    world_size: int
    phases: list[tuple[int, int, int, int]]
    partitions: tuple[int, int]
    dirty: int
    expert_bytes: int
    row_bytes: int
    rows: int
    updates: float
    untrained: int
    untrained_ids: list[int]
    rows_without_file: int


@dataclass(frozen=True, slots=True)
class EncodingFacts:
    """An encoding in numbers.

    Attributes:
        steps: that it was trained for.
        passages: with a row, removed ones among them.
        removed: how many of these.
        added: rows that were trained with the experts frozen.
        sites: S of a row.
        experts: K of a row.
        sampled: rows that were read for what follows.
        norms: 5th, 50th and 95th percentile of the rows' Frobenius norms.
        usage_entropy: of the experts' shares of all gates' sizes, at the least even, the mean and
            the most even site; 1 is even.
        row_entropy: the same within one row, mean over rows and sites.
        bytes_per_passage: by format; `PRAG` is one LoRA of the experts' rank on the same Linears.
    """

    steps: int
    passages: int
    removed: int
    added: int
    sites: int
    experts: int
    sampled: int
    norms: tuple[float, float, float]
    usage_entropy: tuple[float, float, float]
    row_entropy: float
    bytes_per_passage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Both, as far as they are there."""

    checkpoint: CheckpointFacts | None
    encoding: EncodingFacts | None


def inspect_run(
    run_dir: str, *, max_partitions: int, show: ShowProgress = show_nothing
) -> Inspection:
    """Looks at a run's checkpoint and encoding.

    Args:
        run_dir: RUN, a path or URL.
        max_partitions: whose rows are read at most; 0 for all.
        show: shows how far it is.

    Raises:
        RunError: neither is there, or one is damaged.
    """
    corpus = CorpusManifest.load(join(run_dir, "corpus"))
    checkpoint = CheckpointManifest.load(join(run_dir, "checkpoints"))
    has_encoding = exists(join(encoding_dir(run_dir), MANIFEST_NAME))
    if checkpoint is None and not has_encoding:
        raise RunError(f"{run_dir} has neither checkpoint nor encoding: run `polyprag encode`")
    return Inspection(
        None if checkpoint is None else _checkpoint_facts(run_dir, corpus, checkpoint),
        _encoding_facts(run_dir, corpus, max_partitions, show) if has_encoding else None,
    )


def _checkpoint_facts(
    run_dir: str, corpus: CorpusManifest, checkpoint: CheckpointManifest
) -> CheckpointFacts:
    files = checkpoint.rows
    removed = np.array(corpus.removed, np.int64)
    untrained_ids: list[int] = []
    untrained = 0
    for index, entry in files.items():
        first = corpus.partitions[index].first_id
        start, stop = np.searchsorted(removed, (first, first + entry.num_rows))
        gone = int(stop - start)  # whose steps are 0, as all of their state
        untrained += entry.untrained - gone
        if entry.untrained > gone and len(untrained_ids) < _MAX_LISTED:
            part = load_row_partition(join(run_dir, "checkpoints"), entry)
            found = first + np.flatnonzero(part.steps == 0)
            untrained_ids += np.setdiff1d(found, removed).tolist()
    rows = sum(entry.num_rows for entry in files.values())
    return CheckpointFacts(
        step=checkpoint.step,
        is_finished=checkpoint.is_finished,
        world_size=checkpoint.world_size,
        phases=[(p.first_step, p.last_step, p.epochs, p.num_partitions) for p in checkpoint.phases],
        partitions=(len(files), len(corpus.partitions)),
        dirty=sum(entry.step > checkpoint.previous_step for entry in files.values()),
        expert_bytes=checkpoint.experts.num_bytes,
        row_bytes=sum(entry.num_bytes for entry in files.values()),
        rows=rows,
        updates=sum(entry.updates for entry in files.values()) / max(rows, 1),
        untrained=untrained,
        untrained_ids=untrained_ids[:_MAX_LISTED],
        rows_without_file=sum(
            part.num_passages for part in corpus.partitions if part.index not in files
        ),
    )


def _encoding_facts(
    run_dir: str, corpus: CorpusManifest, max_partitions: int, show: ShowProgress
) -> EncodingFacts:
    encoding = Encoding.load(run_dir)
    manifest = encoding.manifest
    parts = manifest.parts
    count = min(len(parts), max_partitions or len(parts))
    chosen = np.unique(np.linspace(0, len(parts) - 1, count).round().astype(np.int64)).tolist()
    removed = np.array(corpus.removed, np.int64)
    norms: list[np.ndarray[Any, Any]] = []
    usage_SK = torch.zeros((manifest.num_sites, manifest.num_experts), dtype=torch.float64)
    row_entropy, sampled = 0.0, 0
    with show(len(chosen), "reading rows", unit="partitions") as advance:
        for position in chosen:
            part = parts[position]
            encoding.check_part(position)
            ids = np.arange(part.first_id, part.first_id + part.num_passages)
            ids = np.setdiff1d(ids, removed)
            rows_NSK = encoding.rows(ids)
            norms.append(np.linalg.norm(rows_NSK.reshape(len(ids), -1), axis=1))
            shares_NSK = gates(torch.from_numpy(rows_NSK), encoding.config.router).abs()
            shares_NSK = shares_NSK / shares_NSK.sum(-1, keepdim=True).clamp(min=1e-30)
            usage_SK += shares_NSK.sum(0, dtype=torch.float64)
            row_entropy += float(_entropy(shares_NSK).mean(-1).sum())
            sampled += len(ids)
            advance(1)
    of_sites = _entropy(usage_SK / usage_SK.sum(-1, keepdim=True).clamp(min=1e-30))
    all_norms = np.concatenate(norms) if sampled else np.zeros(1)
    low, middle, high = np.percentile(all_norms, (5, 50, 95)).tolist()
    return EncodingFacts(
        steps=manifest.trained.steps,
        passages=manifest.num_passages,
        removed=int(np.count_nonzero(removed < manifest.num_passages)),
        added=sum(part.num_passages for part in parts if not part.joint),
        sites=manifest.num_sites,
        experts=manifest.num_experts,
        sampled=sampled,
        norms=(low, middle, high),
        usage_entropy=(float(of_sites.min()), float(of_sites.mean()), float(of_sites.max())),
        row_entropy=row_entropy / max(sampled, 1),
        bytes_per_passage=_bytes_per_passage(encoding),
    )


def _entropy(shares: torch.Tensor) -> torch.Tensor:
    """Shannon's entropy over the last axis, as a share of the highest that there can be."""
    if shares.shape[-1] == 1:
        return torch.ones(shares.shape[:-1])
    entropy: torch.Tensor = torch.special.entr(shares).sum(-1)
    return entropy / float(np.log(shares.shape[-1]))


def _bytes_per_passage(encoding: Encoding) -> dict[str, int]:
    """Returns what a passage takes in each format, next to one LoRA of its own.

    An expert is such a LoRA: PRAG's takes as many numbers as one expert has, in float32.
    """
    numbers = encoding.manifest.num_sites * encoding.manifest.num_experts
    pool = sum(tensor.numel() for tensor in encoding.expert_state().values())
    return {
        "training (fp32 rows and moments)": 12 * numbers + 4,
        "encoding (fp32)": 4 * numbers,
        "serving (fp16)": 2 * numbers,
        "serving (int8)": numbers + 4,
        "PRAG (one fp32 LoRA)": 4 * pool // encoding.manifest.num_experts,
    }
