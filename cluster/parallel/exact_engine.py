"""Training that doesn't depend on the number of workers, to the last bit.

Sums of floating-point numbers depend on their order, and a reduction's order on who takes part.
Here each lane's gradients are computed by themselves, in shapes that its examples alone decide,
and every worker adds those of all lanes in the lanes' order. The experts are small, so each worker
keeps them and their moments whole, and takes the same step of the same optimiser.

Shapes: E numbers of all experts, L lanes, W workers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from transformers import PreTrainedModel

from polyprag.config import Config
from polyprag.method.experts import ExpertPool
from polyprag.method.loss import teacher_weight
from polyprag.method.training_batch import TrainingBatch
from sharding.stream.plan import lanes_of_worker

BUCKET_NUMBERS = 16_000_000  # of all workers together, gathered at once


class ExactEngine:
    """The experts and their optimiser, as `ExpertEngine` has them; bit-identical at any W."""

    averaged_over = 1  # gradients are summed

    def __init__(self, model: PreTrainedModel, pool: ExpertPool, config: Config) -> None:
        """Moves the experts into one tensor of (E,) numbers.

        Args:
            model: with `pool` injected; on this worker's device.
            pool: holds the weights to start from.
            config: the run's settings.
        """
        self._model, self._pool = model, pool
        self._distill_weight = teacher_weight(config.train)
        self._clip = config.train.grad_clip
        self._num_lanes = config.data.lanes
        self._lanes = lanes_of_worker(
            distributed.get_rank(),
            world_size=distributed.get_world_size(),
            num_lanes=self._num_lanes,
        )
        self._parameters = pool.parameters()
        self._flat = torch.cat([parameter.data.flatten() for parameter in self._parameters])
        for parameter, part in zip(self._parameters, self._parts(self._flat), strict=True):
            parameter.data = part.view(parameter.shape)
        self._optimizer = torch.optim.AdamW(
            [self._flat],
            lr=config.train.experts_lr,
            betas=(config.train.beta1, config.train.beta2),
            weight_decay=config.train.weight_decay,
            foreach=False,
        )
        self._state = self._optimizer.state[self._flat]
        self._state |= {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(self._flat),
            "exp_avg_sq": torch.zeros_like(self._flat),
        }
        self._of_lanes: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where batches must be."""
        return self._flat.device

    def loss_sum(self, batch: TrainingBatch, gates: Tensor, *, is_last: bool) -> Tensor:
        """Runs a physical batch forward; see `ExpertEngine.loss_sum`."""
        return batch.loss_sum(self._model, self._pool, gates, distill_weight=self._distill_weight)

    def backward(self, loss: Tensor, *, lane: int | None) -> None:
        """Adds a batch's gradients to those of its lane, of this worker's."""
        assert lane is not None
        torch.autograd.backward(loss)
        found = []
        for parameter in self._parameters:
            grad = parameter.grad
            found.append((torch.zeros_like(parameter) if grad is None else grad).flatten())
            parameter.grad = None
        flat = torch.cat(found)
        self._of_lanes[lane] = self._of_lanes[lane].add_(flat) if lane in self._of_lanes else flat

    def step(self, *, rate: float) -> bool:
        """Updates the experts on every worker; all must call it.

        Returns:
            Whether it has: where the norm of all gradients isn't finite, nothing changes.
        """
        total = self._summed()
        self._of_lanes.clear()
        norm = torch.linalg.vector_norm(total)
        if not norm.isfinite():
            return False
        if self._clip:
            total *= torch.clamp(self._clip / (norm + 1e-6), max=1.0)
        self._flat.grad = total
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step()
        self._flat.grad = None
        return True

    def export_state(self) -> dict[str, Tensor]:
        """Returns the experts with their Adam moments; see `ExpertEngine.export_state`."""
        return {
            name: part.detach().to("cpu", torch.float32, copy=True)
            for name, part in self._named_parts()
        }

    def import_state(self, state: dict[str, Tensor], *, step: int) -> None:
        """Puts an exported state in, bit for bit; see `ExpertEngine.import_state`."""
        for name, part in self._named_parts():
            part.copy_(state[name])
        self.set_optimizer_step(step)

    def set_optimizer_step(self, step: int) -> None:
        """Sets Adam's step count."""
        self._state["step"].fill_(step)

    def _named_parts(self) -> Iterator[tuple[str, Tensor]]:
        """Yields what a checkpoint has, by its name there: weights and moments, in place."""
        moments = {f".{moment}": self._state[moment] for moment in ("exp_avg", "exp_avg_sq")}
        for ending, flat in ({"": self._flat} | moments).items():
            parts = zip(self._pool.named_parameters(), self._parts(flat), strict=True)
            for (name, parameter), part in parts:
                yield f"{name}{ending}", part.view(parameter.shape)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Returns each parameter's part of (E,) numbers."""
        return list(torch.split(flat, [parameter.numel() for parameter in self._parameters]))

    def _summed(self) -> Tensor:
        """Returns (E,) gradients: those of all lanes, added in the lanes' order."""
        world_size = distributed.get_world_size()
        total = torch.zeros_like(self._flat)
        rest = torch.zeros_like(self._flat)
        size = max(1, BUCKET_NUMBERS // world_size)
        # Lanes are dealt out in turn: those of one round follow each other by rank.
        for number, first in enumerate(range(0, self._num_lanes, world_size)):
            mine = rest
            if number < len(self._lanes):
                mine = self._of_lanes.get(self._lanes[number], rest)
            num_lanes = min(world_size, self._num_lanes - first)
            parts = zip(torch.split(mine, size), torch.split(total, size), strict=True)
            for own, added in parts:
                everyone = [torch.empty_like(own) for _ in range(world_size)]
                distributed.all_gather(everyone, own.contiguous())
                for lane_grad in everyone[:num_lanes]:
                    added += lane_grad
        return total
