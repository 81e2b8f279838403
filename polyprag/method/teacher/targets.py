"""What a teacher says at an answer's tokens: the likeliest next tokens, and all others as one.

The teacher is the same base model with its experts off and the passage in its prompt; the student
has the passage's gates and no passage. Of each of the teacher's distributions the k likeliest
tokens are kept with their log-probabilities, and one number for the rest, the tail.

Shapes: A tokens of an answer with its EOS, n targets of a batch, k kept tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """The teacher's distributions at the last tokens of a sequence.

    Attributes:
        ids: (A, k) int32, the likeliest tokens.
        log_probs: (A, k + 1) float16, theirs and that of the tail in nats.
    """

    ids: npt.NDArray[np.int32]
    log_probs: npt.NDArray[np.float16]

    def __len__(self) -> int:
        """Returns the number of tokens, A."""
        return len(self.ids)

    def last(self, count: int) -> "TeacherTargets":
        """Returns those of the last tokens, at most so many."""
        first = max(len(self) - count, 0)
        return TeacherTargets(self.ids[first:], self.log_probs[first:])


class TaughtAnswer(NamedTuple):
    """What the teacher has to say about a question.

    Attributes:
        ids: (A,) int32, the answer's tokens as they follow the prompt, with EOS.
        targets: its distributions at these.
    """

    ids: npt.NDArray[np.int32]
    targets: TeacherTargets


class AnswerSource(Protocol):
    """Where the teacher's answers come from; several threads use it at once."""

    def of(self, passage_id: int, question: int) -> TaughtAnswer:
        """Returns what was kept of a passage's question, by its number among the passage's."""


class TargetBatch(NamedTuple):
    """The targets of a physical batch, one after the other.

    Attributes:
        rows: (n,) int64, the sequence of each.
        places: (n,) int64, the position whose logits are held against it.
        ids: (n, k) int64.
        log_probs: (n, k + 1) float32.
    """

    rows: Tensor
    places: Tensor
    ids: Tensor
    log_probs: Tensor

    def to(self, device: torch.device) -> "TargetBatch":
        """Returns the same on a device."""
        return TargetBatch(*(tensor.to(device) for tensor in self))


class TaughtSequence(Protocol):
    """What has targets or not, such as `polyprag.method.examples.Example`."""

    @property
    def input_ids(self) -> npt.NDArray[np.int32]:
        """(T,) token ids."""

    @property
    def targets(self) -> TeacherTargets | None:
        """Of the last tokens; None where the text alone is learnt."""


def join_targets(examples: Sequence[TaughtSequence]) -> TargetBatch | None:
    """Returns the targets of right-padded sequences; None where none has any.

    The first token of a sequence is predicted by nothing, so a target there is left out.
    """
    rows, places, found = [], [], []
    for row, example in enumerate(examples):
        if example.targets is None:
            continue
        length = len(example.input_ids)
        targets = example.targets.last(length - 1)
        found.append(targets)
        places.append(np.arange(length - len(targets) - 1, length - 1))
        rows.append(np.full(len(targets), row))
    if not found:
        return None
    return TargetBatch(
        torch.from_numpy(np.concatenate(rows).astype(np.int64)),
        torch.from_numpy(np.concatenate(places).astype(np.int64)),
        torch.from_numpy(np.concatenate([each.ids for each in found]).astype(np.int64)),
        torch.from_numpy(np.concatenate([each.log_probs for each in found]).astype(np.float32)),
    )


def likeliest(logits_nV: Tensor, *, top_k: int) -> TeacherTargets:
    """Returns what is kept of distributions given by their logits, of any float dtype.

    One token at least is left for the tail.
    """
    log_probs_nV = torch.log_softmax(logits_nV.float(), dim=-1)
    top_nk, ids_nk = log_probs_nV.topk(min(top_k, log_probs_nV.shape[-1] - 1), dim=-1)
    tail_n1 = log_probs_nV.scatter(-1, ids_nk, -torch.inf).logsumexp(dim=-1, keepdim=True)
    kept = torch.cat([top_nk, tail_n1], dim=-1).cpu().numpy()
    with np.errstate(over="ignore"):  # what is below -65504 is a probability of 0
        return TeacherTargets(ids_nk.cpu().numpy().astype(np.int32), kept.astype(np.float16))
