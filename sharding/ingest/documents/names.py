"""A document's name: what it says for a title, and the passages' ids that begin with it."""

import os
import re
import unicodedata
from hashlib import blake2b

_ORDER = re.compile(r"\d{1,3}[-_. ]+(?=\D)")  # as of 01-leave.md; of a date more would follow
_INDEX = ("index", "readme", "_index")  # which stand for their folder
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}")
_COMPRESSIONS = (".gz", ".zst")
_SEPARATORS = re.compile(r"[-_\s]+")
_NO_SLUG = re.compile(r"[\W_]+")
_SLUG_CHARACTERS = 40
_DIGEST_BYTES = 6

# How a passage's id ends: `#`, its heading and `:` if there is one, a hash of title and text.
_KEY_END = re.compile(r"#(?:[^#:\s]{1,40}:)?[0-9a-f]{12}\Z")


def extension_of(name: str) -> str:
    """Returns how a file's name ends, in lower case and but for `.gz` and `.zst`; "" for nothing.

    What has other characters than an extension, such as the `.03` of `Meeting 2024.11.03`, is none.
    """
    base = os.path.basename(name)
    for compression in _COMPRESSIONS:
        base = base.removesuffix(compression)
    end = os.path.splitext(base)[1]
    return end.lower() if _EXTENSION.fullmatch(end) else ""


def stem_of(name: str) -> str:
    """Returns a file's name without folders and without what its name ends in."""
    base = os.path.basename(name)
    for compression in _COMPRESSIONS:
        base = base.removesuffix(compression)
    end = extension_of(base)
    return base[: len(base) - len(end)] if end else base


def title_of_name(name: str) -> str:
    """Returns the title that a file's name stands for: `battery-care.md` is "battery care"."""
    folder, stem = os.path.dirname(name), stem_of(name)
    if stem.casefold() in _INDEX and folder:
        stem = os.path.basename(folder)
    words = _SEPARATORS.sub(" ", _ORDER.sub("", stem, count=1)).strip()
    return words or stem or name


def passage_key(name: str, heading: str, title: str, text: str) -> str:
    """Returns a passage's id: `policies/leave.md#parental-leave:3f9a2c7be0d1`.

    It follows from the document's name and the passage alone, not from what stands around it. So
    an id never has another title or text, and an edit changes the ids of the passages that it
    changes.

    Args:
        name: the document's, in its folder.
        heading: of the passage's section; may be empty.
        title: the passage's.
        text: the passage's.
    """
    slug = _NO_SLUG.sub("-", unicodedata.normalize("NFKC", heading).casefold()).strip("-")
    slug = slug[:_SLUG_CHARACTERS].strip("-")
    digest = blake2b(title.encode() + b"\xff" + text.encode(), digest_size=_DIGEST_BYTES)
    return f"{name}#{slug}:{digest.hexdigest()}" if slug else f"{name}#{digest.hexdigest()}"


def document_of_key(key: str) -> str | None:
    """Returns the name of the document that a passage's id begins with; None for other ids."""
    found = _KEY_END.search(key)
    return key[: found.start()] if found and found.start() else None


def plain_name(name: str) -> str:
    """Returns a path within a folder as ids have it: composed characters, no line breaks."""
    return " ".join(unicodedata.normalize("NFC", name).split())
