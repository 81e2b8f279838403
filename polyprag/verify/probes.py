"""Whether the parts of an index belong together: a sample of its passages is looked up in each.

Checksums say that files are as they were written. They say nothing of a part that was written from
passages in another order, or put in the place of another one.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from polyprag.config import DataConfig
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.errors import PolypragError
from polyprag.retrieval.encoders.choice import saved_encoder, saved_kind
from polyprag.retrieval.parts.index_store import IndexStore, index_store_of
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.parts.passages import PassageStore
from polyprag.retrieval.parts.serving_rows import ServingRows, rounding
from polyprag.run_dir import CORPUS, ENCODING, INDEX
from polyprag.verify.probed_vectors import wrong_vectors
from polyprag.verify.probed_words import wrong_words
from polyprag.verify.sample import SegmentSample, sampled_ids
from sharding.checks.problem import Problem
from sharding.corpus.passages import Passage
from sharding.corpus.reader import Corpus
from sharding.shown_progress import ShowProgress
from sharding.storage.files import join

_SHOWN = 40  # characters of a text


def probe_index(
    run_dir: str, manifest: IndexManifest, *, sound: Collection[str], show: ShowProgress
) -> tuple[list[Problem], int]:
    """Looks evenly spaced passages up in every part of RUN/index.

    No model is loaded and no endpoint asked. Parts of a remote index are copied to this machine.

    Args:
        run_dir: RUN, a path or URL.
        manifest: of the index, whose files are as it says.
        sound: names in RUN (`corpus`, `encoding`) of what has been found sound: the passages and
            rows are held against it.
        show: shows how far it is.

    Returns:
        What disagrees, one problem a part, and how many passages were looked up.
    """
    url = join(run_dir, INDEX)
    data = _cache_settings(run_dir)
    # It keeps its parts while it lives.
    store = index_store_of(run_dir, cache_dir=data.cache_dir, cache_gb=data.cache_gb)
    corpus = Corpus.open(join(run_dir, CORPUS)) if CORPUS in sound else None
    encoding = Encoding.load(run_dir) if ENCODING in sound else None
    problems: list[Problem] = []
    samples: list[SegmentSample] = []
    try:
        parts = _local_parts(store, manifest, show)
        directory = parts[0]["encoder"][0]
        # The others take a model's time, or an endpoint's.
        encoder = saved_encoder(directory) if saved_kind(directory) == "lsa" else None
        for segment, local, ids in zip(
            manifest.segments, parts, sampled_ids(manifest), strict=True
        ):
            indexed = PassageStore.open(
                local["passages"][0],
                num_passages=segment.num_passages,
                first_id=segment.first_id,
            )
            stored = [indexed[i] for i in ids.tolist()]
            given = stored if corpus is None else [corpus.record(i).passage for i in ids.tolist()]
            sample = SegmentSample(url, segment, local, given)
            samples.append(sample)
            problems += _wrong_passages(sample, indexed, stored)
            if encoding is not None and "rows" in local:
                problems += _wrong_rows(sample, encoding)
            problems += wrong_vectors(
                sample, encoder, removed=segment.span.positions(manifest.removed)
            )
        problems += wrong_words(samples)
    except PolypragError as error:
        problems.append(Problem(url, str(error)))
    return problems, sum(len(sample.passages) for sample in samples)


def _cache_settings(run_dir: str) -> DataConfig:
    """Returns `data` of the run's config: another bound would throw out what its commands keep."""
    try:
        return load_config(run_dir=run_dir, uses=()).data
    except PolypragError:
        return DataConfig()


def _local_parts(
    store: IndexStore, manifest: IndexManifest, show: ShowProgress
) -> list[dict[str, list[Path]]]:
    """Returns the local directories of each segment's parts, by name."""
    parts: list[dict[str, list[Path]]] = []
    with show(len(manifest.parts), "sample of the index", unit="parts") as advance:
        for segment in manifest.segments:
            local: dict[str, list[Path]] = {}
            for name, divided in segment.parts.items():
                local[name] = []
                for part in divided:
                    local[name].append(store.local(part))
                    advance(1)
            parts.append(local)
    return parts


def _wrong_passages(
    sample: SegmentSample, indexed: PassageStore, stored: Sequence[Passage]
) -> Iterator[Problem]:
    """Yields keys, titles and texts that aren't the corpus's, or aren't found."""
    wrong = [
        (there, what)
        for there, here in zip(sample.passages, stored, strict=True)
        if (what := _difference(there, here))
    ]
    if not wrong:
        wrong = [
            (passage, "isn't found by its title and text")
            for passage in stored
            if indexed.find(passage.title, passage.text) is None
        ]
    if wrong:
        passage, what = wrong[0]
        (part,) = sample.segment.parts["passages"]
        what = f"passage {passage.id} {what}{sample.of_sample(len(wrong))}"
        yield sample.problem(part, what)


def _difference(there: Passage, here: Passage) -> str | None:
    """Returns how a passage of the index differs from the corpus's; None where it doesn't."""
    for name in ("key", "title", "text"):
        expected, found = getattr(there, name), getattr(here, name)
        if expected != found:
            pairs = enumerate(zip(expected, found, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(found)))
            excerpt = slice(max(0, at - _SHOWN // 2), at + _SHOWN // 2)
            where = f" from character {excerpt.start} on" if excerpt.start else ""
            return (
                f"has the {name} {found[excerpt]!r}{where}, where the corpus has "
                f"{expected[excerpt]!r}"
            )
    return None


def _wrong_rows(sample: SegmentSample, encoding: Encoding) -> Iterator[Problem]:
    """Rows that are further from the encoding's than their format makes them."""
    (part,) = sample.segment.parts["rows"]
    table = ServingRows.open(
        sample.directories["rows"][0], num_passages=sample.segment.num_passages
    )
    ids, stored_mSK = sample.ids, table.take(sample.positions)
    trained_mSK = encoding.rows(ids)
    if stored_mSK.shape != trained_mSK.shape:
        what = f"rows have shape {table.row_shape} where the encoding's are of "
        yield sample.problem(part, what + str(trained_mSK.shape[1:]))
        return
    excess_mSK = np.abs(stored_mSK - trained_mSK) - rounding(trained_mSK, table.rows_format)
    (wrong,) = np.nonzero(excess_mSK.max(axis=(1, 2)) > 0)
    if len(wrong):
        first = wrong[0]
        site, expert = np.unravel_index(excess_mSK[first].argmax(), table.row_shape)
        what = (
            f"passage {ids[first]} has {stored_mSK[first, site, expert]:.4f} at site {site} and "
            f"expert {expert} where the encoding has {trained_mSK[first, site, expert]:.4f}"
        )
        yield sample.problem(part, what + sample.of_sample(len(wrong)))
