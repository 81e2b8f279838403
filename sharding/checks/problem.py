"""A problem that `verify` found: what to say of it, and how to mend it where nothing is lost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import time

from sharding.errors import CorpusError, FileError
from sharding.storage.files import exists, join, newest_change, remove, remove_directory

QUIET_S = 3600.0  # a directory that nothing was written to for so long has no command at work on it


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a file of a run.

    Attributes:
        file: its path or URL.
        message: names the file, the member or field in it, and the remedy.
        repair: mends it and returns what it did; None where that can't be done without loss.
    """

    file: str
    message: str
    repair: Callable[[], str] | None = None


def mend(problems: Iterable[Problem]) -> tuple[list[str], list[Problem]]:
    """Repairs what can be; a repair that several problems share is done once.

    Returns:
        What was done, and the problems that are left, with the reason where a repair failed.
    """
    done: list[str] = []
    left: list[Problem] = []
    tried: dict[int, str | None] = {}  # by repair: why it failed
    for problem in problems:
        if problem.repair is None:
            left.append(problem)
            continue
        key = id(problem.repair)
        if key not in tried:
            try:
                done.append(problem.repair())
                tried[key] = None
            except (CorpusError, FileError, OSError) as error:
                tried[key] = str(error)
        if (failed := tried[key]) is not None:
            left.append(Problem(problem.file, f"{problem.message} (the repair failed: {failed})"))
    return done, left


def leftovers(
    directory: str, names: list[str], *, what: str, is_directory: bool = False
) -> list[Problem]:
    """Problems for what killed writers left in a directory.

    While something was written to the directory in the last hour they have no repair: a command
    may be at work that is about to name these files in a manifest.

    Args:
        directory: where they are.
        names: of the files (or directories).
        what: whose they are, such as "a writer that was killed".
        is_directory: whether the names are of directories.
    """
    if not names:
        return []
    quiet = _is_quiet(directory, names if is_directory else [])
    remedy = (
        "nothing refers to it: delete it, or let --repair do so"
        if quiet
        else "once no command works on this run, delete it; --repair does so when nothing was "
        "written there for an hour"
    )
    problems = []
    for name in names:
        url = join(directory, name)
        repair = partial(_remove, url, is_directory) if quiet else None
        problems.append(Problem(url, f"{url}: left by {what}; {remedy}", repair))
    return problems


def _is_quiet(directory: str, inner: list[str]) -> bool:
    for url in (directory, *(join(directory, name) for name in inner)):
        try:
            newest = newest_change(url)
        except FileError:
            return False
        if newest is None or newest > time() - QUIET_S:
            return False
    return True


def _remove(url: str, is_directory: bool) -> str:
    if is_directory:
        remove_directory(url)
        if exists(url):
            raise FileError(f"{url}: has directories in it that polyprag doesn't make; delete it")
    else:
        remove(url)
    return f"{url}: removed"
