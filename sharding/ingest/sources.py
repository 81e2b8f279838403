"""Which files a corpus is made of, in order: files, directories, globs, saved datasets."""

import fnmatch
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress

from sharding.errors import CorpusError, FileError, StorageError, corpus_errors
from sharding.ingest.documents.kinds import (
    DOCUMENT_KINDS,
    DOCUMENT_NAMES,
    document_kind,
    kind_of_content,
)
from sharding.ingest.documents.names import extension_of, plain_name, stem_of
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import kind_by_content
from sharding.ingest.folders import LOOKED_AT, FoundDocument, LeftOut, find_files
from sharding.ingest.formats.holding import holds_passages
from sharding.ingest.source_file import SourceFile
from sharding.storage.files import exists, join, list_sizes, read_bytes, size_of
from sharding.storage.urls import local_path

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
    r"(manifest|state|dataset_dict|dataset_infos?)\.json|(queries|qrels|topics)\b.*"
    r"|cache-[0-9a-f]+\.arrow",
    re.IGNORECASE,
)
_NEVER_COMPRESSED = ("parquet", "arrow")  # as a whole: they are inside
_COMPRESSIONS = (".gz", ".zst")
KNOWN = f"{DOCUMENT_NAMES}, {', '.join(_KINDS)} (text and .tar also with .gz or .zst) or .tgz"
_DOCUMENT_COSTS = 100
_NAMED = 10  # tables that are left out by name


def expand(
    sources: Iterable[str], left_out: LeftOut | None = None, *, fields: FieldMap | None = None
) -> list[SourceFile]:
    """Returns the files that sources stand for; those of a directory or glob by name.

    Args:
        sources: files; directories, with the documents and tables in them and below, but those
            about data or with questions; globs, with `*`, `?` and `[]` in the last part; what
            `datasets` saved to disk, of several splits all.
        left_out: what lies in directories and isn't read is added to it.
        fields: the names that are given for the fields of tables.

    Raises:
        CorpusError: a source isn't there, stands for no file, or is of no kind that is read; or two
            documents would have the same name.
    """
    left_out = left_out if left_out is not None else LeftOut()
    fields = fields or FieldMap()
    with corpus_errors():
        files = [
            file for source in sources for file in _expand(os.fspath(source), left_out, fields)
        ]
    seen: set[str] = set()
    names: dict[str, str] = {}
    for file in files:
        if file.url in seen:
            raise CorpusError(f"{file.url}: named twice among the sources; name it once")
        seen.add(file.url)
        if file.is_document and names.setdefault(file.name, file.url) != file.url:
            raise CorpusError(
                f"{names[file.name]} and {file.url}: both would be {file.name!r} in the ids of "
                "their passages; name the folder that both lie in, or rename one"
            )
    return files


