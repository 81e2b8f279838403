"""Hugging Face datasets, streaming from Parquet files."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import datasets

from data_plane.corpus import Row
from data_plane.huggingface import HubReader, columns, rows_of_batches

Reader = partial(HubReader, kind="parquet")


def write(directory: Path, chunks: Iterable[list[Row]]) -> None:
    """Writes one Parquet file for each chunk."""
    directory.mkdir(parents=True)
    datasets.disable_progress_bars()
    for number, chunk in enumerate(chunks):
        part = datasets.Dataset.from_dict(columns(chunk))
        part.to_parquet(directory / f"part-{number:06d}.parquet")


def batches(directory: Path) -> Iterator[Row]:
    """Whole Arrow batches, made Python values column by column."""
    return rows_of_batches(directory, kind="parquet")
