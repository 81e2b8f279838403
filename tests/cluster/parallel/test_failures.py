"""Which errors start the workers again: by hand-made and real errors of each kind."""

import errno

import numpy as np
import pytest
import torch
from torch import distributed

from cluster.parallel.failures import exit_status_of, failure, told
from polyprag.errors import (
    ConfigError,
    FileError,
    PolypragError,
    RunError,
    StorageError,
    WorkerBugError,
    WorkersFailedError,
)
from polyprag.method.batches.padded import pad_batch


def raised(code: str) -> Exception:
    """The error that code really raises."""
    try:
        exec(code, {"torch": torch, "np": np})
    except Exception as error:
        return error
    raise AssertionError(f"{code} raises nothing")


# As PyTorch words them, from the threads of its issue tracker.
GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
    "[127.0.0.1]:41331"
)
OF_MACHINES = [
    RuntimeError(GLOO),
    RuntimeError("[c10d] The client socket has timed out after 60000ms"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("NCCL communicator was aborted on rank 1"),
    RuntimeError("can't start new thread"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    distributed.DistBackendError("remote process exited"),
    distributed.DistStoreError("wait timeout"),
    MemoryError(),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError("no answer"),
    OSError(errno.EIO, "Input/output error"),
    StorageError("s3://b: failed again and again"),
    WorkersFailedError("too often"),
    Exception("of a kind that nobody thought of"),
]
OF_CODE = [
    raised("torch.ones(2, 3) @ torch.ones(2, 3)"),
    raised("torch.nn.functional.embedding(torch.tensor([9]), torch.ones(3, 2))"),
    raised("torch.ones(2).reshape(3)"),
    raised("torch.ones(2) + torch.ones(3)"),
    raised("np.ones((2, 3)) @ np.ones((2, 3))"),
    raised("len(3)"),
    raised("{}['key']"),
    raised("None.name"),
    raised("1 // 0"),
    raised("assert False"),
    raised("import no_such_package"),
    raised("def f(): f()\nf()"),
    raised("raise NotImplementedError"),
    RuntimeError("Expected all tensors to be on the same device, found cuda:0 and cpu!"),
    RuntimeError("CUDA error: device-side assert triggered"),
    WorkerBugError("worker 1: TypeError"),
]
OF_THE_USER = [
    RunError("step 4 isn't taken"),
    ConfigError("model.path"),
    FileError("gone"),
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied"),
]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (error, status)
        for errors, status in ((OF_MACHINES, 75), (OF_CODE, 70), (OF_THE_USER, 2))
        for error in errors
    ],
    ids=repr,
)
def test_only_what_another_start_may_mend_is_tried_again(error: Exception, status: int) -> None:
    assert exit_status_of(error) == status
    others = failure(told(error, rank=1), exit_status=status)
    assert isinstance(others, PolypragError) and others.exit_status == status


def test_a_bug_is_told_with_its_worker_place_and_log() -> None:
    with pytest.raises(ValueError, match="empty") as raised_here:
        pad_batch([], 0)
    said = told(raised_here.value, rank=3)
    assert said.startswith("worker 3: ValueError: ") and "logs/worker-3.log" in said
    assert "(polyprag/method/batches/padded.py, line " in said
