"""What the two formats of Hugging Face datasets share: streaming, shuffling, state."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from data_plane.corpus import Row

_COLUMNS = ("id", "title", "text")


def columns(rows: list[Row]) -> dict[str, list[str]]:
    """Rows as columns."""
    return {
        name: list(values) for name, values in zip(_COLUMNS, zip(*rows, strict=True), strict=True)
    }


def stream(directory: Path, *, kind: str) -> Any:
    """The files of a directory as an IterableDataset."""
    files = sorted(str(path) for path in directory.glob(f"*.{kind}"))
    return datasets.load_dataset(kind, data_files=files, split="train", streaming=True)


def rows_of_batches(directory: Path, *, kind: str) -> Iterator[Row]:
    """All rows in order, by way of Arrow batches."""
    for batch in stream(directory, kind=kind).with_format("arrow").iter(batch_size=1000):
        yield from zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True)


class HubReader:
    """All samples, in order or shuffled with its default buffer of 1,000."""

    def __init__(
        self, directory: Path, *, kind: str, shuffled: bool, seed: int, state: Any = None
    ) -> None:
        self._dataset = stream(directory, kind=kind)
        if shuffled:
            self._dataset = self._dataset.shuffle(seed=seed)
        if state is not None:
            self._dataset.load_state_dict(state)

    def samples(self) -> Iterator[Row]:
        """Key, title and text of each."""
        for sample in self._dataset:
            yield sample["id"], sample["title"], sample["text"]

    def state(self) -> Any:
        """Its own state, JSON already; the shuffle buffer isn't in it."""
        return self._dataset.state_dict()
