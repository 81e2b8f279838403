"""What workers tell each other besides gradients: a few numbers a step, JSON at checkpoints."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from cluster.parallel.failures import exit_status_of, failure, told
from polyprag.errors import StorageError

T = TypeVar("T")


def _device() -> torch.device:
    backend = distributed.get_backend()
    return (
        torch.device("cuda", torch.cuda.current_device())
        if backend == "nccl"
        else torch.device("cpu")
    )


def gather_numbers(
    numbers: Sequence[float], *, measured: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the numbers of all workers, on every worker.

    Args:
        numbers: as many on each.
        measured: a scalar that comes last; on a GPU it is read with all others, at once.

    Returns:
        float64 (world_size, numbers) on the CPU.
    """
    mine = torch.tensor(numbers, dtype=torch.float64, device=_device())
    if measured is not None:
        mine = torch.cat((mine, measured.reshape(1).to(mine)))
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
        Exception: its own error, or a `PolypragError` that says what the first worker met that had
            one, and ends a command as that would (see `cluster.parallel.failures`).
    """
    mine = None
    if error is not None:
        mine = {
            "said": told(error, rank=distributed.get_rank()),
            "exit_status": exit_status_of(error),
            "of_storage": isinstance(error, StorageError),
        }
    first = next((theirs for theirs in gather_json(mine) if theirs), None)
    if first is not None:
        raise error or failure(**first)


def run_on_all_or_raise(work: Callable[[], T]) -> T:
    """Does work on every worker, none of it collective; an error on one is raised on all.

    Raises:
        Exception: see `raise_together`.
    """
    result: list[T] = []
    error = None
    try:
        result.append(work())
    except Exception as raised:  # whatever it is: the others would wait for this worker for ever
        error = raised
    raise_together(error)
    return result[0]
