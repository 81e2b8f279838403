"""What lies in a folder and below it: documents, by name and content, tables, and the rest."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sharding.corpus.manifest import MANIFEST_NAME, SHARD_NAME
from sharding.errors import CorpusError
from sharding.ingest.documents.kinds import document_kind, kind_of_content
from sharding.ingest.documents.names import extension_of, plain_name, stem_of
from sharding.storage.files import exists, join, list_kinds, list_sizes, read_bytes

MAX_FILES = 1_000_000  # of a folder with all that is below it
_MAX_DEPTH = 64
LOOKED_AT = 4096  # bytes of a file whose name says nothing
_TOOLS = frozenset(("__pycache__", "__macosx", "node_modules"))  # folders that nobody writes in
# What lies beside tables to describe them, and is no part of them.
_ABOUT_TABLES = frozenset(("readme", "license", "licence", "notice", "changelog", "citation"))


@dataclass(slots=True)
class LeftOut:
    """What of the sources isn't read, by kind, such as `hidden` or `.png`."""

    counts: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """Returns `3 hidden, 2 .png, 1 .pdf`; "" for nothing."""
        by_count = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count:,} {what}" for what, count in by_count)


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document in a folder.

    Attributes:
        path: from the folder on, by `/`.
        name: the path as ids have it.
        kind: md, txt, rst or html.
        num_bytes: its size as it lies there.
        is_about: it describes the tables that lie beside it, if there are any (README and so on).
    """

    path: str
    name: str
    kind: str
    num_bytes: int
    is_about: bool


def find_files(
    folder: str,
    left_out: LeftOut,
    *,
    tables: frozenset[str] = frozenset(),
    is_table: Callable[[str], bool] = lambda path: False,
) -> tuple[list[FoundDocument], list[tuple[str, int]]]:
    """Returns the documents in a folder and below it, and the tables below it, by their paths.

    Hidden files and folders, links and what is no file are left out and counted, and so are files
    of other kinds. Of a file whose name has no extension the content decides.

    Args:
        folder: path or URL.
        left_out: what is left out is added to it.
        tables: names in the folder that are known as tables. Beside such, files without an
            extension are left out.
        is_table: whether a file below is a table, by its path; these come with their sizes.

    Raises:
        CorpusError: there are more files than can be one corpus's, or a name is no text.
        FileError: a folder can't be listed.
    """
    found: list[FoundDocument] = []
    below: list[tuple[str, int]] = []
    for number, (path, size) in enumerate(_walk(folder, left_out, tables)):
        if number >= MAX_FILES:
            raise CorpusError(f"{folder}: has over {MAX_FILES:,} files; name parts of it")
        kind = document_kind(path)
        if kind is None and not extension_of(path) and not tables:
            kind = kind_of_content(read_bytes(join(folder, path), length=LOOKED_AT))
        if kind is None and is_table(path):
            below.append((path, size))
            continue
        if kind is None:
            left_out.counts[extension_of(path) or "of no known kind"] += 1
            continue
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise CorpusError(
                f"{join(folder, path)!a}: its name isn't valid text; rename it"
            ) from error
        is_about = "/" not in path and stem_of(path).casefold() in _ABOUT_TABLES
        found.append(FoundDocument(path, plain_name(path), kind, size, is_about))
    return sorted(found, key=lambda document: document.path), sorted(below)


def _walk(folder: str, left_out: LeftOut, tables: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yields paths and sizes of the files that aren't hidden or tables; no link is followed."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        if below.count("/") > _MAX_DEPTH:
            raise CorpusError(f"{join(folder, below)}: lies over {_MAX_DEPTH} folders deep")
        place = join(folder, below.rstrip("/")) if below else folder
        sizes, kinds = list_sizes(place), list_kinds(place)
        if below and _is_ours(place, kinds):
            left_out.counts["run of polyprag"] += 1
            continue
        for name, kind in kinds.items():
            if not below and name in tables:
                continue
            if name.startswith((".", "~$")) or name.endswith("~"):
                left_out.counts["hidden"] += 1
            elif kind == "folder" and name.casefold() in _TOOLS:
                left_out.counts[name] += 1
            elif kind == "folder":
                waiting.append(f"{below}{name}/")
            elif kind == "file":
                yield f"{below}{name}", sizes.get(name, 0)
            else:
                left_out.counts["linked" if kind == "link" else "no files"] += 1


def _is_ours(place: str, kinds: Mapping[str, str]) -> bool:
    """Returns whether a folder is a run or its corpus, which is no source of another one."""
    if any(map(SHARD_NAME.fullmatch, kinds)):
        return True
    return kinds.get("corpus") == "folder" and exists(join(place, "corpus", MANIFEST_NAME))
