"""Hugging Face datasets, streaming from Arrow files."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from datasets.arrow_writer import ArrowWriter

from data_plane.corpus import Row
from data_plane.huggingface import HubReader, columns, rows_of_batches

Reader = partial(HubReader, kind="arrow")


def write(directory: Path, chunks: Iterable[list[Row]]) -> None:
    """Writes one Arrow file for each chunk, as `save_to_disk` does."""
    directory.mkdir(parents=True)
    for number, chunk in enumerate(chunks):
        writer = ArrowWriter(path=str(directory / f"part-{number:06d}.arrow"))
        writer.write_batch(columns(chunk))
        writer.finalize()


def batches(directory: Path) -> Iterator[Row]:
    """Whole Arrow batches, made Python values column by column."""
    return rows_of_batches(directory, kind="arrow")
