"""How passages become examples, and who writes about them what they are trained with."""

from dataclasses import dataclass, field

from polyprag.config.checks import one_of, require, require_numbers


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
    formats: list[str] = field(default_factory=lambda: ["passage_qa", "qa"])

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
    """Who writes the rewrites and question-answer pairs, and how many (PRAG: 1 and 3)."""

    backend: str = "rules"  # rules | hf | openai | none
    num_rewrites: int = 1
    num_qas: int = 3
    model: str | None = None  # hf: path or hub name (default model.path); openai: model name
    base_url: str | None = None  # openai: endpoint
    api_key_env: str = "OPENAI_API_KEY"
    batch_size: int = 8
    max_new_tokens: int = 512
    max_retries: int = 3
    temperature: float = 0.7

    def __post_init__(self) -> None:
        one_of("augment.backend", self.backend, ("rules", "hf", "openai", "none"))
        require_numbers(
            self,
            "augment",
            {
                "num_rewrites": (0, 10_000),
                "num_qas": (0, 10_000),
                "batch_size": (1, 1_000_000),
                "max_new_tokens": (1, 1_000_000),
                "max_retries": (0, 10_000),
                "temperature": (0, 100),
            },
        )
