"""The frozen base model, and the experts and routing rows beside it."""

from dataclasses import dataclass, field

from polyprag.config.checks import one_of, require, require_numbers
from polyprag.pretrained.where import TINY_BASE

_LEAST_STD = 1e-12  # far below, gradients vanish beside Adam's epsilon; it trains from here on


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model, loaded by `AutoModelForCausalLM.from_pretrained`."""

    path: str = TINY_BASE  # a directory, a GGUF file, a hub name, or what comes with polyprag
    revision: str | None = None
    dtype: str = "auto"  # auto: fp32 on CPU, bf16 on GPU

    def __post_init__(self) -> None:
        require(bool(self.path), "model.path", self.path, "a directory, a GGUF file or a hub name")
        one_of("model.dtype", self.dtype, ("auto", "fp32", "bf16"))


@dataclass(frozen=True)
class ExpertsConfig:
    """The pool of K LoRA experts on each targeted Linear."""

    num: int = 16
    rank: int = 2
    alpha: float = 32.0  # the scale is alpha / rank
    targets: list[str] = field(default_factory=lambda: ["gate_proj", "up_proj", "down_proj"])
    skip_prefix: bool = False  # leave alone the tokens that all chat prompts begin with

    def __post_init__(self) -> None:
        bounds = {"num": (1, 100_000), "rank": (1, 100_000), "alpha": (1e-6, 1e6)}
        require_numbers(self, "experts", bounds)
        width = self.num * self.rank
        require(
            width <= 1_000_000,
            "experts.num",
            self.num,
            f"less at experts.rank={self.rank}: a Linear's experts have {width:,} columns together",
        )
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
        bounds = {"top_k": (0, 100_000), "init_std": (0, 1_000), "temperature": (1e-6, 1e6)}
        require_numbers(self, "router", bounds)
        # A gate of 0 hides its expert from the loss, and an expert begins without an effect, which
        # hides the gate: neither would ever get a gradient. softmax and sigmoid are never 0.
        require(
            self.gate not in ("linear", "tanh") or self.init_std >= _LEAST_STD,
            "router.init_std",
            self.init_std,
            f"above 0 ({_LEAST_STD:g} or more) with router.gate={self.gate}, whose gates begin "
            "at 0 otherwise and stay there; 1.0 measured best",
        )
        require(
            not self.relaxed_bernoulli or self.gate == "sigmoid",
            "router.relaxed_bernoulli",
            self.relaxed_bernoulli,
            "false unless router.gate=sigmoid",
        )
