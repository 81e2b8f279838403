"""Which files a corpus is made of, in order: files, directories, globs, saved datasets."""

import fnmatch
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from sharding.errors import CorpusError, FileError, StorageError, corpus_errors
from sharding.ingest.fields.heads import kind_by_content
from sharding.storage.files import exists, join, list_sizes, read_bytes, size_of

_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tar": "tar",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
# What lies beside passages and holds none: what is said about data, and questions about passages.
_NO_PASSAGES = re.compile(
    r"(manifest|state|dataset_dict|dataset_infos?)\.json|(queries|qrels|topics)\b.*", re.IGNORECASE
)
_READ_BY_LINES = ("jsonl", "csv", "tsv")
_NEVER_COMPRESSED = ("parquet", "arrow")  # as a whole: they are inside
_COMPRESSIONS = (".gz", ".zst")
KNOWN = f"{', '.join(_KINDS)} (text and .tar also with .gz or .zst) or .tgz"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read.

    Attributes:
        url: its path or URL.
        kind: jsonl, json, csv, tsv, tar, parquet or arrow.
        compression: gz, zst or none.
        num_bytes: its size as it lies there; None where the server doesn't tell.
    """

    url: str
    kind: str
    compression: str | None
    num_bytes: int | None

    @property
    def is_text(self) -> bool:
        """Whether it is read by lines."""
        return self.kind in _READ_BY_LINES


def expand(sources: Iterable[str]) -> list[SourceFile]:
    """Returns the files that sources stand for; those of a directory or glob by name.

    Args:
        sources: files; directories, of which are left out files of other kinds, those about data or
            with questions, and subdirectories; globs, with `*`, `?` and `[]` in the last part; what
            `datasets` saved to disk, of several splits all.

    Raises:
        CorpusError: a source isn't there, stands for no file, or is of no kind that is read.
    """
    with corpus_errors():
        files = [file for source in sources for file in _expand(os.fspath(source))]
    seen: set[str] = set()
    for file in files:
        if file.url in seen:
            raise CorpusError(f"{file.url}: named twice among the sources; name it once")
        seen.add(file.url)
    return files


def num_parts(files: Iterable[SourceFile], *, part_bytes: int) -> int | None:
    """Returns how many parts of a size the files make.

    None where a server doesn't tell their size.
    """
    sizes = [file.num_bytes for file in files]
    if None in sizes:
        return None
    return max(1, -(-sum(filter(None, sizes)) // part_bytes))


def _expand(source: str) -> list[SourceFile]:
    parent, _, pattern = source.rstrip("/").rpartition("/")
    if any(character in pattern for character in "*?[") and not exists(source):
        if "*" in parent:
            raise CorpusError(f"{source}: only the last part may hold *, ? or []; name directories")
        directory = parent or ("/" if source.startswith("/") else ".")
        sizes = list_sizes(directory)
        names = [name for name in fnmatch.filter(sizes, pattern) if _is_read(directory, name)]
        return _files(source, parent, {name: sizes[name] for name in sorted(names)})
    if source.startswith(("http://", "https://")):
        with suppress(FileError):  # the server may not tell, or whoever reads it says what is wrong
            return [_file(source, size_of(source))]
        return [_file(source, None)]
    sizes = list_sizes(source)
    if not sizes:  # a file, or nothing
        return [_file(source, size_of(source))]
    if "state.json" in sizes:
        return _files(source, source, {name: sizes.get(name) for name in _saved(source)})
    if "dataset_dict.json" in sizes:
        return [file for split in _splits(source) for file in _expand(join(source, split))]
    names = [name for name in sizes if not _NO_PASSAGES.fullmatch(name)]
    names = [name for name in names if _is_read(source, name)]
    return _files(source, source, {name: sizes[name] for name in names})


def _is_read(directory: str, name: str) -> bool:
    """Returns whether a file of a directory is of a kind that is read.

    One without a suffix is looked into, such as msmarco_passage_00.gz.
    """
    if _kind(name) is not None:
        return True
    base = name
    for compression in _COMPRESSIONS:
        base = base.removesuffix(compression)
    if name.startswith(".") or os.path.splitext(base)[1]:
        return False
    try:
        return kind_by_content(join(directory, name)) is not None
    except StorageError:
        raise
    except FileError:  # a directory
        return False


def _saved(source: str) -> list[str]:
    """Returns the data files of a dataset that was saved to disk, in its order."""
    url = join(source, "state.json")
    try:
        names = [entry["filename"] for entry in json.loads(read_bytes(url))["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(
            f"{url}: not what `Dataset.save_to_disk` writes ({error!r}); save the dataset again"
        ) from error
    for name in names:
        if not isinstance(name, str) or "/" in name or not name.endswith(".arrow"):
            raise CorpusError(f"{url}: {name!r} can't be a data file; save the dataset again")
    return names


def _splits(source: str) -> list[str]:
    """Returns the names of the datasets that were saved as one, in its order."""
    url = join(source, "dataset_dict.json")
    try:
        names: list[str] = json.loads(read_bytes(url))["splits"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(
            f"{url}: not what `DatasetDict.save_to_disk` writes ({error!r}); save it again"
        ) from error
    for name in names if isinstance(names, list) and names else [None]:
        if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
            raise CorpusError(f"{url}: {name!r} can't be a dataset's directory; save it again")
    return names


def _files(source: str, parent: str, sizes: dict[str, int | None]) -> list[SourceFile]:
    if not sizes:
        raise CorpusError(f"{source}: no corpus file in it; their names end in {KNOWN}")
    prefix = f"{parent.rstrip('/')}/" if parent else "/" if source.startswith("/") else ""
    return [_file(prefix + name, size) for name, size in sizes.items()]


def _file(url: str, num_bytes: int | None) -> SourceFile:
    found = _kind(url) or kind_by_content(url)
    if found is None:
        raise CorpusError(
            f"{url}: not a known kind of corpus file by its name or content; its name may end in "
            f"{KNOWN}"
        )
    return SourceFile(url, *found, num_bytes)


def _kind(url: str) -> tuple[str, str | None] | None:
    """Returns kind and compression by the name's end, or None."""
    name = url.lower()
    if name.endswith(".tgz"):
        return "tar", "gz"
    for compression in _COMPRESSIONS:
        base = name.removesuffix(compression)
        if base != name:
            kind = _KINDS.get(os.path.splitext(base)[1])
            return (kind, compression[1:]) if kind and kind not in _NEVER_COMPRESSED else None
    kind = _KINDS.get(os.path.splitext(name)[1])
    return (kind, None) if kind else None
