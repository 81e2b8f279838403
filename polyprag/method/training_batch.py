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
from polyprag.method.batches.prefix import SharedPrefix
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
        prefix: that experts leave alone, which needs examples that share a row; None: they act on
            every token.
    """

    pad_id: int
    max_tokens: int
    packs: bool
    prefix: SharedPrefix | None = None

    def groups(self, examples: Sequence[Example]) -> list[list[int]]:
        """Returns the examples of each batch, in the order in which `join` takes them.

        A batch has either examples that go on from the prefix, or others.
        """
        grouped = row_groups if self.packs else length_groups
        kinds: tuple[list[int], list[int]] = ([], [])  # whole, and after the prefix
        for i, example in enumerate(examples):
            kinds[example.skipped > 0].append(i)
        return [
            [kind[i] for i in group]
            for kind in kinds
            for group in grouped([len(examples[i]) for i in kind], self.max_tokens)
        ]

    def join(self, examples: Sequence[Example]) -> TrainingBatch:
        """Returns the batch of a group; of none, one token without a loss, for one mixture.

        Raises:
            ValueError: examples go on from a prefix that isn't here.
        """
        if not examples:
            token = torch.full((1, 1), self.pad_id, dtype=torch.int64)
            labels = torch.full_like(token, IGNORED)
            return TrainingBatch(
                token, torch.ones_like(token), labels, learnt_positions(labels, None)
            )
        prefix = self.prefix if examples[0].skipped else None
        if examples[0].skipped != len(prefix or ()):
            raise ValueError(f"{examples[0].skipped} tokens are skipped of an unknown prefix")
        examples = [example.without_prefix() for example in examples]
        targets = join_targets(examples)
        if not self.packs:
            padded = pad_batch(examples, self.pad_id)
            positions = learnt_positions(padded.labels, targets)
            return TrainingBatch(*padded, positions, targets)
        packed = pack_batch(examples, prefix)
        if targets is not None:
            places = packed.packing.starts[targets.rows] + targets.places
            targets = targets._replace(rows=torch.zeros_like(targets.rows), places=places)
        positions = learnt_positions(packed.labels, targets)
        return TrainingBatch(
            packed.input_ids, None, packed.labels, positions, targets, packed.packing
        )
