"""This project's data plane, for the benchmark: `Corpus` in order, `WorkerStream` shuffled."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_plane.corpus import Row
from polyprag.config import DataConfig
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import Passage, Record
from sharding.corpus.reader import Corpus
from sharding.stream.epoch import WorkerStream
from sharding.stream.plan import Cursor

_DATA = DataConfig()  # partitions, lanes and so on as a user gets them


def write(directory: Path, chunks: Iterable[list[Row]]) -> None:
    """Writes partitions with their indexes, and the manifest."""
    rows = (row for chunk in chunks for row in chunk)
    partitions = []
    first_id = 0
    while batch := list(islice(rows, _DATA.partition_size)):
        records = [Record(Passage(first_id + at, *row)) for at, row in enumerate(batch)]
        partitions.append(write_partition(directory, len(partitions), records=records))
        first_id += len(batch)
    CorpusManifest(
        source=["synthetic"],
        num_passages=first_id,
        partition_size=_DATA.partition_size,
        partitions=tuple(partitions),
    ).save(directory)


class Passages:
    """The expander of a passage to itself: no tokenisation, as with the rivals."""

    def count(self, record: Record) -> int:
        """One."""
        return 1

    def make(self, wanted: Sequence[tuple[Record, int]]) -> list[Passage]:
        """The passages."""
        return [record.passage for record, _ in wanted]


class Reader:
    """All passages, in order or as one worker's epoch of all lanes."""

    def __init__(self, directory: Path, *, shuffled: bool, seed: int, state: Any = None) -> None:
        self._corpus, self._shuffled, self._seed = Corpus.open(directory), shuffled, seed
        self._cursor = None if state is None else Cursor.from_json(state)

    def samples(self) -> Iterator[Row]:
        """Key, title and text of each."""
        if not self._shuffled:
            for record in self._corpus.iterate():
                passage = record.passage
                yield passage.key, passage.title, passage.text
            return
        stream = WorkerStream(
            self._corpus,
            rank=0,
            world_size=1,
            num_lanes=_DATA.lanes,
            seed=self._seed,
            microbatch=_DATA.microbatch,
            expand=Passages(),
            num_examples=lambda partition: partition.num_passages,
            cursor=self._cursor,
            prefetch=_DATA.prefetch,
        )
        with stream:
            for step in stream:
                self._cursor = step.cursor
                for lane in step.lanes:
                    for passage in lane.items:
                        yield passage.key, passage.title, passage.text

    def state(self) -> Any:
        """The cursor, which is that of the step whose last sample was given."""
        assert self._cursor is not None
        return self._cursor.to_json()
