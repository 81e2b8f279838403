"""Training: of experts and rows together, of added rows, checkpoints, and ZeRO."""

from dataclasses import dataclass

from polyprag.config.checks import one_of, require, require_at_least_one, require_none_negative


@dataclass(frozen=True)
class TrainConfig:
    """The joint optimisation of experts and routing rows."""

    epochs: int = 4
    seed: int = 0
    experts_lr: float = 5e-3
    rows_lr: float = 0.1
    weight_decay: float = 0.0  # on the experts; rows have none
    beta1: float = 0.9
    beta2: float = 0.999
    grad_clip: float = 1.0  # global norm over the experts; 0 turns it off
    rows_grad_clip: float = 0.0  # norm of each row's gradient; 0 turns it off
    rows_second_moment: str = "element"  # element | site | row: what shares one of Adam's
    schedule: str = "constant"  # constant | linear | cosine
    warmup_ratio: float = 0.0
    loss_on: str = "all"  # all | answer
    max_tokens: int = 8192  # of one physical batch, padding included

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", self.epochs, "at least 1")
        require_none_negative(
            self, "train", "experts_lr", "rows_lr", "weight_decay", "grad_clip", "rows_grad_clip"
        )
        for key in ("beta1", "beta2", "warmup_ratio"):
            require(0 <= getattr(self, key) < 1, f"train.{key}", getattr(self, key), "in [0, 1)")
        one_of("train.rows_second_moment", self.rows_second_moment, ("element", "site", "row"))
        one_of("train.schedule", self.schedule, ("constant", "linear", "cosine"))
        one_of("train.loss_on", self.loss_on, ("all", "answer"))
        require(self.max_tokens >= 16, "train.max_tokens", self.max_tokens, "at least 16")


@dataclass(frozen=True)
class AddConfig:
    """How the routing rows of added passages are trained; the experts are frozen."""

    init: str = "zeros"  # zeros | neighbours (mean of their rows) | random: where rows start
    num_neighbours: int = 5  # neighbours: passages whose rows are averaged
    steps: int = 96  # updates of each row
    examples_per_step: int = 1  # of each passage in one update
    rows_lr: float = 0.3  # falls linearly to 0

    def __post_init__(self) -> None:
        one_of("add.init", self.init, ("zeros", "neighbours", "random"))
        require_at_least_one(self, "add", "num_neighbours", "steps", "examples_per_step")
        require(self.rows_lr > 0, "add.rows_lr", self.rows_lr, "above 0")


@dataclass(frozen=True)
class CheckpointConfig:
    """How often training state is made durable."""

    every_steps: int = 500

    def __post_init__(self) -> None:
        require(self.every_steps >= 1, "checkpoint.every_steps", self.every_steps, "at least 1")


@dataclass(frozen=True)
class DeepSpeedConfig:
    """ZeRO over the experts (and, at stage 3, the frozen base)."""

    stage: int = 2
    config: str | None = None  # a YAML file of further DeepSpeed keys, merged over ours

    def __post_init__(self) -> None:
        require(self.stage in (1, 2, 3), "deepspeed.stage", self.stage, "1, 2 or 3")
