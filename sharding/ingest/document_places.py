"""Which documents of a corpus files are, wherever they lie now and however they are named.

A document is its path in the folder that was named first. A corpus notes where each of its
documents lay; so a file of that folder is the same document if it is named alone, by another path
or with the folder above it. A folder that lies elsewhere is the one of before, moved, if most of
the documents that both have are the same to the byte. Any other one has documents of its own, which
get the folder's name before theirs where another document has it already.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharding.ingest.documents.names import plain_name
from sharding.ingest.source_file import SourceFile
from sharding.printable import without_passwords
from sharding.storage.files import sha256_of
from sharding.storage.urls import absolute

DOCUMENTS = "documents"  # among a manifest's options


@dataclass(frozen=True, slots=True)
class DocumentPlace:
    """Where a document lay when it was read.

    Attributes:
        url: absolute.
        sha256: of what it held.
    """

    url: str
    sha256: str


def places_in(options: Mapping[str, Any]) -> dict[str, DocumentPlace]:
    """Returns a corpus's documents by name, from its manifest's options; none of earlier ones."""
    noted = options.get(DOCUMENTS)
    found = {}
    for name, place in noted.items() if isinstance(noted, dict) else ():
        if isinstance(place, list) and len(place) == 2 and all(type(v) is str for v in place):
            found[name] = DocumentPlace(*place)
    return found


def noted_places(
    files: Iterable[SourceFile], hashes: Iterable[str], before: Mapping[str, DocumentPlace]
) -> dict[str, Any]:
    """Returns what a manifest's options say of the places of documents.

    Args:
        files: with the names that the documents have in the corpus.
        hashes: of each file.
        before: what was noted.
    """
    now = {
        file.name: DocumentPlace(_place(file), sha256)
        for file, sha256 in zip(files, hashes, strict=True)
        if file.is_document
    }
    noted = {**before, **now}
    return {DOCUMENTS: {name: [p.url, p.sha256] for name, p in noted.items()}} if noted else {}


def named_as_before(
    files: Sequence[SourceFile], before: Mapping[str, DocumentPlace]
) -> list[SourceFile]:
    """Returns files, of which documents have the names that they have in a corpus.

    Args:
        files: of the sources, as `sources.expand` names them.
        before: the corpus's documents.

    Raises:
        FileError: a file can't be read.
    """
    known = {place.url: name for name, place in before.items()}
    roots = sorted({_root(place.url, name) for name, place in before.items()}, key=len)
    names: dict[str, str] = {}
    others: dict[str, list[SourceFile]] = defaultdict(list)
    for file in files:
        if not file.is_document:
            continue
        url = _place(file)
        root = next((r for r in reversed(roots) if url.startswith(f"{r}/")), None)
        name = known.get(url) or (plain_name(url[len(root) + 1 :]) if root is not None else None)
        if name is None or (name in before and before[name].url != url):
            others[_root(url, file.name)].append(file)
        else:
            names[file.url] = name
    for root, group in others.items():
        taken = {*before, *names.values()}
        prefix = _moved_from(group, before)
        if prefix is None:
            prefix = next(p for p in _prefixes(root) if not any(p + f.name in taken for f in group))
        names |= {file.url: prefix + file.name for file in group}
    return [replace(file, name=names.get(file.url, file.name)) for file in files]


def gone_from(
    folders: Iterable[str | Path], files: Iterable[SourceFile], before: Mapping[str, DocumentPlace]
) -> list[str]:
    """Returns the corpus's documents that lay in some folders and aren't there any more.

    Args:
        folders: paths or URLs; those that are files have no documents.
        files: all that they hold now, with the names that documents have in the corpus.
        before: the corpus's documents.
    """
    there = {file.name for file in files if file.is_document}
    roots = tuple(f"{without_passwords(absolute(str(each))).rstrip('/')}/" for each in folders)
    return [
        name for name, place in before.items() if place.url.startswith(roots) and name not in there
    ]


def _place(file: SourceFile) -> str:
    return without_passwords(absolute(file.url))


def _root(url: str, name: str) -> str:
    """Returns the folder that a document's name counts from."""
    return "/".join(url.split("/")[: -1 - name.count("/")])


def _prefixes(root: str) -> Iterator[str]:
    """Yields what may stand before the names of a folder's documents, from nothing on."""
    yield ""
    parts = [plain_name(part) for part in root.split("/") if part]
    for start in reversed(range(len(parts))):
        yield "/".join(parts[start:]) + "/"
    number = 2
    while True:
        yield f"{number}/" + "/".join(parts) + "/"
        number += 1


def _moved_from(group: Sequence[SourceFile], before: Mapping[str, DocumentPlace]) -> str | None:
    """Returns what stands before the names of a folder's documents in the corpus that has them.

    None where they are no documents of the corpus.
    """
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in before:
        by_end[name.rpartition("/")[2]].append(name)
    common: Counter[str] = Counter()
    same: Counter[str] = Counter()
    for file in group:
        ends = by_end[file.name.rpartition("/")[2]]
        likely = [name for name in ends if f"/{name}".endswith(f"/{file.name}")]
        sha256 = sha256_of(file.url) if likely else ""
        for name in likely:
            prefix = name.removesuffix(file.name)
            common[prefix] += 1
            same[prefix] += before[name].sha256 == sha256
    best = max(same, key=lambda prefix: (same[prefix], -len(prefix)), default=None)
    return best if best is not None and 2 * same[best] > common[best] else None
