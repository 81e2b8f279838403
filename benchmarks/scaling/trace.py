"""What a worker of the scaling benchmark sends, and when: at each collective, and on its sockets.

Two counts that know nothing of each other: the tensors that are handed to torch.distributed, by
DeepSpeed and by us, and the bytes that the kernel has sent on this process's TCP connections.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from time import monotonic
from typing import Any
from unittest.mock import patch

from torch import Tensor, distributed

# The argument that holds what this worker gives, by position and by name.
COLLECTIVES = {
    "all_reduce": (0, "tensor"),
    "all_gather": (1, "tensor"),
    "all_gather_into_tensor": (1, "input_tensor"),
    "all_gather_single": (1, "input_tensor"),
    "reduce": (0, "tensor"),
    "broadcast": (0, "tensor"),
    "reduce_scatter": (1, "input_list"),
    "reduce_scatter_tensor": (1, "input"),
    "reduce_scatter_single": (1, "input"),
    "all_to_all_single": (1, "input"),
    "barrier": (0, None),
}
# Linux: struct tcp_info
_BYTES_RECEIVED, _BYTES_SENT, _BYTES_RETRANS, _TCP_INFO_SIZE = 128, 200, 208, 216


@dataclass(frozen=True, slots=True)
class Call:
    """A collective as one worker saw it; times are the machine's monotonic clock.

    Attributes:
        name: of the function.
        num_bytes: of the tensor that this worker gave.
        begin: when the worker came to it.
        end: when it went on.
    """

    name: str
    num_bytes: int
    begin: float
    end: float


@contextmanager
def traced(calls: list[Call]) -> Iterator[None]:
    """Has every collective of this process noted in `calls` while the block runs.

    Raises:
        RuntimeError: one is asynchronous, whose end wouldn't be seen.
    """

    def noted(name: str, position: int, keyword: str | None) -> Callable[..., Any]:
        function = getattr(distributed, name)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = args[position] if len(args) > position else kwargs.get(keyword or "")
            begin = monotonic()
            result = function(*args, **kwargs)
            if result is not None:
                raise RuntimeError(f"{name} is asynchronous: its time can't be told")
            calls.append(Call(name, _num_bytes(given) if keyword else 0, begin, monotonic()))
            return result

        return call

    there = {name: of for name, of in COLLECTIVES.items() if hasattr(distributed, name)}
    with patch.multiple(distributed, **{name: noted(name, *of) for name, of in there.items()}):
        yield


def _num_bytes(given: Any) -> int:
    tensors = [given] if isinstance(given, Tensor) else given or []
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def sent_by_algorithm(name: str, num_bytes: int, *, workers: int) -> float:
    """The bytes that a worker sends in a collective by the algorithm that moves least.

    Rings: an all-reduce sends 2 (W - 1) / W of its tensor, an all-gather W - 1 times its share.

    Args:
        name: of the collective.
        num_bytes: of the tensor that the worker gives.
        workers: W.

    Raises:
        ValueError: it is none that a training step here has.
    """
    if name == "all_reduce":
        return 2 * (workers - 1) / workers * num_bytes
    if name.startswith("all_gather"):
        return (workers - 1) * num_bytes
    if name.startswith("reduce_scatter"):
        return (workers - 1) / workers * num_bytes
    if name == "barrier":
        return 0
    raise ValueError(f"{name}: no formula")


def socket_bytes() -> tuple[int, int]:
    """The bytes sent and received so far on this process's TCP connections, headers of IP apart.

    What was sent twice because the other side's acknowledgement was late counts once.
    """
    sent = received = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(descriptor))) as sock:
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        except OSError:  # gone meanwhile, or not TCP
            continue
        if len(info) == _TCP_INFO_SIZE:
            sent += _u64(info, _BYTES_SENT) - _u64(info, _BYTES_RETRANS)
            received += _u64(info, _BYTES_RECEIVED)
    return sent, received


def _u64(info: bytes, offset: int) -> int:
    return int(struct.unpack_from("=Q", info, offset)[0])
