"""A prompt that is being continued, and what has come of it."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from polyprag.decoding.sampling import Sampling, TokenLogprobs
from polyprag.decoding.text_stream import TextStream

Finish = Literal["stop", "length", "cancelled", "failed"]


class Continuation:
    """One continuation of a prompt; `n` of a request are n of these.

    Attributes:
        prompt: token ids.
        gates: (S, K) float32 mixture of experts; None: the base model alone.
        sampling: how it is continued.
        ids: the tokens said, without the one that ended it.
        logprobs: of these, where they were asked for.
        prompt_logprobs: of the prompt's tokens but the first, where they were asked for.
        finish: why it ended; None until then.
        error: what failed.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        sampling: Sampling,
        text: TextStream,
        gates: Tensor | None = None,
        on_change: Callable[["Continuation", str], None] | None = None,
    ) -> None:
        """Says nothing yet.

        Args:
            prompt: token ids, at least one.
            sampling: how it is continued.
            text: decodes it.
            gates: of the prompt and of what is said.
            on_change: is told each time that text was added for certain, and at the end.
        """
        self.prompt = tuple(prompt)
        self.gates, self.sampling = gates, sampling
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.prompt_logprobs: list[TokenLogprobs] = []
        self.finish: Finish | None = None
        self.error: Exception | None = None
        self.generator: torch.Generator | None = None
        if sampling.temperature > 0:
            self.generator = torch.Generator()
            if sampling.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(sampling.seed)
        self._text = text
        self._on_change = on_change
        self._is_cancelled = False

    @property
    def text(self) -> str:
        """What it says, without special tokens and without what ended it."""
        return self._text.text

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt and of what was said."""
        return len(self.prompt) + len(self.ids)

    def cancel(self) -> None:
        """Ends it at the next step, from any thread."""
        self._is_cancelled = True

    def end_if_cancelled(self) -> bool:
        """Ends it where that was asked for, and tells whether it has ended."""
        if self._is_cancelled and self.finish is None:
            self._end("cancelled")
        return self.finish is not None

    def fail(self, error: Exception) -> None:
        """Ends it because a pass of the model failed."""
        if self.finish is None:
            self.error = error
            self._end("failed")

    def take(self, token: int, logprobs: TokenLogprobs | None, *, end_ids: frozenset[int]) -> None:
        """Takes the next token in."""
        if self.sampling.ends and token in end_ids:
            self._end("stop")
            return
        piece = self._text.put(token)
        if self._text.is_stopped:
            self._end("stop", piece)
            return
        self.ids.append(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        if len(self.ids) >= self.sampling.max_new_tokens:
            self._end("length", piece)
        elif piece and self._on_change is not None:
            self._on_change(self, piece)

    def _end(self, finish: Finish, piece: str = "") -> None:
        piece += self._text.end()
        self.finish = finish
        if self._on_change is not None:
            self._on_change(self, piece)
