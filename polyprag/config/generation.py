"""How answers are decoded."""

from dataclasses import dataclass

from polyprag.config.checks import one_of, require_numbers


@dataclass(frozen=True)
class GenerationConfig:
    """How answers are decoded (greedy)."""

    max_new_tokens: int = 32
    batch_size: int = 32
    prompt: str = "auto"  # auto | plain | chat; auto: chat where the tokenizer has a template

    def __post_init__(self) -> None:
        bounds = {"max_new_tokens": (1, 1_000_000), "batch_size": (1, 1_000_000)}
        require_numbers(self, "generation", bounds)
        one_of("generation.prompt", self.prompt, ("auto", "plain", "chat"))
