"""Whether RUN/abstention.json, where there is one, can be read and is of these experts."""

from polyprag.answering.trust.abstention import CALIBRATE_AGAIN, Abstention, abstention_file
from polyprag.errors import PolypragError
from polyprag.retrieval.freshness import corpus_and_encoding
from polyprag.verify.findings import RunFindings
from sharding.checks.problem import Problem
from sharding.storage.files import exists


def verify_abstention(found: RunFindings, run_dir: str) -> None:
    """Adds to what was found; nothing where a run has no calibration.

    Args:
        found: of the run.
        run_dir: RUN.
    """
    url = abstention_file(run_dir)
    if not exists(url):
        return
    try:
        calibration = Abstention.load(run_dir)
    except PolypragError as error:
        found.problems.append(Problem(url, str(error)))
        found.checked["abstention"] = "nothing that can be read"
        return
    found.checked["abstention"] = f"calibrated for {', '.join(calibration.modes)}"
    try:
        _, encoding = corpus_and_encoding(run_dir)
    except PolypragError:
        return  # a problem of its own
    if encoding and calibration.experts_sha256 not in (None, encoding.experts.sha256):
        # Answers are judged by the default rule then, and that is told with each.
        found.notes.append(f"{url}: the experts have changed since; {CALIBRATE_AGAIN}")
