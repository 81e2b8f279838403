"""How much a teacher has said, how much of that are its own answers, and what they lack."""

from dataclasses import asdict, dataclass

from polyprag.config import Config
from polyprag.teaching.manifest import TeachingManifest


@dataclass(frozen=True, slots=True)
class TaughtCounts:
    """What RUN/teacher holds, in numbers.

    Attributes:
        num_questions: that were asked.
        num_tokens: of their answers.
        num_bytes: of the files.
        num_written: answers that the teacher wrote.
        num_empty: of these, those without a word.
        num_cut: of these, those that were cut at `generation.max_new_tokens`.
    """

    num_questions: int
    num_tokens: int
    num_bytes: int
    num_written: int
    num_empty: int
    num_cut: int

    @classmethod
    def of(cls, manifest: TeachingManifest) -> "TaughtCounts":
        """Adds up the parts of a manifest."""
        names = cls.__dataclass_fields__
        return cls(*(sum(getattr(part, name) for part in manifest.parts) for name in names))

    def fields(self) -> dict[str, int]:
        """Returns the numbers by name."""
        return asdict(self)

    def text(self) -> str:
        """Returns them in words."""
        said = f"{self.num_questions:,} questions, {self.num_tokens:,} tokens of answers"
        if self.num_written:
            said += f"; {self.num_written:,} answers are its own"
        if self.num_empty:
            said += f", {self.num_empty:,} of them without a word"
        if self.num_cut:
            said += f", {self.num_cut:,} of them cut before their end"
        return said

    def advice(self, config: Config) -> str | None:
        """Returns what to set where most of the teacher's own answers have no end; else None.

        Args:
            config: of the run.
        """
        if 2 * self.num_cut <= self.num_written or not self.num_cut:
            return None
        most = config.generation.max_new_tokens
        return (
            f"most of the teacher's own answers ({self.num_cut:,} of {self.num_written:,}) are cut "
            f"at generation.max_new_tokens={most}, and how they end isn't learnt: set "
            f"generation.max_new_tokens={2 * most}, with which those are asked anew, or have a "
            "chat model asked for less by generation.instruction"
        )
