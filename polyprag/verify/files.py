"""Files that a manifest names by size and checksum."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from polyprag.errors import FileError, PolypragError
from sharding.checks.problem import Problem, leftovers
from sharding.shown_progress import Advance
from sharding.storage.files import exists, join, list_sizes, open_url, size_of

_BLOCK = 4 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Described(Generic[T]):
    """A directory as the file says that describes it.

    Attributes:
        url: of that file.
        manifest: what it says; None where it isn't there or can't be read.
        sizes: bytes of the directory's files by name; None where they can't be listed.
        problems: what is wrong so far.
        summary: what there is in place of a manifest; None where there is one, or nothing.
    """

    url: str
    manifest: T | None
    sizes: dict[str, int] | None
    problems: list[Problem]
    summary: str | None


def read_described(
    directory: str,
    name: str,
    *,
    load: Callable[[str], T],
    what: str,
    is_left: Callable[[str], bool],
    names: Callable[[T], Collection[str]] = lambda manifest: (),
    left_by: str = "a writer that was killed",
) -> Described[T]:
    """Reads the file that describes a directory, and finds what writers left beside it.

    Args:
        directory: to look into.
        name: of the file.
        load: reads it, by the directory.
        what: it holds, such as "manifest".
        is_left: whether a file of this name may go where nothing names it.
        names: the files that a manifest names.
        left_by: who left it.
    """
    url, sizes = join(directory, name), sizes_in(directory)
    left = [each for each in sizes or () if is_left(each)]
    manifest, unreadable = None, []
    if exists(url):
        try:
            manifest = load(directory)
        except PolypragError as error:
            unreadable, left = [Problem(url, str(error))], []
    if manifest is not None:
        named = names(manifest)
        left = [each for each in left if each not in named]
    problems = [*unreadable, *leftovers(directory, left, what=left_by)]
    summary = None
    if manifest is None and problems:
        summary = f"no {what} that can be read" if unreadable else f"no {what}"
    return Described(url, manifest, sizes, problems, summary)


def sizes_in(directory: str) -> dict[str, int] | None:
    """Returns the bytes of a directory's files; None where it can't be listed, as over http."""
    try:
        return list_sizes(directory)
    except FileError:
        return None


def size_in(sizes: Mapping[str, int] | None, name: str, *, url: str) -> int | None:
    """Returns a file's bytes; None where it isn't there.

    Args:
        sizes: of its directory.
        name: in that directory.
        url: of the file, to be asked for where the directory can't be listed.
    """
    if sizes is not None:
        return sizes.get(name)
    try:
        return size_of(url)
    except FileError:
        return None


def size_problem(
    url: str, found: int | None, *, num_bytes: int | None = None, at_least: int = 1, remedy: str
) -> Problem | None:
    """Returns what is wrong with a named file as far as its size tells.

    Args:
        url: the file.
        found: its bytes; None where it isn't there.
        num_bytes: what it must hold, if that is known exactly.
        at_least: what it must hold otherwise.
        remedy: what to do.
    """
    if found is None:
        return Problem(url, f"{url}: no such file; {remedy}")
    if num_bytes is not None and found != num_bytes:
        what = f"holds {found} bytes where the manifest says {num_bytes}"
    elif num_bytes is None and found < at_least:
        what = f"holds {found} bytes where it needs {at_least} at least"
    else:
        return None
    return Problem(url, f"{url}: {what}; {remedy}")


def checksum_problem(url: str, *, sha256: str, remedy: str, advance: Advance) -> Problem | None:
    """Returns what is wrong with the contents of a named file.

    Args:
        url: the file.
        sha256: what it must have, in hex.
        remedy: what to do.
        advance: called with the number of bytes that were read.
    """
    digest = hashlib.sha256()
    try:
        with open_url(url) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                advance(len(block))
    except FileError as error:
        return Problem(url, str(error))
    if digest.hexdigest() != sha256:
        return Problem(url, f"{url}: SHA-256 differs from the manifest's; {remedy}")
    return None
