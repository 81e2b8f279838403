"""Ends a worker that makes no progress with a named error, so that Ray starts it again.

A collective that waits for a worker which will never come, a storage that never answers or a
deadlock would otherwise hold a cluster until somebody looks.
"""

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from sharding.storage.closing import Closing

_LOG = logging.getLogger(__name__)
_EXIT_STATUS = 75  # EX_TEMPFAIL: another try may do
_TELLING_S = 10.0  # at most, before it ends anyway
_FRAMES = 3  # of the stalled thread, innermost last, that are told in one line


class Watchdog(Closing):
    """Calls for help when nobody has called `beat` for too long."""

    def __init__(self, seconds: float, stalled: Callable[[str], None]) -> None:
        """Watches the thread that makes it, from the first beat on.

        Args:
            seconds: without a beat; 0 watches nothing.
            stalled: is called from another thread, once, with what was wrong.
        """
        self._seconds, self._stalled = seconds, stalled
        self._watched = threading.get_ident()
        self._last = time.monotonic()
        self._doing = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, doing: str) -> None:
        """Tells that there is progress.

        Args:
            doing: what comes next, for the error.
        """
        self._last, self._doing = time.monotonic(), doing
        if self._seconds and self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Watches no longer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 4)):
            passed = time.monotonic() - self._last
            if passed > self._seconds:
                self._stalled(
                    f"no progress for {passed:.0f} s (cluster.stall_seconds="
                    f"{self._seconds:g}) at: {self._doing}, in {self._place()}"
                )
                return

    def _place(self) -> str:
        frame = sys._current_frames().get(self._watched)
        found = traceback.extract_stack(frame)[-_FRAMES:] if frame is not None else []
        return " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in found) or "?"


def _stacks() -> str:
    """Returns where every thread is, innermost last.

    The code isn't read, its storage may hang as well.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():
        lines.append(f"thread {names.get(ident, ident)}:")
        for at, line in reversed(list(traceback.walk_stack(frame))):
            lines.append(f"  {at.f_code.co_filename}:{line} {at.f_code.co_name}")
    return "\n".join(lines)


def end_stalled_worker(message: str, *, tell: Callable[[str], None]) -> None:
    """Logs where every thread is, and ends the process: nothing else ends a stuck collective.

    Args:
        message: what was wrong.
        tell: is called with it first.
    """
    _LOG.error("%s; the threads' stacks:\n%s", message, _stacks())
    teller = threading.Thread(target=tell, args=(message,), daemon=True)
    teller.start()
    teller.join(timeout=_TELLING_S)  # the storage itself may be what hangs
    os._exit(_EXIT_STATUS)
