"""webdataset: tar shards of JSON members, its own shuffling; it can't resume, so it replays."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import webdataset

from data_plane.corpus import Row

BUFFER = 1000  # samples shuffled among each other, as its documentation does


def write(directory: Path, chunks: Iterable[list[Row]]) -> None:
    """Writes shards of 10,000 samples."""
    directory.mkdir(parents=True)
    pattern = str(directory / "shard-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=10_000, verbose=0) as writer:
        for chunk in chunks:
            for key, title, text in chunk:
                fields = {"id": key, "title": title, "text": text}
                writer.write({"__key__": key.zfill(12), "json": fields})


class Reader:
    """All samples, in order or shuffled."""

    def __init__(self, directory: Path, *, shuffled: bool, seed: int, state: Any = None) -> None:
        shards = sorted(str(path) for path in directory.glob("*.tar"))
        if shuffled:
            dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed)
            self._dataset = dataset.shuffle(BUFFER, seed=seed).decode()
        else:
            self._dataset = webdataset.WebDataset(shards, shardshuffle=False).decode()
        self._given = self._skipped = 0 if state is None else state["samples"]

    def samples(self) -> Iterator[Row]:
        """Key, title and text of each."""
        for sample in islice(self._dataset, self._skipped, None):
            self._given += 1
            fields = sample["json"]
            yield fields["id"], fields["title"], fields["text"]

    def state(self) -> Any:
        """How many samples a replay has to leave out."""
        return {"samples": self._given}
