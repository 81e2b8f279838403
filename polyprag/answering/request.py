"""What an engine is asked."""

from collections.abc import Mapping
from dataclasses import dataclass

from polyprag.answering.modes import CONTROLS, MODES, Mode
from polyprag.decoding.sampling import Sampling
from polyprag.errors import RequestError
from polyprag.method.prompts import ROLES, Message

Key = int | str


@dataclass(frozen=True, slots=True)
class Request:
    """One question, or a text to go on with, and how it is answered.

    Attributes:
        question: laid out as in training, with the passages where the mode shows them.
        history: what was said before the question, as it is shown in a chat.
        prompt: in a question's place: a text, or token ids, that are continued as they are, behind
            the passages. Passages are searched for by it.
        mode: closed, rag, poly, combine or routed (`polyprag.answering.modes`).
        top_k: passages that are searched for; None: `retrieval.top_k`.
        passages: ids or keys of passages that are used in a search's place, best first, all alike.
        mixture: ids or keys of passages, and what each one's gates count in place of the weights
            that the retrieval gives; these passages are used in a search's place.
        sampling: how it is continued; None: greedily, for `generation.max_new_tokens`.
        n: continuations; with a seed, the i-th one draws by seed + i.
    """

    question: str | None = None
    history: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    mode: Mode = "poly"
    top_k: int | None = None
    passages: tuple[Key, ...] | None = None
    mixture: Mapping[Key, float] | Mapping[str, float] | None = None
    sampling: Sampling | None = None
    n: int = 1

    def __post_init__(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            RequestError: names the field.
        """
        if (self.question is None) == (self.prompt is None):
            raise RequestError("a request has either a question or a prompt")
        if self.question is not None and not self.question.strip():
            raise RequestError("question: is empty")
        if self.history and self.question is None:
            raise RequestError("history: goes before a question, not before a prompt")
        if wrong := {message.role for message in self.history} - set(ROLES):
            raise RequestError(f"history: role {wrong.pop()!r} isn't one of {', '.join(ROLES)}")
        if self.mode not in MODES or self.mode in CONTROLS:
            known = ", ".join(mode for mode in MODES if mode not in CONTROLS)
            raise RequestError(f"mode {self.mode!r} isn't known: use one of {known}")
        fields = {"top_k": self.top_k, "passages": self.passages, "mixture": self.mixture}
        given = [name for name, value in fields.items() if value is not None]
        if len(given) > 1:
            raise RequestError(f"{given[0]} and {given[1]} contradict each other; give one")
        if given and self.mode in ("closed", "routed"):
            raise RequestError(f"{given[0]}: mode {self.mode!r} uses no passages")
        if self.mixture is not None and self.mode == "rag":
            raise RequestError("mixture: mode 'rag' mixes nothing; use poly, combine, or passages=")
        if self.top_k is not None and self.top_k < 1:
            raise RequestError(f"top_k={self.top_k}: must be at least 1")
        if self.n < 1:
            raise RequestError(f"n={self.n}: must be at least 1")

    @property
    def pinned(self) -> tuple[Key, ...] | None:
        """The passages that were named; None: they are searched for."""
        return self.passages if self.mixture is None else tuple(self.mixture)
