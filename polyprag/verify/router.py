"""Whether RUN/router is whole, and of the encoding and the index that are there."""

from polyprag.errors import PolypragError
from polyprag.retrieval.freshness import corpus_and_encoding
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.query_encoder import encoder_identity
from polyprag.routed.map_file import (
    DISTIL_AGAIN,
    SETTINGS,
    WEIGHTS,
    MadeOf,
    MapSettings,
    map_dir,
    stale,
)
from polyprag.run_dir import INDEX
from polyprag.verify.files import checksum_problem, read_described, size_in, size_problem
from sharding.checks.problem import Problem
from sharding.counted import counted
from sharding.shown_progress import ShowProgress
from sharding.storage.files import TEMPORARY_NAME, exists, join


def verify_router(
    run_dir: str, *, quick: bool, show: ShowProgress
) -> tuple[list[Problem], str | None]:
    """Checks RUN/router.

    Args:
        run_dir: RUN.
        quick: whether only presence and size are checked.
        show: shows how far it is.

    Returns:
        The problems, and what was checked; None where there is no map.
    """
    directory = map_dir(run_dir)
    found = read_described(
        directory,
        SETTINGS,
        load=MapSettings.load,
        what="settings",
        is_left=lambda name: bool(TEMPORARY_NAME.fullmatch(name)),
    )
    url, weights = found.url, join(directory, WEIGHTS)
    settings, problems = found.manifest, found.problems
    if settings is None and not exists(url) and exists(weights):
        problem = Problem(url, f"{url}: no such file; {DISTIL_AGAIN}")
        return [*problems, problem], "no settings"
    if settings is None:
        return problems, found.summary
    for name in _stale(run_dir, settings):
        problems.append(Problem(url, f"{url}: {name} has changed since; {DISTIL_AGAIN}"))
    with show(settings.num_bytes, "router", unit="bytes") as advance:
        size = size_in(found.sizes, WEIGHTS, url=weights)
        wrong = size_problem(weights, size, num_bytes=settings.num_bytes, remedy=DISTIL_AGAIN)
        if wrong is None and not quick:
            wrong = checksum_problem(
                weights, sha256=settings.sha256, remedy=DISTIL_AGAIN, advance=advance
            )
    if wrong is not None:
        problems.append(wrong)
    asked = counted(settings.num_questions, "question")
    return problems, f"from {asked} on {counted(settings.num_passages, 'passage')}"


def _stale(run_dir: str, settings: MapSettings) -> list[str]:
    """Returns what the map was made of that has changed since; nothing where that can't be read."""
    try:
        _, encoding = corpus_and_encoding(run_dir)
        index = IndexManifest.load(join(run_dir, INDEX))
    except PolypragError:
        return []  # a problem of the encoding or the index, not of this
    if encoding is None:
        return []
    return stale(settings, MadeOf.of(encoding, encoder=encoder_identity(index)))
