"""What lies in a folder and below it: its documents, by name and content, and what is left out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sharding.errors import CorpusError
from sharding.ingest.documents.kinds import document_kind, kind_of_content
from sharding.ingest.documents.names import extension_of, plain_name, stem_of
from sharding.storage.files import join, list_kinds, list_sizes, read_bytes

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
    """

    path: str
    name: str
    kind: str
    num_bytes: int


def find_documents(
    folder: str, left_out: LeftOut, *, tables: frozenset[str] = frozenset()
) -> list[FoundDocument]:
    """Returns the documents in a folder and below it, by their paths.

    Hidden files and folders, links and what is no file are left out and counted, and so are files
    of other kinds. Of a file whose name has no extension the content decides.

    Args:
        folder: path or URL.
        left_out: what is left out is added to it.
        tables: names in the folder that are read as tables. Beside such, what describes them
            (README and so on) is left out, and so are files without an extension.

    Raises:
        CorpusError: there are more files than can be one corpus's, or a name is no text.
        FileError: a folder can't be listed.
    """
    found = []
    for number, (path, size) in enumerate(_walk(folder, left_out, tables)):
        if number >= MAX_FILES:
            raise CorpusError(f"{folder}: has over {MAX_FILES:,} files; name parts of it")
        kind = document_kind(path)
        if kind and tables and "/" not in path and stem_of(path).casefold() in _ABOUT_TABLES:
            left_out.counts[f"{stem_of(path)} beside tables"] += 1
            continue
        if kind is None and not extension_of(path) and not tables:
            kind = kind_of_content(read_bytes(join(folder, path), length=LOOKED_AT))
        if kind is None:
            left_out.counts[extension_of(path) or "of no known kind"] += 1
            continue
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise CorpusError(
                f"{join(folder, path)!a}: its name isn't valid text; rename it"
            ) from error
        found.append(FoundDocument(path, plain_name(path), kind, size))
    return sorted(found, key=lambda document: document.path)


def _walk(folder: str, left_out: LeftOut, tables: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yields paths and sizes of the files that aren't hidden or tables; no link is followed."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        if below.count("/") > _MAX_DEPTH:
            raise CorpusError(f"{join(folder, below)}: lies over {_MAX_DEPTH} folders deep")
        place = join(folder, below.rstrip("/")) if below else folder
        sizes = list_sizes(place)
        for name, kind in list_kinds(place).items():
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
