"""Whether RUN/teacher is whole; what is out of date is asked again before it is used."""

from polyprag.teaching.manifest import MANIFEST_NAME, PART_NAME, TeachingManifest, teacher_dir
from polyprag.verify.files import checksum_problem, read_described, size_in, size_problem
from sharding.checks.problem import Problem
from sharding.counted import counted
from sharding.shown_progress import ShowProgress
from sharding.storage.files import TEMPORARY_NAME, join

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
    found = read_described(
        directory,
        MANIFEST_NAME,
        load=TeachingManifest.load,
        what="manifest",
        is_left=_is_left,
        names=lambda manifest: {part.file for part in manifest.parts},
        left_by="a teacher that was stopped",
    )
    manifest, problems = found.manifest, found.problems
    if manifest is None:
        return problems, found.summary
    total = sum(part.num_bytes for part in manifest.parts)
    with show(total, "teacher", unit="bytes") as advance:
        for part in manifest.parts:
            file = join(directory, part.file)
            size = size_in(found.sizes, part.file, url=file)
            wrong = size_problem(file, size, num_bytes=part.num_bytes, remedy=_AGAIN)
            if wrong is None and not quick:
                wrong = checksum_problem(file, sha256=part.sha256, remedy=_AGAIN, advance=advance)
            if wrong is not None:
                problems.append(wrong)
    questions = sum(part.num_questions for part in manifest.parts)
    partitions = counted(len(manifest.parts), "partition")
    return problems, f"answers to {counted(questions, 'question')} in {partitions}"


def _is_left(name: str) -> bool:
    """Tells what nobody goes on with; what was asked of a partition, `teach` does."""
    return bool(TEMPORARY_NAME.fullmatch(name) or PART_NAME.fullmatch(name))
