"""How passages become examples, and who writes about them what they are trained with."""

from dataclasses import dataclass, field

from polyprag.config.checks import one_of, require, require_numbers

_BUDGET_OF_RULES = 7  # a rewrite, and six questions: more teach less than these more often
_BUDGET_OF_MODELS = 20
_QUESTIONS_A_REWRITE = 10


@dataclass(frozen=True)
class DataConfig:
    """How passages become partitions, lanes and microbatches."""

    partition_size: int = 256  # passages in a partition (one tar shard)
    lanes: int = 8  # canonical slots of the global batch; bounds the number of workers
    microbatch: int = 4  # examples that a lane adds to one global step
    max_length: int = 512  # tokens; longer examples lose the end of their passage
    prefetch: int = 2  # microbatches that a lane reads ahead
    cache_dir: str | None = None  # what is read of a remote run; none: ~/.cache/polyprag
    cache_gb: float = 20.0  # all that is kept there, unless it is in use; 0 keeps nothing
    # What a passage is trained with: passage_qa (each text with each question), qa (each question
    # alone), passage (each text alone). A passage without questions comes as its texts in any case.
    formats: list[str] = field(default_factory=lambda: ["qa"])

    def __post_init__(self) -> None:
        require(bool(self.formats), "data.formats", self.formats, "a list of one or more formats")
        for name in self.formats:
            one_of("data.formats", name, ("passage_qa", "qa", "passage"))
        require_numbers(
            self,
            "data",
            {
                "partition_size": (1, 10_000_000),
                "lanes": (1, 100_000),
                "microbatch": (1, 100_000),
                "max_length": (16, 10_000_000),
                "prefetch": (1, 100_000),
                "cache_gb": (0, 1e9),
            },
        )


@dataclass(frozen=True)
class AugmentConfig:
    """Who writes the rewrites and question-answer pairs, how many, and what isn't kept of them."""

    backend: str = "rules"  # rules | hf | openai | none
    # Questions and rewrites of a passage together; none: 4 by rules, 20 by a model.
    budget: int | None = None
    num_rewrites: int | None = None  # none: a tenth of the budget, and one at least
    num_qas: int | None = None  # none: the rest of the budget
    # How a model is asked: `json` for several questions at once, `spans` for one at a time, which
    # small models can write; `auto`: as fits the model.
    style: str = "auto"
    avoid: str | None = None  # a file or directory of evaluation questions, which nothing repeats
    model: str | None = None  # hf: path or hub name (default model.path); openai: model name
    base_url: str | None = None  # openai: endpoint
    api_key_env: str = "OPENAI_API_KEY"
    batch_size: int = 8
    max_new_tokens: int = 512
    max_retries: int = 3
    request_s: float = 120.0  # openai: how long a reply may be silent
    retry_s: float = 600.0  # openai: how long one request is asked again and waited for
    give_up_after: int = 20  # openai: failures in a row after which nothing more is asked
    temperature: float = 0.7

    def __post_init__(self) -> None:
        one_of("augment.backend", self.backend, ("rules", "hf", "openai", "none"))
        one_of("augment.style", self.style, ("auto", "json", "spans"))
        require_numbers(
            self,
            "augment",
            {
                "budget": (0, 10_000),
                "num_rewrites": (0, 10_000),
                "num_qas": (0, 10_000),
                "batch_size": (1, 1_000_000),
                "max_new_tokens": (1, 1_000_000),
                "max_retries": (0, 10_000),
                "request_s": (0.01, 1e6),
                "retry_s": (0, 1e6),
                "give_up_after": (1, 1_000_000),
                "temperature": (0, 100),
            },
        )

    @property
    def wanted_rewrites(self) -> int:
        """Rewrites of a passage, at most."""
        if self.num_rewrites is not None:
            return self.num_rewrites
        budget = self._budget
        return 0 if budget == 0 else max(1, budget // _QUESTIONS_A_REWRITE)

    @property
    def wanted_qas(self) -> int:
        """Question-answer pairs of a passage, at most."""
        if self.num_qas is not None:
            return self.num_qas
        return max(0, self._budget - self.wanted_rewrites)

    @property
    def _budget(self) -> int:
        if self.budget is not None:
            return self.budget
        return _BUDGET_OF_RULES if self.backend == "rules" else _BUDGET_OF_MODELS
