"""Everything that can be wrong with a run directory, from its corpus to its calibration.

Nothing is changed here; a problem that can be mended without loss brings its repair along.
"""

from collections.abc import Callable

from polyprag.errors import CorpusError, FileError
from polyprag.routed.map_file import ROUTER
from polyprag.run_dir import CORPUS, ENCODING, INDEX
from polyprag.teaching.manifest import TEACHER
from polyprag.verify.abstention import verify_abstention
from polyprag.verify.base import verify_base
from polyprag.verify.checkpoints import Checkpoint, verify_checkpoints
from polyprag.verify.encoding import verify_encoding
from polyprag.verify.findings import RunFindings
from polyprag.verify.index import verify_index
from polyprag.verify.router import verify_router
from polyprag.verify.teacher import verify_teacher
from sharding.checks.verify import verify_corpus
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Record
from sharding.counted import counted
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.files import join
from sharding.task_pool import TaskPool


def verify_run(
    run_dir: str,
    *,
    load_checkpoint: Callable[[str], Checkpoint | None],
    quick: bool = False,
    pool: TaskPool | None = None,
    show: ShowProgress = show_nothing,
) -> RunFindings:
    """Checks all that is in a run directory.

    Args:
        run_dir: RUN, a path or URL.
        load_checkpoint: reads the manifest in a directory of checkpoints.
        quick: whether only manifests, presence and sizes are checked.
        pool: who reads the shards; this process, by default.
        show: shows how far it is.
    """
    found = RunFindings()
    corpus_dir = join(run_dir, CORPUS)
    corpus = verify_corpus(
        corpus_dir, quick=quick, count=None if quick else _count(corpus_dir), pool=pool, show=show
    )
    found.problems += corpus.problems
    manifest = corpus.manifest
    found.has_corpus = manifest is not None
    found.checked[CORPUS] = (
        f"{counted(manifest.num_passages, 'passage')} in "
        f"{counted(len(manifest.partitions), 'partition')}"
        if manifest
        else "no manifest that can be read"
    )
    problems, summary = verify_teacher(run_dir, quick=quick, show=show)
    found.problems += problems
    if summary is not None:  # most runs have none
        found.checked[TEACHER] = summary
    verify_checkpoints(found, run_dir, manifest, load_checkpoint, quick=quick, show=show)
    num_problems = len(found.problems)
    verify_encoding(found, run_dir, manifest, quick=quick, show=show)
    if found.checked[ENCODING] is not None and len(found.problems) == num_problems and not quick:
        verify_base(found, run_dir)
    sound = [] if corpus.problems else [CORPUS]
    if found.checked[ENCODING] is not None and len(found.problems) == num_problems:
        sound.append(ENCODING)
    problems, summary = verify_index(run_dir, corpus=manifest, sound=sound, quick=quick, show=show)
    found.problems += problems
    found.checked[INDEX] = summary
    problems, summary = verify_router(run_dir, quick=quick, show=show)
    found.problems += problems
    found.checked[ROUTER] = summary
    verify_abstention(found, run_dir)
    return found


def _count(corpus_dir: str) -> Callable[[Record], dict[str, int]] | None:
    """Returns what counts the examples of a record; None where no record has any.

    It takes seconds to import.
    """
    try:
        partitions = CorpusManifest.load(corpus_dir).partitions
        if not any(partition.augmented for partition in partitions):
            return None
    except (CorpusError, FileError):
        pass  # the counts are part of what a repair makes anew
    from polyprag.augment.corpus import counts_of

    return counts_of
