"""Whether RUN/index is whole, and of the corpus and encoding that are there."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from polyprag.errors import FileError, PolypragError, RunError
from polyprag.retrieval.freshness import Freshness, corpus_and_encoding
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.parts.part import DIRECTORY_NAME, SUMMARY, IndexPart
from polyprag.retrieval.parts.passages import PassageStore
from polyprag.retrieval.parts.serving_rows import ServingRows
from polyprag.retrieval.parts.span import Span
from polyprag.retrieval.remedy import REMEDY
from polyprag.run_dir import INDEX
from polyprag.verify.files import checksum_problem, size_in, size_problem, sizes_in
from sharding.checks.problem import Problem, leftovers
from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.counted import counted
from sharding.shown_progress import Advance, ShowProgress
from sharding.storage.files import TEMPORARY_NAME, exists, join
from sharding.storage.urls import local_path


def verify_index(
    run_dir: str,
    *,
    corpus: CorpusManifest | None,
    sound: Collection[str],
    quick: bool,
    show: ShowProgress,
) -> tuple[list[Problem], str | None]:
    """Checks RUN/index.

    Args:
        run_dir: RUN.
        corpus: the manifest of RUN/corpus, if it can be read.
        sound: of `corpus` and `encoding` those that were found sound; the index is held against
            what they hold.
        quick: whether only presence and sizes are checked.
        show: shows how far it is.

    Returns:
        The problems, and what was checked; None where there is no index.
    """
    directory = join(run_dir, INDEX)
    url = join(directory, MANIFEST_NAME)
    names = sizes_in(directory)
    if not exists(url):
        if not any(DIRECTORY_NAME.fullmatch(name) for name in names or ()):
            return [], None
        return [
            Problem(url, f"{url}: no such file: its build was stopped; {REMEDY}")
        ], "no manifest"
    try:
        manifest = IndexManifest.load(directory)
    except PolypragError as error:
        return [Problem(url, str(error))], "no manifest that can be read"
    problems = [Problem(url, f"{url}: {what}; {REMEDY}") for what in _stale(run_dir, manifest)]
    if corpus is not None and manifest.num_passages > corpus.num_passages:
        what = f"num_passages is {manifest.num_passages} where the corpus has {corpus.num_passages}"
        problems.append(Problem(url, f"{url}: {what}; {REMEDY}"))
    parts = manifest.parts
    total = sum(file.num_bytes for part in parts for file in part.files.values())
    with show(total, INDEX, unit="bytes") as advance:
        for segment in manifest.segments:
            for name, divided in segment.parts.items():
                for part in divided:
                    part_url = join(directory, part.directory)
                    wrong = _wrong_files(part_url, part, quick, advance)
                    if not wrong and not quick:
                        wrong = _contents(part_url, name, segment.span, manifest.removed)
                    problems += wrong
    summary = _summary(manifest, corpus)
    if not quick and not problems:
        from polyprag.verify.probes import probe_index  # brings FAISS and scikit-learn

        problems, count = probe_index(run_dir, manifest, sound=sound, show=show)
        summary += f"; a sample of {count} looked up in all parts"
    kept = {part.directory for part in parts}
    stray = [
        name
        for name in names or ()
        if (DIRECTORY_NAME.fullmatch(name) and name not in kept) or TEMPORARY_NAME.fullmatch(name)
    ]
    path = local_path(directory)
    for name in stray:
        is_directory = path is None or (Path(path) / name).is_dir()
        problems += leftovers(
            directory, [name], what="a build that was stopped", is_directory=is_directory
        )
    return problems, summary


def _summary(manifest: IndexManifest, corpus: CorpusManifest | None) -> str:
    count = f"{manifest.num_passages:,}"
    if corpus is not None and corpus.num_passages > manifest.num_passages:
        count += f" of {corpus.num_passages:,}"  # it has grown: an index of the first ones works
    segments = len(manifest.segments)
    within = f" in {segments} segments" if segments > 1 else ""
    return f"{count} passages{within}, {', '.join(sorted(manifest.segments[0].parts))}"


def _stale(run_dir: str, manifest: IndexManifest) -> list[str]:
    """Returns what the index was built from that has changed since.

    A search refuses all of it but removed passages.
    """
    try:
        corpus, encoding = corpus_and_encoding(run_dir)
    except PolypragError:
        return []  # a problem of the corpus or the encoding, not of this
    freshness = Freshness.of(manifest, corpus=corpus, encoding=encoding)
    wrong = [
        f"segments: {join(run_dir, name)} has changed since the index was built"
        for name in freshness.changed
    ]
    if freshness.hidden:
        wrong.append(
            f"removed: its files hold {counted(len(freshness.hidden), 'passage')} that the corpus "
            f"no longer has, {freshness.hidden[0]} first"
        )
    return wrong


def _wrong_files(directory: str, part: IndexPart, quick: bool, advance: Advance) -> list[Problem]:
    """Returns what is wrong with a part's files."""
    problems = []
    sizes = sizes_in(directory)
    summary = join(directory, SUMMARY)
    if size_in(sizes, SUMMARY, url=summary) is None:
        problems.append(Problem(summary, f"{summary}: no such file; {REMEDY}"))
    for name, stored in part.files.items():
        url = join(directory, name)
        found = size_in(sizes, name, url=url)
        wrong = size_problem(url, found, num_bytes=stored.num_bytes, remedy=REMEDY)
        if wrong is None and not quick:
            wrong = checksum_problem(url, sha256=stored.sha256, remedy=REMEDY, advance=advance)
        else:
            advance(stored.num_bytes)
        if wrong is not None:
            problems.append(wrong)
    return problems


def _contents(directory: str, name: str, span: Span, removed: list[int]) -> list[Problem]:
    """Returns what is wrong with a part whose files are those of the manifest.

    Of a local index only.
    """
    path = local_path(directory)
    if path is None or name not in ("passages", "rows"):
        return []
    gone = span.positions(removed)
    try:
        if name == "passages":
            store = PassageStore.open(
                Path(path), num_passages=span.num_passages, first_id=span.first_id
            )
            left = [i for i in (gone + span.first_id).tolist() if not store[i].is_removed]
        else:
            rows = ServingRows.open(Path(path), num_passages=span.num_passages).take(gone)
            left = (gone[np.any(rows, axis=(1, 2))] + span.first_id).tolist()
    except (RunError, FileError) as error:
        return [Problem(directory, str(error))]
    if left:
        what = f"holds passage {left[0]}, which the manifest says is removed"
        return [Problem(directory, f"{directory}: {what}; {REMEDY}")]
    return []
