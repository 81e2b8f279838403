"""Whether another start of the workers may mend what one of them met, by its type and origin.

What comes from a machine, a network or a storage may be gone the next time. What comes from the
code, its settings or its model comes again. An error of a kind that nobody thought of counts as
one that may be gone: a run of days shouldn't end for it.
"""

import re
import traceback
from pathlib import Path

import torch
from torch import distributed

from polyprag.errors import (
    NO_OTHER_TRY,
    OF_THE_MACHINE,
    TRY_AGAIN,
    PolypragError,
    RunError,
    StorageError,
    WorkerBugError,
    WorkersFailedError,
)

_OF_CODE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
    ValueError,
)
_OF_MACHINES = (
    distributed.DistError,
    # PyTorch has it from 2.8 on; before that its words tell.
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),
    torch.OutOfMemoryError,
)
# PyTorch has one type for what a shape, a network and a GPU did; only its words tell them apart.
_SAID_OF_MACHINES = re.compile(
    r"gloo|NCCL|c10d|TCPStore|CUDA error|CUDA driver|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error"
    r"|NVML|CUDACachingAllocator|HIP error|out of memory|allocate memory|start new thread"
    r"|connection (closed|reset|refused)"
    r"|broken pipe|timed out|shared memory|after (interpreter )?shutdown",
    re.IGNORECASE,
)
_SAID_OF_CODE = re.compile("device-side assert", re.IGNORECASE)  # an index that isn't there
_PACKAGES = ("cluster", "polyprag", "sharding")


def exit_status_of(error: BaseException) -> int:
    """Returns the exit status of a command whose worker met an error.

    Returns:
        That of a `PolypragError`; 2 where the user mends a machine's error, such as a full disk;
        `TRY_AGAIN` where another start may mend it; else `NO_OTHER_TRY`.
    """
    if isinstance(error, PolypragError):
        return error.exit_status
    if isinstance(error, OSError):
        return RunError.exit_status if error.errno in OF_THE_MACHINE else TRY_AGAIN
    is_codes = isinstance(error, _OF_CODE)
    if isinstance(error, RuntimeError):
        said = str(error)
        is_machines = isinstance(error, _OF_MACHINES) or _SAID_OF_MACHINES.search(said)
        is_codes = not is_machines or _SAID_OF_CODE.search(said) is not None
    return NO_OTHER_TRY if is_codes else TRY_AGAIN


def told(error: Exception, *, rank: int) -> str:
    """Returns what a worker met in a line for everybody; a `PolypragError` speaks for itself."""
    if isinstance(error, PolypragError):
        return str(error)
    lines = str(error).strip().splitlines()
    said = f"worker {rank}: {type(error).__name__}: {lines[0] if lines else ''}{_place(error)}"
    if exit_status_of(error) == NO_OTHER_TRY:
        said += (
            "; another start would meet it again: its traceback is in the run's "
            f"logs/worker-{rank}.log, look there for what the code, the model or a setting did"
        )
    return said


def failure(said: str, *, exit_status: int, of_storage: bool = False) -> PolypragError:
    """Returns the error that ends a command with an exit status, or may be tried again."""
    if exit_status == TRY_AGAIN:
        return StorageError(said) if of_storage else WorkersFailedError(said)
    return WorkerBugError(said) if exit_status == NO_OTHER_TRY else RunError(said)


def _place(error: Exception) -> str:
    """Returns where in our code an error came up."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        start = next((i for i, part in enumerate(parts) if part in _PACKAGES), None)
        if start is not None and "site-packages" not in parts[start:]:
            return f" ({'/'.join(parts[start:])}, line {frame.lineno})"
    return ""
