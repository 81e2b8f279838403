"""Routing rows for new passages, with the experts frozen.

A trained pool is a dictionary of weight updates, and a new passage needs only its row in it. Rows
are independent of each other, so a partition is trained alone, all of its passages in one batch.
Best found (docs/experiments.md): start at zero, so that the row holds nothing but what its own
examples ask for, and take many small steps with a falling rate.

Shapes: n passages of a partition, M of them in a step, S sites, K experts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.config import Config
from polyprag.errors import RunError
from polyprag.method.batches.attention import attending_packed
from polyprag.method.examples import Example, ExampleMaker
from polyprag.method.experts import ExpertPool
from polyprag.method.finite import is_finite, rows_not_finite
from polyprag.method.loss import teacher_weight
from polyprag.method.router import gates as gates_of
from polyprag.method.rows.optimizer import RowAdam
from polyprag.method.support.packing import batcher_for
from polyprag.method.teacher.targets import AnswerSource
from sharding.corpus.passages import Record
from sharding.rows.part import RowPartition, second_moment_shape

StepProgress = Callable[[int, int], None]  # steps done, steps in all

_NAMED = 3  # passages, in an error


@dataclass(frozen=True, slots=True)
class TrainedRows:
    """The rows of one partition and how well they fit.

    Attributes:
        part: rows, moments and step counts; passages without examples keep their start.
        loss: mean loss a token over the last tenth of the steps, in nats; None without examples.
    """

    part: RowPartition
    loss: float | None


class RowTrainer:
    """Trains rows against one frozen expert pool, one partition at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        pool: ExpertPool,
        tokenizer: PreTrainedTokenizerBase,
        config: Config,
        *,
        taught: AnswerSource | None = None,
    ) -> None:
        """Freezes the pool.

        Args:
            model: the base, in eval mode, with `pool` injected and its trained weights loaded.
            pool: the experts; they stop requiring gradients.
            tokenizer: the model's.
            config: the encoding's, with `add` for the recipe.
            taught: what the teacher says, where `train.objective` has one.
        """
        for parameter in pool.parameters():
            parameter.requires_grad_(False)
        self._model, self._pool, self._config = model, pool, config
        self._batcher = batcher_for(model, pool, config, tokenizer)
        self._maker = ExampleMaker(
            tokenizer,
            config.data,
            loss_on=config.train.loss_on,
            objective=config.train.objective,
            taught=taught,
            generation=config.generation,
            skip_prefix=config.experts.skip_prefix,
        )
        self._optimizer = RowAdam(
            lr=config.add.rows_lr,
            betas=(config.train.beta1, config.train.beta2),
            grad_clip=config.train.rows_grad_clip,
        )

    def train(
        self,
        records: Sequence[Record],
        start_nSK: npt.NDArray[np.float32],
        *,
        partition: int,
        seed: int,
        progress: StepProgress | None = None,
    ) -> TrainedRows:
        """Trains the rows of one partition; the result depends on the arguments only.

        Args:
            records: the partition's, in the order of their ids, with their augmentations.
            start_nSK: (n, S, K) float32, where each row starts; it isn't changed.
            partition: its number.
            seed: of the order of the examples.
            progress: called after every step.

        Raises:
            ValueError: the start doesn't fit the records or the pool.
            RunError: the loss or a gradient isn't finite; names the passages.
        """
        shape = (len(records), self._pool.num_sites, self._pool.num_experts)
        if not records or start_nSK.shape != shape or start_nSK.dtype != np.float32:
            raise ValueError(
                f"rows that start as {start_nSK.dtype} {start_nSK.shape} can't be trained: "
                f"{len(records)} records (at least 1) and this pool need float32 {shape}"
            )
        second_moment = second_moment_shape(shape, self._config.train.rows_second_moment)
        part = RowPartition(
            index=partition,
            first_id=records[0].passage.id,
            rows=start_nSK.copy(),
            exp_avg=np.zeros(shape, np.float32),
            exp_avg_sq=np.zeros(second_moment, np.float32),
            steps=np.zeros(len(records), np.int32),
        )
        keys = [record.passage.key for record in records]
        examples = self._examples(records)
        with attending_packed(self._model) if self._batcher.packs else nullcontext():
            loss = self._fit(part, examples, keys, seed, progress)
        return TrainedRows(part, loss)

    def _examples(self, records: Sequence[Record]) -> list[list[Example]]:
        """Returns each passage's examples."""
        counts = [self._maker.count(record) for record in records]
        wanted = [(r, i) for r, n in zip(records, counts, strict=True) for i in range(n)]
        made = iter(self._maker.make(wanted))
        return [[next(made) for _ in range(n)] for n in counts]

    def _fit(
        self,
        part: RowPartition,
        examples: Sequence[Sequence[Example]],
        keys: Sequence[str],
        seed: int,
        progress: StepProgress | None,
    ) -> float | None:
        steps = self._config.add.steps
        sequence = np.random.SeedSequence(seed, spawn_key=(part.index,))
        generator = np.random.Generator(np.random.Philox(sequence))
        per_step = self._config.add.examples_per_step
        turns = [_turns(len(own), per_step, generator) for own in examples]
        active = np.flatnonzero([len(own) > 0 for own in examples])
        noise = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._model.device)
        num_tokens = 0
        for step in range(steps):
            chosen = [
                (at, examples[i][j]) for at, i in enumerate(active.tolist()) for j in next(turns[i])
            ]
            if not chosen:
                return None
            rows_MSK = torch.from_numpy(part.rows[active]).requires_grad_()
            loss, tokens_M = self._backward(rows_MSK, chosen, noise)
            # A passage's own loss alone moves its row: its tokens' mean, whatever the others have.
            grad_MSK = _gradient(rows_MSK) / tokens_M.clamp(min=1).view(-1, 1, 1)
            if not is_finite(grad_MSK):
                wrong = active[rows_not_finite(grad_MSK)].tolist()
                self._refuse(step + 1, [keys[i] for i in wrong])
            self._optimizer.update(
                part.rows,
                part.exp_avg,
                part.exp_avg_sq,
                part.steps,
                index=active,
                grad=grad_MSK,
                lr=self._config.add.rows_lr * (1 - step / steps),
            )
            if step >= steps - max(steps // 10, 1):
                loss_sum, num_tokens = loss_sum + loss, num_tokens + int(tokens_M.sum())
            if progress is not None:
                progress(step + 1, steps)
        mean_loss = float(loss_sum) / max(num_tokens, 1)
        if not math.isfinite(mean_loss):
            self._refuse(steps, [keys[i] for i in active.tolist()])
        return mean_loss

    def _refuse(self, step: int, keys: Sequence[str]) -> NoReturn:
        named = ", ".join(map(repr, keys[:_NAMED]))
        more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        raise RunError(
            f"update {step} of the added rows: loss or gradients of {named}{more} aren't finite, "
            "and no row is kept. Look at the text of these passages; or lower add.rows_lr "
            f"({self._config.add.rows_lr:g} now) or compute in model.dtype=fp32, and run the "
            "command again"
        )

    def _backward(
        self, rows_MSK: Tensor, chosen: Sequence[tuple[int, Example]], noise: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Leaves the gradient of the summed loss in `rows_MSK.grad`.

        Args:
            rows_MSK: a leaf on the CPU.
            chosen: the step's examples, each with the place of its row in `rows_MSK`.
            noise: of a RelaxedBernoulli.

        Returns:
            The summed loss, a float64 scalar on the device, and (M,) the tokens in it of each row.
        """
        router, device = self._config.router, self._model.device
        gates_MSK = gates_of(rows_MSK, router, training=True, generator=noise)
        # The graph from rows to gates is walked once, whatever the number of physical batches.
        used_MSK = gates_MSK.detach().to(device).requires_grad_()
        tokens_M = torch.zeros(len(rows_MSK), dtype=torch.int64)
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        for group in self._batcher.groups([example for _, example in chosen]):
            examples = [chosen[i][1] for i in group]
            at = torch.tensor([chosen[i][0] for i in group])
            tokens_M.index_add_(0, at, torch.tensor([each.num_counted for each in examples]))
            loss = (
                self._batcher.join(examples)
                .to(device)
                .loss_sum(
                    self._model,
                    self._pool,
                    used_MSK[at.to(device)],
                    distill_weight=teacher_weight(self._config.train),
                )
            )
            torch.autograd.backward(loss)
            loss_sum += loss.detach()
        torch.autograd.backward(gates_MSK, _gradient(used_MSK).to(gates_MSK.device))
        return loss_sum, tokens_M


def _turns(num_examples: int, per_step: int, generator: np.random.Generator) -> Iterator[list[int]]:
    """Yields without end which examples of a passage each step takes.

    All have their turn before any has a second one; the order is drawn anew each time.
    """
    ahead: list[int] = []
    while True:
        taken = min(per_step, num_examples)
        while len(ahead) < taken:
            ahead += generator.permutation(num_examples).tolist()
        yield ahead[:taken]
        ahead = ahead[taken:]


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
