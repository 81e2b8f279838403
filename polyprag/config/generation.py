"""How answers are decoded."""

import datetime
from dataclasses import dataclass, replace

from polyprag.config.checks import one_of, require, require_numbers
from polyprag.errors import ConfigError

SHORTEST_ANSWER = "Answer with as few words as possible."
_MOST_CHARACTERS = 4000  # of an instruction, which stands before every question


@dataclass(frozen=True)
class GenerationConfig:
    """How answers are decoded (greedy)."""

    max_new_tokens: int = 32
    batch_size: int = 32
    prompt: str = "auto"  # auto | plain | chat; auto: chat where the tokenizer has a template
    # What a chat template is told; it belongs to the encoding, which was trained with it.
    date: str = "2024-07-26"  # today, for templates that print the date; Llama 3.1's own default
    # What it is asked to do; chat models answer in sentences otherwise. The plain layout has none.
    instruction: str = SHORTEST_ANSWER
    thinking: str = "never"  # never | template: as the template does it by itself

    def __post_init__(self) -> None:
        bounds = {"max_new_tokens": (1, 1_000_000), "batch_size": (1, 1_000_000)}
        require_numbers(self, "generation", bounds)
        one_of("generation.prompt", self.prompt, ("auto", "plain", "chat"))
        one_of("generation.thinking", self.thinking, ("never", "template"))
        require(
            len(self.instruction) <= _MOST_CHARACTERS,
            "generation.instruction",
            self.instruction[:40] + "...",
            f"at most {_MOST_CHARACTERS:,} characters",
        )
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError:
            raise ConfigError(
                f"generation.date={self.date!r} can't be used: write a date as YYYY-MM-DD, such as "
                "2024-07-26"
            ) from None

    def told_as(self, trained: "GenerationConfig") -> "GenerationConfig":
        """Returns these settings with what a chat template was told in training."""
        return replace(
            self, date=trained.date, instruction=trained.instruction, thinking=trained.thinking
        )
