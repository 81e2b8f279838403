"""What verifying a run directory found, and reading a stage's manifest for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from polyprag.encoding.manifest import MANIFEST_NAME
from polyprag.errors import PolypragError
from polyprag.verify.files import sizes_in
from sharding.checks.problem import Problem
from sharding.storage.files import exists, join

T = TypeVar("T")


@dataclass(slots=True)
class RunFindings:
    """What verifying a run directory found.

    Attributes:
        problems: all of them, in the order of a run's stages.
        checked: what there was to check, by stage; None where a stage hasn't begun.
        has_corpus: whether there was a corpus manifest to hold the rest against.
        notes: what is worth knowing and no damage, with what to do about it.
    """

    problems: list[Problem] = field(default_factory=list)
    checked: dict[str, str | None] = field(default_factory=dict)
    has_corpus: bool = True
    notes: list[str] = field(default_factory=list)


def stage_manifest(
    found: RunFindings, stage: str, directory: str, load: Callable[[str], T | None]
) -> T | None:
    """Reads a stage's manifest; None where there is none, or none that can be read.

    A manifest that is missing beside files or is damaged becomes one of the problems found.
    """
    found.checked[stage] = None
    url = join(directory, MANIFEST_NAME)
    if not exists(url):
        names = sizes_in(directory) or {}
        if names:
            found.checked[stage] = "no manifest"
            message = (
                f"{url}: no such file, so nothing says what the {len(names)} files beside it are: "
                f"copy it from elsewhere if it was lost; run `polyprag encode` again if that was "
                "stopped before it wrote it"
            )
            found.problems.append(Problem(url, message))
        return None
    try:
        return load(directory)
    except PolypragError as error:
        found.checked[stage] = "no manifest that can be read"
        found.problems.append(Problem(url, str(error)))
        return None
