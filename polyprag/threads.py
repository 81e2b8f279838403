"""How the threads of numerical libraries wait for one another: asleep, not at full speed."""

import os

WAIT_POLICY = "OMP_WAIT_POLICY"


def share_cores() -> None:
    """Has OpenMP's threads sleep while they wait; before a library that has some is loaded.

    By default they spin for a while. Where something else runs on one of the cores, threads then
    burn the others to wait for the one that can't go on: five times the time that the work takes
    (docs/experiments.md). What the user has set stays as it is.
    """
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
