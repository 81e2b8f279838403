"""What runs as a Ray job: a polyprag command, again after a failure that another try may mend.

    python -m cluster.jobs.entry RETRIES COMMAND RUN ...

Ray doesn't start a job's driver again. A mistake of the user (exit status 2), an error that
comes again (70) and an interruption aren't retried; every try goes on from what the one before has
left.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

FINAL = (0, 2, 70, 130, 143)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
_LOOK_S = 0.1  # for a stop meanwhile


def run(command: Sequence[str], *, retries: int) -> int:
    """Runs a command until it succeeds, or fails for good.

    Args:
        command: the program and its arguments.
        retries: tries after the first.

    Returns:
        The last try's exit status; 128 plus the signal's number where one ended it, or came
        between two tries.
    """
    running: subprocess.Popen[bytes] | None = None
    stopped = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = number
        if running is not None:
            running.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for attempt in range(retries + 1):
        running = subprocess.Popen(command)
        if stopped:  # between the tries
            running.send_signal(stopped)
        code = running.wait()
        if stopped or code in FINAL or attempt == retries:
            break
        wait = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
        print(
            f"polyprag ended with status {code}; try {attempt + 2} begins in {wait:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        until = time.monotonic() + wait
        while not stopped and time.monotonic() < until:  # a signal doesn't end a sleep
            time.sleep(_LOOK_S)
        if stopped:
            return 128 + stopped
    return code if code >= 0 else 128 - code


def main() -> None:
    """Runs `polyprag` with the arguments after the first, which is the number of retries."""
    retries, *arguments = sys.argv[1:]
    sys.exit(run([sys.executable, "-m", "polyprag", *arguments], retries=int(retries)))


if __name__ == "__main__":
    main()
