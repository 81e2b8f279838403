"""What one server takes upon itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of requests, beyond which they are refused.

    Attributes:
        max_tokens: that a request may ask for, of each continuation.
        max_waiting: continuations that were accepted and haven't ended; beyond it 429.
        max_choices: continuations of a request, those of all its prompts together.
        max_logprobs: likeliest tokens told beside each.
        max_top_k: passages of a request.
        max_body_bytes: of a request's body.
        timeout_s: seconds from a request's acceptance to its end.
    """

    max_tokens: int = 1024
    max_waiting: int = 256
    max_choices: int = 128
    max_logprobs: int = 20
    max_top_k: int = 100
    max_body_bytes: int = 2**20
    timeout_s: float = 300.0
