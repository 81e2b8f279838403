"""How the next token of each sequence is chosen, by settings of its own.

R sequences, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request is continued.

    Attributes:
        max_new_tokens: tokens said at most.
        temperature: 0 takes the likeliest token; above, tokens are drawn from the distribution of
            the logits divided by it.
        top_p: draws among the likeliest tokens that have this much probability together.
        top_k: draws among so many likeliest tokens; 0 among all.
        seed: of what is drawn; None: another one each time.
        stops: texts that end it and are no part of it.
        logprobs: how many of the likeliest tokens are told beside each token's own natural
            log-probability, before temperature; None tells none, and costs nothing.
        prompt_logprobs: the same for the prompt's tokens.
        ends: whether a token that ends a text ends it.
    """

    max_new_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    ends: bool = True

    def __post_init__(self) -> None:
        """Refuses what can't be meant.

        Raises:
            ValueError: names the setting.
        """
        for name, is_right, must in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("logprobs", (self.logprobs or 0) >= 0, "at least 0"),
            ("prompt_logprobs", (self.prompt_logprobs or 0) >= 0, "at least 0"),
            ("stops", all(self.stops), "texts that aren't empty"),
        ):
            if not is_right:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be {must}")


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely a token was.

    Attributes:
        logprob: its natural log-probability.
        top: the likeliest tokens' ids and log-probabilities, best first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def choose(
    logits_RV: Tensor, of_each: Sequence[Sampling], generators: Sequence[torch.Generator | None]
) -> list[int]:
    """Returns each sequence's next token.

    Args:
        logits_RV: of any float dtype.
        of_each: R settings.
        generators: of those that draw, on the CPU; each sequence has its own, so that what it
            draws doesn't depend on the others.
    """
    tokens: list[int] = logits_RV.argmax(dim=-1).tolist()
    drawn = [i for i, sampling in enumerate(of_each) if sampling.temperature > 0]
    for i in drawn:
        tokens[i] = _draw(logits_RV[i], of_each[i], generators[i])
    return tokens


def _draw(logits_V: Tensor, sampling: Sampling, generator: torch.Generator | None) -> int:
    """Draws by the Gumbel-max trick among the tokens that are left."""
    scaled_V = logits_V.float().cpu() / sampling.temperature
    ids = None
    if sampling.top_k and sampling.top_k < len(scaled_V):
        scaled_V, ids = scaled_V.topk(sampling.top_k)
    if sampling.top_p < 1:
        if ids is None:
            scaled_V, ids = scaled_V.sort(descending=True)
        before_V = scaled_V.softmax(dim=-1).cumsum(dim=-1) - scaled_V.softmax(dim=-1)
        scaled_V = scaled_V[before_V < sampling.top_p]  # the first one always stays
    noise = torch.empty_like(scaled_V).exponential_(generator=generator)
    drawn = int((scaled_V - noise.log()).argmax())
    return drawn if ids is None else int(ids[drawn])


def logprobs_of_tokens(
    logits_RV: Tensor, tokens: Sequence[int], tell: Sequence[int | None]
) -> list[TokenLogprobs | None]:
    """Returns how likely the tokens were, where that is asked for.

    Args:
        logits_RV: of any float dtype.
        tokens: R tokens that came.
        tell: of each, how many of the likeliest are told beside it; None: nothing is asked for.
    """
    asked = [i for i, number in enumerate(tell) if number is not None]
    found: list[TokenLogprobs | None] = [None] * len(tell)
    if not asked:
        return found
    wide_NV = (logits_RV if len(asked) == len(tell) else logits_RV[asked]).float()
    total_N = wide_NV.logsumexp(dim=-1)
    taken = torch.tensor([tokens[i] for i in asked], device=wide_NV.device)
    own: list[float] = (wide_NV.gather(1, taken[:, None])[:, 0] - total_N).tolist()
    most = max(tell[i] or 0 for i in asked)
    values: list[list[float]] = [[] for _ in asked]
    ids: list[list[int]] = [[] for _ in asked]
    if most:
        best = wide_NV.topk(min(most, wide_NV.shape[1]), dim=-1)
        values = (best.values - total_N[:, None]).tolist()
        ids = best.indices.tolist()
    for row, i in enumerate(asked):
        number = tell[i] or 0
        top = tuple(zip(ids[row][:number], values[row][:number], strict=True))
        found[i] = TokenLogprobs(own[row], top)
    return found
