"""How likely the base model alone finds answers that were made with passages: one forward pass.

An answer that the passages don't make likelier wasn't read off them. B sequences of a pass, T
tokens, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from polyprag.method.batches.padded import length_groups, pad_batch
from polyprag.method.examples import IGNORED
from polyprag.method.loss import learnt_positions, logits_at

_MAX_LOGITS = 1 << 26  # (B, T, V) numbers of a pass: 256 MiB of float32


@dataclass(frozen=True, slots=True)
class _Forced:
    """A prompt and the answer whose tokens are scored."""

    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]


@torch.inference_mode()
def logprobs_of(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    pad_id: int,
) -> list[tuple[float, ...]]:
    """Returns the natural log-probability of each token of each answer after its prompt.

    Call it outside of `ExpertPool.gated` to have the base model alone.

    Args:
        model: a causal LM in eval mode.
        prompts: token ids, at least one each.
        answers: token ids of the answers; one may be empty.
        pad_id: fills batches up.
    """
    forced = []
    for prompt, answer in zip(prompts, answers, strict=True):
        labels = np.full(len(prompt) + len(answer), IGNORED, dtype=np.int32)
        labels[len(prompt) :] = answer
        forced.append(_Forced(np.asarray([*prompt, *answer], dtype=np.int32), labels))
    found: dict[int, tuple[float, ...]] = {i: () for i in range(len(forced))}
    asked = [i for i, answer in enumerate(answers) if len(answer)]
    vocabulary = len(cast(torch.Tensor, model.get_input_embeddings().weight))
    lengths = [len(forced[i].input_ids) for i in asked]
    for group in length_groups(lengths, max_tokens=max(1, _MAX_LOGITS // vocabulary)):
        places = [asked[i] for i in group]
        batch = pad_batch([forced[i] for i in places], pad_id)
        positions = learnt_positions(batch.labels, None)
        logits_BnV = logits_at(
            model,
            batch.input_ids.to(model.device),
            batch.attention_mask.to(model.device),
            positions.to(model.device),
        )
        for i, logits_nV in zip(places, logits_BnV, strict=True):
            before = torch.tensor([len(prompts[i]) - 1, len(forced[i].input_ids) - 1])
            start, end = torch.searchsorted(positions, before).tolist()
            scores_nV = logits_nV[start:end].float().log_softmax(dim=-1)
            taken = torch.tensor(answers[i], device=scores_nV.device)
            found[i] = tuple(scores_nV.gather(1, taken[:, None])[:, 0].tolist())
    return [found[i] for i in range(len(forced))]
