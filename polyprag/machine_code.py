"""Python loops that numba compiles."""

from collections.abc import Callable
from typing import Any


def machine_code(function: Callable[..., Any], *signatures: Any, **options: Any) -> Any:
    """A function as machine code that runs without the GIL.

    It is kept for the next process in `__pycache__` beside the function's file, or in the user's
    cache directory; where neither can be written to, every process compiles it.

    Args:
        function: a loop over arrays.
        signatures: compiled at once; without any each is compiled when it is first called.
        options: of `numba.njit`.
    """
    import numba  # half a second, and only who calls this needs it

    compiler: Any = numba.njit
    arguments = [list(signatures)] if signatures else []
    try:
        return compiler(*arguments, nogil=True, cache=True, **options)(function)
    except (OSError, RuntimeError):
        return compiler(*arguments, nogil=True, **options)(function)
