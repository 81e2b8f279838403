"""mosaicml-streaming: MDS shards on the local disk, with its own shuffling and state."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from data_plane.corpus import Row

_COLUMNS = {"id": "str", "title": "str", "text": "str"}
_BATCH = 32


def write(directory: Path, chunks: Iterable[list[Row]]) -> None:
    """Writes shards of its default size, 64 MiB."""
    with MDSWriter(out=str(directory), columns=_COLUMNS) as writer:
        for chunk in chunks:
            for key, title, text in chunk:
                writer.write({"id": key, "title": title, "text": text})


class Reader:
    """All samples, in order or shuffled (py1e, its default)."""

    def __init__(self, directory: Path, *, shuffled: bool, seed: int, state: Any = None) -> None:
        clean_stale_shared_memory()  # what a killed run leaves makes the next one fail
        self._dataset = StreamingDataset(
            local=str(directory),
            shuffle=shuffled,
            shuffle_seed=seed,
            batch_size=_BATCH,
        )
        self._given = 0
        if state is not None:
            self._dataset.load_state_dict(state)
            self._given = state["sample_in_epoch"]

    def samples(self) -> Iterator[Row]:
        """Key, title and text of each."""
        for sample in self._dataset:
            self._given += 1
            yield sample["id"], sample["title"], sample["text"]

    def state(self) -> Any:
        """Its own state, JSON already."""
        return self._dataset.state_dict(num_samples=self._given, from_beginning=True)
