"""Augmentation by an OpenAI-compatible endpoint, with a bounded number of requests at once."""

from collections.abc import Iterator, Sequence

import openai

from polyprag.augment.prompt import instruction, write_with_retries, written_or_open
from polyprag.augment.written import Written
from polyprag.config import AugmentConfig
from polyprag.endpoint import EndpointError, client_of, replies
from polyprag.errors import ConfigError
from sharding.corpus.passages import Passage


class OpenAIWriter:
    """Writes augmentations through the chat completions of an OpenAI-compatible server."""

    def __init__(self, config: AugmentConfig) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            config: `model`, `base_url` (default OpenAI's own) and `api_key_env`, the name of the
                environment variable with the key. `batch_size` bounds the requests under way, and
                `max_retries` how often the client repeats one that failed on the way.

        Raises:
            ConfigError: `augment.model` isn't set, or there is no key for OpenAI's own endpoint.
        """
        if not config.model:
            raise ConfigError(
                "augment.model isn't set: with augment.backend=openai it is the name that the "
                "endpoint knows the model by"
            )
        self.config, self._model = config, config.model
        self._client = client_of(
            "augment",
            base_url=config.base_url,
            api_key_env=config.api_key_env,
            max_retries=config.max_retries,
        )
        self._has_succeeded = False

    def __call__(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        """Yields what was written about each passage, so many at a time as are asked about.

        Raises:
            EndpointError: see `complete`.
        """
        for start in range(0, len(passages), self.config.batch_size):
            batch = passages[start : start + self.config.batch_size]
            written = write_with_retries(batch, self.complete, self.config)
            for position, augmentation in enumerate(written, start=start):
                yield position, written_or_open(augmentation, self.config)

    def complete(self, passages: Sequence[Passage], attempt: int) -> list[str]:
        """Returns the replies, asked for concurrently; sampled when `attempt` is above 0.

        A request that the endpoint refuses as such (a content filter, say) has an empty reply.

        Raises:
            EndpointError: the endpoint can't be reached, refuses the key or the model, or has
                refused every request so far.
        """
        temperature = self.config.temperature if attempt else 0.0
        refusals: list[openai.APIStatusError] = []

        def reply_to(passage: Passage) -> str:
            try:
                return self._reply(passage, temperature)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refusals.append(error)
                return ""

        try:
            said = replies(reply_to, passages, at_once=self.config.batch_size)
        except openai.OpenAIError as error:
            raise self._unusable(error) from error
        self._has_succeeded = self._has_succeeded or len(refusals) < len(passages)
        if refusals and not self._has_succeeded:
            raise self._unusable(refusals[0]) from refusals[0]
        return said

    def _reply(self, passage: Passage, temperature: float) -> str:
        request = instruction(
            passage, num_rewrites=self.config.num_rewrites, num_qas=self.config.num_qas
        )
        limit = self.config.max_new_tokens
        completion = self._client.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": request}],
            temperature=temperature,
            # OpenAI's newer models take the one name only, most other servers only the other.
            max_tokens=limit if self.config.base_url else openai.omit,
            max_completion_tokens=openai.omit if self.config.base_url else limit,
        )
        return (completion.choices[0].message.content or "") if completion.choices else ""

    def _unusable(self, error: openai.OpenAIError) -> EndpointError:
        reason = " ".join(str(error).split())[:300]
        return EndpointError(
            f"augment.model={self._model!r} at {self._client.base_url.host} gave no usable reply: "
            f"{type(error).__name__}: {reason}. Check augment.base_url, augment.model and the key "
            f"in ${self.config.api_key_env}, then run the same command again: finished partitions "
            "are kept"
        )
