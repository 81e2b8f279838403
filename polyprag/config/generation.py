"""How answers are decoded."""

from dataclasses import dataclass

from polyprag.config.checks import one_of, require_at_least_one


@dataclass(frozen=True)
class GenerationConfig:
    """How answers are decoded (greedy)."""

    max_new_tokens: int = 32
    batch_size: int = 32
    prompt: str = "auto"  # auto | plain | chat; auto: chat where the tokenizer has a template

    def __post_init__(self) -> None:
        require_at_least_one(self, "generation", "max_new_tokens", "batch_size")
        one_of("generation.prompt", self.prompt, ("auto", "plain", "chat"))
