"""A physical batch as training runs it: what the model reads, and all that the loss needs.

Shapes: B examples of T tokens, or one row of N (B is 1 there), S sites, K experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from polyprag.method.batches.packed import Packing, pack_batch, row_groups
from polyprag.method.batches.padded import length_groups, pad_batch
from polyprag.method.examples import IGNORED, Example
from polyprag.method.experts import ExpertPool
from polyprag.method.loss import learnt_positions, logits_at, training_loss_sum
from polyprag.method.teacher.targets import TargetBatch, join_targets

_FEW = 0.75  # of a row's tokens: leaving out the others is worth the copies


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """Examples in one forward and backward pass.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T); None in a packed row.
        labels: (B, T) int64, -100 where there is no loss; not shifted.
        positions: (n,) int64, the positions whose logits are learnt.
        targets: the teacher's; None where nothing is learnt of one.
        packing: of a packed row.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    positions: Tensor
    targets: TargetBatch | None = None
    packing: Packing | None = None

    def to(self, device: torch.device) -> "TrainingBatch":
        """Returns the same on a device."""
        mask, targets, packing = self.attention_mask, self.targets, self.packing
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=None if mask is None else mask.to(device),
            labels=self.labels.to(device),
            positions=self.positions.to(device),
            targets=None if targets is None else targets.to(device),
            packing=None if packing is None else packing.to(device),
        )

    def loss_sum(
        self, model: PreTrainedModel, pool: ExpertPool, gates: Tensor, *, distill_weight: float
    ) -> Tensor:
        """Returns the batch's summed loss, a float32 scalar.

        Args:
            model: with `pool`; within `attending_packed` where this is a packed row.
            pool: the experts.
            gates: (B, S, K), of each example, in their order.
            distill_weight: of the teacher's part.
        """
        rows = None if self.packing is None else self.packing.token_rows
        has_others = rows is not None and len(self.positions) < _FEW * rows.numel()
        with pool.gated(gates, rows, needed=self.positions if has_others else None):
            logits = logits_at(
                model, self.input_ids, self.attention_mask, self.positions, self.packing
            )
        return training_loss_sum(
            logits,
            self.labels,
            self.targets,
            distill_weight=distill_weight,
            positions=self.positions,
        )


@dataclass(frozen=True, slots=True)
class Batcher:
    """Makes physical batches of examples.

    Attributes:
        pad_id: token id on padding.
        max_tokens: of a batch, padding included.
        packs: whether the model's examples may share a row (`cannot_pack` says).
    """

    pad_id: int
    max_tokens: int
    packs: bool

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Returns the examples of each batch, in the order in which `join` takes them."""
        if self.packs:
            return row_groups(lengths, self.max_tokens)
        return length_groups(lengths, self.max_tokens)

    def join(self, examples: Sequence[Example]) -> TrainingBatch:
        """Returns the batch of a group; of none, one token without a loss, for one mixture."""
        if not examples:
            token = torch.full((1, 1), self.pad_id, dtype=torch.int64)
            labels = torch.full_like(token, IGNORED)
            return TrainingBatch(
                token, torch.ones_like(token), labels, learnt_positions(labels, None)
            )
        targets = join_targets(examples)
        if not self.packs:
            padded = pad_batch(examples, self.pad_id)
            positions = learnt_positions(padded.labels, targets)
            return TrainingBatch(*padded, positions, targets)
        packed = pack_batch(examples)
        if targets is not None:
            places = packed.packing.starts[targets.rows] + targets.places
            targets = targets._replace(rows=torch.zeros_like(targets.rows), places=places)
        positions = learnt_positions(packed.labels, targets)
        return TrainingBatch(
            packed.input_ids, None, packed.labels, positions, targets, packed.packing
        )
