"""Training: of experts and rows together, of added rows, checkpoints, and ZeRO."""

from dataclasses import dataclass

from polyprag.config.checks import one_of, require, require_numbers

_MOST_DECAY = 0.999_999  # of a moment; nearer to 1 it is 1 in float32, and Adam divides by 0


@dataclass(frozen=True)
class TrainConfig:
    """The joint optimisation of experts and routing rows."""

    epochs: int = 8
    seed: int = 0
    experts_lr: float = 5e-3
    rows_lr: float = 0.1
    weight_decay: float = 0.0  # on the experts; rows have none
    beta1: float = 0.9
    beta2: float = 0.999
    grad_clip: float = 1.0  # global norm over the experts; 0 turns it off
    rows_grad_clip: float = 0.0  # norm of each row's gradient; 0 turns it off
    rows_second_moment: str = "element"  # element | site | row: what shares one of Adam's
    schedule: str = "linear"  # constant | linear | cosine
    warmup_ratio: float = 0.0
    loss_on: str = "answer"  # all | answer
    objective: str = "answers"  # answers | distill | both: what question-answer examples learn
    distill_weight: float = 1.0  # both: of the teacher's loss beside that on the text
    teacher_top_k: int = 16  # tokens whose probability is kept of each of the teacher's
    teacher_answers: str = "missing"  # missing | all: which answers the teacher writes
    max_tokens: int = 8192  # of one physical batch, padding included
    packing: bool = True  # several examples in a row, where the model can; else padded
    exact: bool = False  # the same bits on any number of workers, without DeepSpeed

    def __post_init__(self) -> None:
        require_numbers(
            self,
            "train",
            {
                "epochs": (1, 1_000_000),
                "seed": (0, 2**63 - 1),
                "experts_lr": (0, 100),
                "rows_lr": (0, 1e6),
                "weight_decay": (0, 1_000),
                "beta1": (0, _MOST_DECAY),
                "beta2": (0, _MOST_DECAY),
                "grad_clip": (0, 1e12),
                "rows_grad_clip": (0, 1e12),
                "warmup_ratio": (0, 0.999),
                "distill_weight": (0, 1e6),
                "teacher_top_k": (1, 1024),
                "max_tokens": (16, 1_000_000_000),
            },
        )
        require(
            self.experts_lr > 0 or self.rows_lr > 0,
            "train.experts_lr",
            self.experts_lr,
            "above 0 where train.rows_lr is 0, or nothing is trained",
        )
        one_of("train.rows_second_moment", self.rows_second_moment, ("element", "site", "row"))
        one_of("train.schedule", self.schedule, ("constant", "linear", "cosine"))
        one_of("train.loss_on", self.loss_on, ("all", "answer"))
        one_of("train.objective", self.objective, ("answers", "distill", "both"))
        one_of("train.teacher_answers", self.teacher_answers, ("missing", "all"))


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
        require_numbers(
            self,
            "add",
            {
                "num_neighbours": (1, 100_000),
                "steps": (1, 10_000_000),
                "examples_per_step": (1, 100_000),
                "rows_lr": (1e-12, 1e6),
            },
        )


@dataclass(frozen=True)
class CheckpointConfig:
    """How often training state is made durable."""

    every_steps: int = 500

    def __post_init__(self) -> None:
        require_numbers(self, "checkpoint", {"every_steps": (1, 1_000_000_000)})


@dataclass(frozen=True)
class DeepSpeedConfig:
    """ZeRO over the experts (and, at stage 3, the frozen base)."""

    stage: int = 1
    config: str | None = None  # a YAML file of further DeepSpeed keys, merged over ours

    def __post_init__(self) -> None:
        require_numbers(self, "deepspeed", {"stage": (1, 3)})
