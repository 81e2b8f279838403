"""Which kind of document a file is: by how its name ends, else by how it begins."""

from sharding.ingest.documents.names import extension_of
from sharding.ingest.documents.web_pages import is_web_page

_KINDS = {
    ".md": "md",
    ".markdown": "md",
    ".txt": "txt",
    ".text": "txt",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
DOCUMENT_KINDS = frozenset(_KINDS.values())
DOCUMENT_NAMES = ".md, .txt, .rst or .html (each also with .gz or .zst)"


def document_kind(name: str) -> str | None:
    """Returns md, txt, rst or html by a file's name; None where that says something else."""
    return _KINDS.get(extension_of(name))


def kind_of_content(begin: bytes) -> str | None:
    """Returns html or txt for the beginning of a text in UTF-8 or with a mark; None for data."""
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "txt"
    if not begin.strip() or b"\0" in begin:
        return None
    try:
        text = begin.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(begin) - 3:  # a character may be cut at the end
            return None
        text = begin[: error.start].decode("utf-8-sig")
    return "html" if is_web_page(text) else "txt"