def num_parts(files: Iterable[SourceFile], *, part_bytes: int) -> int | None:
    """Returns how many parts of a size the files make.

    None where a server doesn't tell their size. A document takes as long as a table that is a
    hundred times as large.
    """
    sizes = [
        file.num_bytes and file.num_bytes * (_DOCUMENT_COSTS if file.is_document else 1)
        for file in files
    ]
    if None in sizes:
        return None
    return max(1, -(-sum(filter(None, sizes)) // part_bytes))


def _expand(source: str, left_out: LeftOut, fields: FieldMap) -> list[SourceFile]:
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
    if not sizes and (path := local_path(source)) is not None and os.path.isdir(path):
        raise CorpusError(f"{source}: an empty folder; there is nothing to read in it")
    if not sizes:  # a file, or nothing
        return [_file(source, size_of(source))]
    if "state.json" in sizes:
        return _files(source, source, {name: sizes.get(name) for name in _saved(source)})
    if "dataset_dict.json" in sizes:
        splits = [join(source, split) for split in _splits(source)]
        return [file for split in splits for file in _expand(split, left_out, fields)]
    return _folder(source, sizes, left_out, fields)


def _folder(
    source: str, sizes: dict[str, int], left_out: LeftOut, fields: FieldMap
) -> list[SourceFile]:
    """Returns the documents and the tables that lie in a directory and below it."""
    tables = [
        name
        for name in sizes
        if not name.startswith(".")
        and not document_kind(name)
        and not _NO_PASSAGES.fullmatch(name)
        and _is_read(source, name)
    ]
    seen = LeftOut()
    documents, below = find_files(source, seen, tables=frozenset(tables), is_table=_is_table)
    left_out.counts.update(seen.counts)
    direct = [_file(join(source, name), sizes[name]) for name in tables]
    chosen = _tables_to_read(
        source, direct, [_file(join(source, path), size) for path, size in below],
        documents, left_out, fields,
    )  # fmt: skip
    if chosen and (tables or all(document.is_about for document in documents)):
        for document in documents:
            if document.is_about:
                left_out.counts[f"{stem_of(document.path)} beside tables"] += 1
        documents = [document for document in documents if not document.is_about]
    if not chosen and not documents:
        what = f" ({seen.text()})" if seen.counts else ""
        raise CorpusError(f"{source}: no corpus file in it{what}; their names end in {KNOWN}")
    for document in documents:
        url = join(source, document.path)
        compression = _compression(url)
        chosen.append(
            SourceFile(url, document.kind, compression, document.num_bytes, document.name)
        )
    return sorted(chosen, key=lambda file: file.url)


def _tables_to_read(
    source: str,
    direct: list[SourceFile],
    below: list[SourceFile],
    documents: list[FoundDocument],
    left_out: LeftOut,
    fields: FieldMap,
) -> list[SourceFile]:
    """Returns the tables of a folder that are read; those that hold no passages are left out.

    What lies in a folder for its sake is read in any case, and what is wrong with it is an error:
    all that is directly in a folder without documents, or with a README alone; and if nothing else
    is there to read, what lies below.
    """
    has_prose = not all(document.is_about for document in documents)
    sure = [] if has_prose else [f for f in direct if not (documents and f.kind == "json")]
    others = [file for file in (*direct, *below) if file not in sure]
    held = {file.url for file in others if holds_passages(file, fields)}
    lacking = [file for file in others if file.url not in held]
    if not (has_prose or sure or held):
        sure = [file for file in lacking if file.kind != "json" or not documents]
        lacking = [file for file in lacking if file not in sure]
    for file in lacking:
        name = file.url.removeprefix(f"{source.rstrip('/')}/")
        name = name if len(lacking) <= _NAMED else extension_of(name)
        left_out.counts[f"{name} without passages"] += 1
    return [*sure, *(file for file in others if file.url in held)]


def _is_table(path: str) -> bool:
    """Returns whether a file below a directory may be a table of passages, by its name."""
    kind = _kind(path)
    is_about_data = any(_NO_PASSAGES.fullmatch(part) for part in path.split("/"))
    return kind is not None and kind[0] not in DOCUMENT_KINDS and not is_about_data


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
    if found is None and not extension_of(url):
        kind = kind_of_content(read_bytes(url, length=LOOKED_AT))
        found = (kind, None) if kind else None
    if found is None:
        raise CorpusError(
            f"{url}: not a known kind of corpus file by its name or content; its name may end in "
            f"{KNOWN}"
        )
    name = plain_name(os.path.basename(url)) if found[0] in DOCUMENT_KINDS else ""
    return SourceFile(url, *found, num_bytes, name)


def _compression(url: str) -> str | None:
    """Returns gz or zst by the name's end, or None."""
    return next((end[1:] for end in _COMPRESSIONS if url.endswith(end)), None)


def _kind(url: str) -> tuple[str, str | None] | None:
    """Returns kind and compression by the name's end, or None."""
    if (document := document_kind(url)) is not None:
        return document, _compression(url)
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
