"""How often a command looks for garbage: libraries make millions of objects that stay."""

import atexit
import gc

_THRESHOLDS = (100_000, 50, 100)  # Python's own are 700, 10, 10


def collect_seldom() -> None:
    """Has Python look for reference cycles seldom, and not at all when the process ends.

    While torch and transformers are imported it looks thousands of times, through more objects
    each time, and once more through all of them at the end: a third of a short command's time
    (docs/experiments.md).
    """
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(gc.freeze)
