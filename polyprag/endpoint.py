"""OpenAI-compatible endpoints: the client, and a bounded number of requests at once."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import openai

from polyprag.errors import ConfigError, PolypragError

T = TypeVar("T")
R = TypeVar("R")

_OPENAI_URL = "https://api.openai.com/v1"
_TIMEOUT_SECONDS = 120.0
_NO_KEY = "none"  # sent to an endpoint of one's own that wants no key


class EndpointError(PolypragError):
    """The endpoint can't be reached, or refuses every request; what is written so far stays."""


def client_of(
    section: str, *, base_url: str | None, api_key_env: str, max_retries: int
) -> openai.OpenAI:
    """Returns a client; nothing is sent yet.

    Args:
        section: of the config, for the error.
        base_url: of the endpoint; None: OpenAI's own.
        api_key_env: the name of the environment variable with the key.
        max_retries: how often the client repeats a request that failed on the way.

    Raises:
        ConfigError: there is no key for OpenAI's own endpoint.
    """
    key = os.environ.get(api_key_env)
    if not key and not base_url:
        raise ConfigError(
            f"{section}.api_key_env={api_key_env!r}: there is no such environment variable; set it "
            f"to the endpoint's key, or set {section}.base_url to a server that needs none"
        )
    return openai.OpenAI(
        api_key=key or _NO_KEY,
        base_url=base_url or _OPENAI_URL,
        max_retries=max_retries,
        timeout=_TIMEOUT_SECONDS,
    )


def replies(ask: Callable[[T], R], questions: Sequence[T], *, at_once: int) -> list[R]:
    """Returns the reply to each question, in their order, with so many requests under way.

    What `ask` raises is raised; what waits in the queue isn't sent any more then.
    """
    with ThreadPoolExecutor(at_once) as pool:
        requests = [pool.submit(ask, question) for question in questions]
        try:
            return [request.result() for request in requests]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
