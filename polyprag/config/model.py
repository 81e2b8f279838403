"""The frozen base model, and the experts and routing rows beside it."""

from dataclasses import dataclass, field

from polyprag.config.checks import one_of, require, require_at_least_one
from polyprag.pretrained.where import TINY_BASE


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model, loaded by `AutoModelForCausalLM.from_pretrained`."""

    path: str = TINY_BASE  # a directory, a hub name, or the small model that comes with polyprag
    revision: str | None = None
    dtype: str = "auto"  # auto: fp32 on CPU, bf16 on GPU

    def __post_init__(self) -> None:
        require(bool(self.path), "model.path", self.path, "a directory or a hub name")
        one_of("model.dtype", self.dtype, ("auto", "fp32", "bf16"))


@dataclass(frozen=True)
class ExpertsConfig:
    """The pool of K LoRA experts on each targeted Linear."""

    num: int = 16
    rank: int = 2
    alpha: float = 32.0  # the scale is alpha / rank
    targets: list[str] = field(default_factory=lambda: ["gate_proj", "up_proj", "down_proj"])

    def __post_init__(self) -> None:
        require_at_least_one(self, "experts", "num", "rank")
        require(self.alpha > 0, "experts.alpha", self.alpha, "above 0")
        require(bool(self.targets), "experts.targets", self.targets, "a list of module names")


@dataclass(frozen=True)
class RouterConfig:
    """What a routing row is and how it becomes gates."""

    granularity: str = "module"  # model | layer | module: how many sites a row has
    gate: str = "linear"  # linear | tanh | softmax | sigmoid
    top_k: int = 0  # experts kept per site; 0 keeps all
    init_std: float = 1.0  # rows are drawn from N(0, init_std^2)
    relaxed_bernoulli: bool = False  # sample sigmoid gates while training
    temperature: float = 1.0  # of the RelaxedBernoulli

    def __post_init__(self) -> None:
        one_of("router.granularity", self.granularity, ("model", "layer", "module"))
        one_of("router.gate", self.gate, ("linear", "tanh", "softmax", "sigmoid"))
        require(self.top_k >= 0, "router.top_k", self.top_k, "0 (all experts) or more")
        require(self.init_std >= 0, "router.init_std", self.init_std, "0 or more")
        require(self.temperature > 0, "router.temperature", self.temperature, "above 0")
        require(
            not self.relaxed_bernoulli or self.gate == "sigmoid",
            "router.relaxed_bernoulli",
            self.relaxed_bernoulli,
            "false unless router.gate=sigmoid",
        )
