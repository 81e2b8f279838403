"""Whether RUN/teacher is whole; what is out of date is asked again before it is used."""

from polyprag.errors import PolypragError
from polyprag.teaching.manifest import MANIFEST_NAME, PART_NAME, TeachingManifest, teacher_dir
from polyprag.verify.files import checksum_problem, size_in, size_problem, sizes_in
from sharding.checks.problem import Problem, leftovers
from sharding.shown_progress import ShowProgress
from sharding.storage.files import TEMPORARY_NAME, exists, join

_AGAIN = "delete RUN/teacher, and run `polyprag teach RUN`"


def verify_teacher(
    run_dir: str, *, quick: bool, show: ShowProgress
) -> tuple[list[Problem], str | None]:
    """Checks RUN/teacher.

    Args:
        run_dir: RUN.
        quick: whether only presence and sizes are checked.
        show: shows how far it is.

    Returns:
        The problems, and what was checked; None where there is no teacher.
    """
    directory = teacher_dir(run_dir)
    url = join(directory, MANIFEST_NAME)
    sizes = sizes_in(directory)
    if not exists(url):
        left = [name for name in sizes or () if _is_ours(name)]
        problems = leftovers(directory, left, what="a teacher that was stopped")
        return problems, "no manifest" if left else None
    try:
        manifest = TeachingManifest.load(directory)
    except PolypragError as error:
        return [Problem(url, str(error))], "no manifest that can be read"
    named = {part.file for part in manifest.parts}
    left = [name for name in sizes or () if _is_ours(name) and name not in named]
    problems = leftovers(directory, left, what="a teacher that was stopped")
    total = sum(part.num_bytes for part in manifest.parts)
    with show(total, "teacher", unit="bytes") as advance:
        for part in manifest.parts:
            file = join(directory, part.file)
            found = size_in(sizes, part.file, url=file)
            wrong = size_problem(file, found, num_bytes=part.num_bytes, remedy=_AGAIN)
            if wrong is None and not quick:
                wrong = checksum_problem(file, sha256=part.sha256, remedy=_AGAIN, advance=advance)
            if wrong is not None:
                problems.append(wrong)
    questions = sum(part.num_questions for part in manifest.parts)
    return problems, f"answers to {questions:,} questions in {len(manifest.parts):,} partitions"


def _is_ours(name: str) -> bool:
    return bool(TEMPORARY_NAME.fullmatch(name) or PART_NAME.fullmatch(name))
