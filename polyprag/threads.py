"""How the threads of numerical libraries wait for one another: asleep, not at full speed."""

import os


def share_cores() -> None:
    """Has OpenMP's threads sleep while they wait; before any library that has some is loaded.

    By default they spin. Where something else runs on one of the cores, the others then burn theirs
    while they wait for the one that can't go on, and may take the time slice that it needs. What the
    user has set stays as it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
