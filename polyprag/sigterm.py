"""What SIGTERM does for the length of a block."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_sigterm(handle: Callable[[], None]) -> Iterator[None]:
    """Has SIGTERM call a function in the main thread while the block runs.

    Elsewhere than in the main thread, where Python takes no signals, it does nothing.
    """

    def call(number: int, frame: FrameType | None) -> None:
        handle()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, call)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
