"""One mixture as a single LoRA: the gates go into B, and the experts are one low-rank product.

    s sum_k gates_k B_k A_k = B' A     A: (K r, d_in)   B' = s B diag(repeat(gates, r))

It is exact at rank K r. A smaller rank is the best there is (Eckart and Young, by singular values),
and what it leaves out is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from polyprag.method.experts import ExpertPool


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """Low-rank changes of a model's Linears.

    Attributes:
        factors: by module name, A (rank, d_in) and B (d_out, rank), float32; the change is B A.
        error: the part of the mixture that is left out, as the Frobenius norm of all changes
            together, from 0 to 1.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    error: float = 0.0

    @property
    def rank(self) -> int:
        """Of every change."""
        A, _ = next(iter(self.factors.values()))
        return len(A)

    @property
    def num_bytes(self) -> int:
        """Bytes of all factors."""
        return sum(A.nbytes + B.nbytes for A, B in self.factors.values())


@torch.no_grad()
def lora_of_mixture(
    pool: ExpertPool,
    gates_SK: Tensor,
    *,
    rank: int | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> Lora:
    """Returns a mixture as one LoRA.

    Args:
        pool: the experts.
        gates_SK: (S, K) float32.
        rank: of every change; None, or K r and more: exact.
        state: the experts' weights, where the pool is without any (on the meta device).

    Raises:
        ValueError: the rank is below 1.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"rank={rank}: must be at least 1")
    factors = pool.mixed(gates_SK, state=state)
    if rank is None or rank >= pool.num_experts * pool.rank:
        return Lora(factors)
    cut, left_out, whole = {}, 0.0, 0.0
    for name, (A, B) in factors.items():
        cut[name], (lost, all_of_it) = _truncated(A, B, rank)
        left_out, whole = left_out + lost, whole + all_of_it
    return Lora(cut, error=(left_out / whole) ** 0.5 if whole else 0.0)


@torch.no_grad()
def lora_of_expert(pool: ExpertPool, expert: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns one expert of each Linear: A (r, d_in) and B (d_out, r), float32, not scaled.

    Args:
        pool: the experts.
        expert: its number, from 0.
    """
    weights = pool.state_dict()
    mine = slice(expert * pool.rank, (expert + 1) * pool.rank)
    return {
        name: (weights[f"{name}.A"][mine], weights[f"{name}.B"][:, mine])
        for name in pool.module_names
    }


def _truncated(
    A: Tensor, B: Tensor, rank: int
) -> tuple[tuple[Tensor, Tensor], tuple[float, float]]:
    """Returns the best factors of a rank, and the squared norms of what is lost and of all."""
    Q_B, R_B = torch.linalg.qr(B.double())
    Q_A, R_A = torch.linalg.qr(A.double().T)
    U, sizes, Vh = torch.linalg.svd(R_B @ R_A.T)  # of (K r, K r), not of (d_out, d_in)
    kept = sizes[:rank].sqrt()
    new_B = (Q_B @ U[:, :rank] * kept).float().contiguous()
    new_A = ((kept[:, None] * Vh[:rank]) @ Q_A.T).float().contiguous()
    squares = sizes.square()
    return (new_A, new_B), (float(squares[rank:].sum()), float(squares.sum()))
