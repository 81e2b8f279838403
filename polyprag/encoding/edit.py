"""Changes to a finished encoding: rows of new partitions join, rows of passages are forgotten.

Files of rows get new names, the manifest comes next, and what it no longer names is deleted last.
So a stop at any moment leaves an encoding that is whole, and the same call does the rest.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from msgspec import structs

from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest, RowsPart
from polyprag.encoding.reader import encoding_dir
from polyprag.errors import RunError
from sharding.rows.file import load_rows, save_rows
from sharding.rows.part import forget
from sharding.storage.files import TEMPORARY_NAME, exists, join, list_names, remove

ROWS = "rows"
_ADD_AGAIN = "run `polyprag add RUN` again"
_ROWS_FILE = re.compile(r"part-(\d{5,})(-[0-9a-f]{12})?\.safetensors")
EXPERTS_FILE = re.compile(r"experts(-[0-9a-f]{12})?\.safetensors")


def extend_encoding(run_dir: str | Path, parts: Sequence[RowsPart]) -> EncodingManifest:
    """Appends the rows of partitions that the corpus has gained; nothing else changes.

    Args:
        run_dir: RUN, encoded.
        parts: in the order of their ids, right behind those that are there. Their files lie in
            `RUN/encoding/rows`. Parts that are there already, the same to the byte, are passed
            over.

    Returns:
        The manifest as saved.

    Raises:
        RunError: a part is of other passages than come next, or its file isn't there.
    """
    directory = encoding_dir(run_dir)
    manifest = EncodingManifest.load(directory)
    there = manifest.parts
    new = [part for part in parts if part not in there]
    for part in new:
        expected = (len(there), there[-1].first_id + there[-1].num_passages if there else 0)
        if (part.index, part.first_id) != expected:
            raise RunError(
                f"{directory}: the rows of partition {part.index}, from passage {part.first_id} on,"
                f" can't follow: partition {expected[0]} from passage {expected[1]} on comes next; "
                f"{_ADD_AGAIN}, which finds what is missing"
            )
        if not exists(join(directory, part.file)):
            raise RunError(f"{join(directory, part.file)}: no such file; {_ADD_AGAIN}")
        there += (part,)
    num_passages = sum(part.num_passages for part in there)
    extended = structs.replace(manifest, parts=there, num_passages=num_passages)
    if new:
        extended.save(directory)
    _remove_unnamed(directory, extended)
    return extended


def forget_encoded_rows(run_dir: str | Path, ids: Iterable[int]) -> None:
    """Zeroes the rows of passages; nothing happens where they are zero, or without an encoding.

    Args:
        run_dir: RUN.
        ids: of the passages; an encoding of a prefix of the corpus may not reach to them.

    Raises:
        RunError, FileError: the encoding is damaged.
    """
    directory = encoding_dir(run_dir)
    if not exists(join(directory, MANIFEST_NAME)):
        return
    manifest = EncodingManifest.load(directory)
    wanted = np.unique(np.fromiter(ids, np.int64))
    parts = tuple(_without(directory, part, wanted) for part in manifest.parts)
    if parts != manifest.parts:
        manifest = structs.replace(manifest, parts=parts)
        manifest.save(directory)
    _remove_unnamed(directory, manifest, of={part.index for part in parts})


def remove_replaced(directory: str, manifest: EncodingManifest) -> None:
    """Deletes the rows and experts of the encoding that was there before, and of killed writers.

    Args:
        directory: `RUN/encoding`.
        manifest: as saved.
    """
    _remove_unnamed(directory, manifest)
    for name in list_names(directory):
        if EXPERTS_FILE.fullmatch(name) and name != manifest.experts.file:
            remove(join(directory, name))


def _without(
    directory: str, part: RowsPart, ids: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> RowsPart:
    """Returns a part's entry after some passages' rows are zero; itself where they are."""
    first, end = np.searchsorted(ids, [part.first_id, part.first_id + part.num_passages])
    mine = ids[first:end]
    if not len(mine):
        return part
    rows = load_rows(join(directory, part.file), sha256=part.sha256)
    if not forget(rows, mine.tolist()):
        return part
    # The same rows to forget give the same name, so that a stopped call leaves no second file.
    told = hashlib.sha256(part.sha256.encode() + mine.astype("<i8").tobytes()).hexdigest()
    name = f"{ROWS}/part-{part.index:05d}-{told[:12]}.safetensors"
    sha256, _ = save_rows(join(directory, name), rows, moments=False)
    return structs.replace(part, file=name, sha256=sha256)


def _remove_unnamed(
    directory: str, manifest: EncodingManifest, *, of: Collection[int] | None = None
) -> None:
    """Deletes files of rows that the manifest doesn't name, and those of killed writers.

    Args:
        directory: `RUN/encoding`.
        manifest: as saved.
        of: only those of these partitions; `add` may have begun with others.
    """
    named = {part.file for part in manifest.parts}
    for name in list_names(join(directory, ROWS)):
        found = _ROWS_FILE.fullmatch(name)
        is_ours = found is not None and (of is None or int(found[1]) in of)
        if (is_ours or TEMPORARY_NAME.fullmatch(name)) and f"{ROWS}/{name}" not in named:
            remove(join(directory, ROWS, name))
    for name in list_names(directory):
        if TEMPORARY_NAME.fullmatch(name):
            remove(join(directory, name))
