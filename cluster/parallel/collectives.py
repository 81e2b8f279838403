"""What workers tell each other besides gradients: a few numbers a step, JSON at checkpoints."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from polyprag.errors import TRY_AGAIN, PolypragError, RunError, StorageError

T = TypeVar("T")


def _device() -> torch.device:
    backend = distributed.get_backend()
    return (
        torch.device("cuda", torch.cuda.current_device())
        if backend == "nccl"
        else torch.device("cpu")
    )


def gather_numbers(numbers: Sequence[float]) -> torch.Tensor:
    """Returns the numbers of all workers, float64 (world_size, len(numbers)), on every worker."""
    mine = torch.tensor(numbers, dtype=torch.float64, device=_device())
    everyone = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyone, mine)
    return torch.stack(everyone).cpu()


def gather_json(value: Any) -> list[Any]:
    """Returns every worker's value, by rank, on every worker; JSON rather than pickle.

    Args:
        value: anything that `json` writes.
    """
    data = json.dumps(value).encode()
    sizes = gather_numbers([len(data)])[:, 0].long()
    longest = max(int(sizes.max()), 1)
    mine = torch.zeros(longest, dtype=torch.uint8)
    mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    mine = mine.to(_device())
    everyone = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyone, mine)
    return [
        json.loads(bytes(row[: int(size)].cpu().numpy()))
        for row, size in zip(everyone, sizes, strict=True)
    ]


def bytes_of_first(data: bytes) -> bytes:
    """Returns worker 0's bytes on every worker.

    Args:
        data: is passed over on the others.
    """
    length = int(gather_numbers([len(data)])[0, 0])
    if length == 0:
        return b""
    is_first = distributed.get_rank() == 0
    content = (
        torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if is_first
        else torch.empty(length, dtype=torch.uint8)
    ).to(_device())
    distributed.broadcast(content, src=0)
    return bytes(content.cpu().numpy())


def raise_together(error: Exception | None) -> None:
    """Raises on every worker what any of them met; returns when none did.

    Raises:
        Exception: its own error, or a `RunError` or `StorageError` that says what the first worker
            met that had one.
    """
    said = str(error) if isinstance(error, PolypragError) else repr(error)
    may_pass = isinstance(error, PolypragError) and error.exit_status == TRY_AGAIN
    mine = {"said": said, "may_pass": may_pass} if error else None
    first = next((theirs for theirs in gather_json(mine) if theirs), None)
    if first is not None:
        raise error or (StorageError if first["may_pass"] else RunError)(first["said"])


def run_on_all_or_raise(work: Callable[[], T]) -> T:
    """Does work on every worker, none of it collective; a user's error on one is raised on all.

    Raises:
        PolypragError: see `raise_together`.
    """
    result: list[T] = []
    error = None
    try:
        result.append(work())
    except PolypragError as raised:
        error = raised
    raise_together(error)
    return result[0]
