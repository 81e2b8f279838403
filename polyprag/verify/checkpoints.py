"""Whether RUN/checkpoints is whole, and of the corpus that is there."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from polyprag.encoding.manifest import MANIFEST_NAME
from polyprag.verify.files import size_in, size_problem, sizes_in
from polyprag.verify.findings import RunFindings, stage_manifest
from polyprag.verify.tensors import expert_problems, rows_problems
from sharding.checks.problem import Problem, leftovers
from sharding.corpus.manifest import CorpusManifest
from sharding.shown_progress import ShowProgress
from sharding.storage.files import TEMPORARY_NAME, join

CHECKPOINTS = "checkpoints"
_FROM_START = "copy it from elsewhere, or delete the directory to train from the start"


class CheckpointFile(Protocol):
    """A file of a checkpoint."""

    @property
    def file(self) -> str:
        """Its name in the directory."""

    @property
    def sha256(self) -> str:
        """In hex."""

    @property
    def num_bytes(self) -> int:
        """Its size."""


class Checkpoint(Protocol):
    """What is needed of a checkpoint's manifest, which is `cluster`'s."""

    @property
    def step(self) -> int:
        """Global steps behind it."""

    @property
    def identity(self) -> dict[str, Any]:
        """The settings and the corpus that it belongs to."""

    @property
    def experts(self) -> CheckpointFile:
        """The experts and their moments."""

    @property
    def rows(self) -> Mapping[int, CheckpointFile]:
        """By partition."""

    def kept(self, directory: str) -> set[str]:
        """Returns every file of it and of the checkpoint before it."""


def verify_checkpoints(
    found: RunFindings,
    run_dir: str,
    corpus: CorpusManifest | None,
    load: Callable[[str], Checkpoint | None],
    *,
    quick: bool,
    show: ShowProgress,
) -> None:
    """Checks RUN/checkpoints and adds what is wrong to what was found.

    Args:
        found: of the run so far.
        run_dir: RUN.
        corpus: the manifest of RUN/corpus, if it can be read.
        load: reads the manifest in a directory of checkpoints.
        quick: whether only presence and sizes are checked.
        show: shows how far it is.
    """
    directory = join(run_dir, CHECKPOINTS)
    checkpoint = stage_manifest(found, CHECKPOINTS, directory, load)
    if checkpoint is None:
        return
    problems, sizes = found.problems, sizes_in(directory)
    url = join(directory, MANIFEST_NAME)
    hashes = checkpoint.identity.get("corpus")
    if corpus is not None:
        there = [part.sha256 for part in corpus.partitions]
        num_trained = len(hashes) if isinstance(hashes, list) else 0
        if not num_trained or hashes != there[:num_trained]:
            what = (
                "it was trained on other shards than the corpus has (if a `polyprag remove` was "
                "stopped, run that again)"
            )
            problems.append(Problem(url, f"{url}: identity.corpus: {what}; {_FROM_START}"))
            corpus = None
        elif num_trained < len(there):
            found.notes.append(
                f"{url}: is of the first {num_trained} of the corpus's {len(there)} partitions, to "
                "which it has grown since; `polyprag train-more RUN` trains all of them together"
            )
    with show(len(checkpoint.rows) + 1, CHECKPOINTS, unit="files") as advance:
        for index, entry in (*checkpoint.rows.items(), (None, checkpoint.experts)):
            file = join(directory, entry.file)
            size = size_in(sizes, entry.file, url=file)
            if wrong := size_problem(file, size, num_bytes=entry.num_bytes, remedy=_FROM_START):
                problems.append(wrong)
            elif not quick and index is None:
                problems += expert_problems(file, None, sha256=entry.sha256, remedy=_FROM_START)
            elif not quick and index is not None:
                ids = _ids(corpus, index)
                removed = corpus.removed_in(corpus.partitions[index]) if corpus and ids else []
                problems += rows_problems(
                    file, ids, sha256=entry.sha256, removed=removed, remedy=_FROM_START
                )
            advance(1)
    if corpus is not None:
        problems += [
            Problem(url, f"{url}: rows.{index}: the corpus has no such partition; {_FROM_START}")
            for index in checkpoint.rows
            if _ids(corpus, index) is None
        ]
    stray = sorted(set(sizes or ()) - checkpoint.kept(directory) - {MANIFEST_NAME})
    ours = [n for n in stray if n.endswith(".safetensors") or TEMPORARY_NAME.fullmatch(n)]
    problems += leftovers(directory, ours, what="a training that was stopped")
    found.checked[CHECKPOINTS] = f"step {checkpoint.step:,}"


def _ids(corpus: CorpusManifest | None, index: int) -> tuple[int, int, int] | None:
    """Returns a partition, its first id and its number of passages."""
    if corpus is None or not 0 <= index < len(corpus.partitions):
        return None
    partition = corpus.partitions[index]
    return index, partition.first_id, partition.num_passages
