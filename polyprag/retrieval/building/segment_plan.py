"""Which segments an index is to have: the base and what was added to it since.

Growing an index adds a segment and leaves the others as they are. Which segments there are to be
follows from those that there were, the corpus and the settings alone, so a build that was stopped
plans the same ones again and finds the parts that it had finished.
"""

from polyprag.errors import RunError
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.parts.span import span_of
from sharding.corpus.manifest import CorpusManifest, Partition


def num_partitions_in(corpus: CorpusManifest, num_rows: int | None, *, encoding: str) -> int:
    """Counts the partitions that an index covers: with an encoding, those that have rows.

    Args:
        corpus: of the run.
        num_rows: passages that the encoding has rows of; None where there is no encoding.
        encoding: its directory, for the error.

    Raises:
        RunError: the encoding isn't of the corpus's first partitions.
    """
    if num_rows is None:
        return len(corpus.partitions)
    ends = [part.first_id + part.num_passages for part in corpus.partitions]
    if num_rows not in ends:
        raise RunError(
            f"{encoding} holds the rows of {num_rows} passages and the corpus has "
            f"{corpus.num_passages}: run `polyprag encode RUN` again, or take away the encoding"
        )
    return ends.index(num_rows) + 1


def planned_segments(
    previous: IndexManifest | None,
    corpus: CorpusManifest,
    *,
    num_partitions: int,
    settings_sha256: str,
    compact: bool,
) -> list[tuple[Partition, ...]]:
    """Returns the partitions of each segment, the base's first.

    One base over everything comes of a first build, of other settings, of passages that were
    removed from the base (whose statistics and vocabulary know them), and when it is asked for.

    Args:
        previous: what the index is now, if it can be read.
        corpus: as it is now.
        num_partitions: how many of them to cover.
        settings_sha256: of what decides the base's contents.
        compact: whether to join all segments.
    """
    everything = corpus.partitions[:num_partitions]
    if previous is None or compact or previous.settings_sha256 != settings_sha256:
        return [everything]
    segments = []
    end = 0
    for segment in previous.segments:
        partitions = everything[end : end + len(segment.shards)]
        if len(partitions) != len(segment.shards) or span_of(partitions) != segment.span:
            return [everything]  # it isn't that corpus, grown
        segments.append(partitions)
        end += len(segment.shards)
    base = previous.segments[0].span
    if len(base.positions(corpus.removed)) != len(base.positions(previous.removed)):
        return [everything]
    if end < num_partitions:
        segments.append(everything[end:])
    return segments
