"""DeepSpeed ZeRO over the experts; their state in and out of it at any stage and world size."""

import os
import sys
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cluster.parallel.collectives import run_on_all_or_raise
from cluster.parallel.deepspeed_config import deepspeed_config
from polyprag.config import Config
from polyprag.errors import RunError
from polyprag.method.experts import ExpertPool
from polyprag.method.loss import teacher_weight
from polyprag.method.training_batch import Batcher, TrainingBatch


class GatedLanguageModel(nn.Module):
    """The base model with its experts as one module: a batch and gates give a summed loss."""

    def __init__(self, model: PreTrainedModel, pool: ExpertPool, *, distill_weight: float) -> None:
        """Keeps them; `pool` is injected in `model` already."""
        super().__init__()
        self.model = model
        self._pool, self._distill_weight = pool, distill_weight

    def forward(self, batch: TrainingBatch, gates: Tensor) -> Tensor:
        """Returns the summed loss of a batch, a float32 scalar.

        Args:
            batch: on the model's device.
            gates: (B, S, K) of its examples.
        """
        return batch.loss_sum(self.model, self._pool, gates, distill_weight=self._distill_weight)

    def train(self, mode: bool = True) -> "GatedLanguageModel":
        """Leaves the frozen base in eval mode: its dropout would be unseeded noise."""
        super().train(mode)
        self.model.train(False)
        return self


class ExpertEngine:
    """A DeepSpeed engine around the gated model, with what the training loop needs of it."""

    def __init__(self, model: PreTrainedModel, pool: ExpertPool, config: Config) -> None:
        """Initialises DeepSpeed in the process group that exists already.

        Args:
            model: with `pool` injected; on this worker's device.
            pool: holds the weights to start from.
            config: the run's settings.
        """
        self._pool = pool
        self._stage = config.deepspeed.stage
        # What a worker may fail at alone comes first: all would wait for it in `initialize`.
        deepspeed, settings = run_on_all_or_raise(lambda: (_deepspeed(), _settings(config)))
        self._engine, *_ = deepspeed.initialize(
            model=GatedLanguageModel(model, pool, distill_weight=teacher_weight(config.train)),
            model_parameters=pool.parameters(),
            config=settings,
            dist_init_required=False,
        )
        self._engine.train()

    def loss_sum(self, batch: TrainingBatch, gates: Tensor, *, is_last: bool) -> Tensor:
        """Runs a physical batch forward; `is_last` tells whether the global step ends with it."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        loss: Tensor = self._engine(batch=batch, gates=gates)
        return loss

    @property
    def averaged_over(self) -> int:
        """Workers by whose number gradients are divided when they are summed."""
        return torch.distributed.get_world_size()

    def backward(self, loss: Tensor, *, lane: int | None = None) -> None:
        """Accumulates gradients of a loss that is already normalised."""
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, *, rate: float) -> bool:
        """Updates the experts with a learning rate; the gradients are averaged over workers.

        Returns:
            Whether it has. Where the norm of all gradients isn't finite, DeepSpeed changes nothing,
            on any worker.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        self._engine.step()
        is_updated: bool = self._engine.was_step_applied()
        return is_updated

    @property
    def device(self) -> torch.device:
        """Where batches must be."""
        return torch.device(self._engine.device)

    def export_state(self) -> dict[str, Tensor]:
        """Returns the experts with their Adam moments, whole; every worker must call it.

        Returns:
            `NAME`, `NAME.exp_avg` and `NAME.exp_avg_sq` for every expert weight NAME, float32 on
            the CPU.
        """
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        state = {}
        for name, parameter in self._pool.named_parameters():
            state[name] = safe_get_full_fp32_param(parameter)
            for moment in ("exp_avg", "exp_avg_sq"):
                state[f"{name}.{moment}"] = safe_get_full_optimizer_state(parameter, moment)
        return {
            name: tensor.detach().to("cpu", torch.float32, copy=True)
            for name, tensor in state.items()
        }

    def import_state(self, state: dict[str, Tensor], *, step: int) -> None:
        """Puts an exported state in, bit for bit; every worker must call it with the same state.

        Args:
            state: what `export_state` gave, at any stage and world size.
            step: optimiser steps behind it; Adam's bias correction depends on it.
        """
        import deepspeed
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        self._make_optimizer_state()
        for name, parameter in self._pool.named_parameters():
            safe_set_full_fp32_param(parameter, state[name])
            for moment in ("exp_avg", "exp_avg_sq"):
                safe_set_full_optimizer_state(parameter, state[f"{name}.{moment}"], moment)
            # The copy that the forward pass reads is another one than the optimiser's.
            if self._stage == 3:
                with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                    parameter.data.copy_(state[name])
            else:
                parameter.data.copy_(state[name])
        self.set_optimizer_step(step)

    def _make_optimizer_state(self) -> None:
        """Takes a step that changes nothing: moments exist only after the first."""
        token = Batcher(pad_id=0, max_tokens=1, packs=False).join([]).to(self.device)
        gates = torch.zeros((1, self._pool.num_sites, self._pool.num_experts)).to(self.device)
        loss = self.loss_sum(token, gates, is_last=True)
        self.backward(loss)
        if not self.step(rate=0.0):
            raise RunError(
                "the base model gives gradients that aren't finite even for one padding token, so "
                "nothing can be trained on it; copy it again, or compute in model.dtype=fp32"
            )

    def set_optimizer_step(self, step: int) -> None:
        """Sets Adam's step count, which DeepSpeed's own warm-up step has moved."""
        inner = getattr(self._engine.optimizer, "optimizer", self._engine.optimizer)
        for entry in inner.state.values():
            if "step" in entry:
                entry["step"] = (
                    torch.full_like(entry["step"], step)
                    if isinstance(entry["step"], Tensor)
                    else step
                )


def _deepspeed() -> Any:
    # Imported here: DeepSpeed chooses its accelerator when it is imported.
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Its autotuner, which isn't for this training, would take a second of each worker's start to
    # import what it logs to.
    modules: dict[str, Any] = sys.modules
    modules.setdefault("mlflow", None)
    try:
        import deepspeed
    finally:
        if modules["mlflow"] is None:
            del modules["mlflow"]
    # Its shared-memory all-reduce would be compiled on first use (a minute), leaves segments
    # behind when a worker is killed, and serves one machine only; gloo does all three better.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _settings(config: Config) -> dict[str, Any]:
    return deepspeed_config(config, world_size=torch.distributed.get_world_size())
