"""The vectors of an OpenAI-compatible /embeddings endpoint, a few requests at once."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import openai

from polyprag.endpoint import EndpointError, client_of, replies
from polyprag.retrieval.encoders.interface import unit_vectors

_AT_ONCE = 4  # requests under way, of each process
_MAX_RETRIES = 5  # of a request that failed on the way or met a limit; the client waits longer each
# How servers say that a text has more tokens than their model reads, and with which status.
_TOO_LONG = re.compile(r"token|too (long|large)|length|context|exceed|maximum", re.IGNORECASE)
_REFUSALS = (400, 413, 422, 500)
_CHARACTERS_A_TOKEN = 4  # of English; where a script needs more tokens, a text is cut several times
_SHORTER = 0.7  # of a text that is still refused
_NEVER_TOO_LONG = 64  # characters: a refusal of so short a text is about something else


class _TooLongError(EndpointError):
    """The endpoint refuses a request for the length of a text."""


class OpenAIEncoder:
    """An embedding model behind an endpoint.

    Attributes:
        cut: positions of the texts that were encoded last of which the endpoint took only the
            beginning.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None,
        api_key_env: str,
        batch_size: int,
        normalize: bool = True,
        max_tokens: int = 512,
        dims: int | None = None,
    ) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            model: the name that the endpoint knows the model by.
            base_url: of the endpoint; None: OpenAI's own.
            api_key_env: the name of the environment variable with the key.
            batch_size: texts a request.
            normalize: whether vectors get length 1.
            max_tokens: about how much stays of a text that is too long for the endpoint, or less
                where that is too long too; four characters count as a token.
            dims: D where it is known; None: the first reply says it.

        Raises:
            ConfigError: there is no key for OpenAI's own endpoint.
        """
        self._name, self._batch_size, self._normalize = model, batch_size, normalize
        self._api_key_env, self._dims = api_key_env, dims
        self._max_characters = max_tokens * _CHARACTERS_A_TOKEN
        self.cut: Sequence[int] = ()
        self._client = client_of(
            "index", base_url=base_url, api_key_env=api_key_env, max_retries=_MAX_RETRIES
        )

    @property
    def dims(self) -> int:
        """D; asks the endpoint where no reply has said it yet.

        Raises:
            EndpointError: see `encode`.
        """
        if self._dims is None:
            self._dims = self._reply(["a"]).shape[1]
        return self._dims

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D); zero for a blank text, which endpoints refuse.

        Raises:
            EndpointError: the endpoint can't be reached, refuses a request, or its reply isn't one
                vector of D numbers for each text.
        """
        vectors_nD = np.zeros((len(texts), self.dims), np.float32)
        told = [i for i, text in enumerate(texts) if not text.isspace() and text]
        size = self._batch_size
        batches = [told[start : start + size] for start in range(0, len(told), size)]
        asked = [[texts[i] for i in batch] for batch in batches]
        cut: list[int] = []
        for batch, (vectors, shortened) in zip(
            batches, replies(self._reply_or_cut, asked, at_once=_AT_ONCE), strict=True
        ):
            vectors_nD[batch] = vectors
            cut += [batch[at] for at in shortened]
        self.cut = cut
        return unit_vectors(vectors_nD) if self._normalize else vectors_nD

    def _reply_or_cut(self, texts: list[str]) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Returns the vectors (n, D) of texts, and positions of those that had to be cut."""
        try:
            return self._reply(texts), []
        except _TooLongError as error:
            if len(texts) > 1:  # which of them is too long
                middle = len(texts) // 2
                first, cut = self._reply_or_cut(texts[:middle])
                rest, cut_of_rest = self._reply_or_cut(texts[middle:])
                return np.concatenate([first, rest]), cut + [middle + at for at in cut_of_rest]
            (text,) = texts
            length = min(self._max_characters, int(len(text) * _SHORTER))
            if length < _NEVER_TOO_LONG:
                raise self._unusable(f"{error}, of the text {text[:40]!r}") from error
            return self._reply_or_cut([text[:length]])[0], [0]

    def _reply(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors (n, D) of one request."""
        try:
            reply = self._client.embeddings.create(model=self._name, input=texts)
        except openai.OpenAIError as error:
            reason = f"{type(error).__name__}: {error}"
            status = getattr(error, "status_code", None)
            if status in _REFUSALS and _TOO_LONG.search(str(error)):
                raise _TooLongError(reason) from error
            raise self._unusable(reason) from error
        except (ValueError, TypeError, AttributeError) as error:  # the client's own, of odd replies
            raise self._unusable(f"not a list of embeddings: {error}") from error
        # The client doesn't check what it reads: anything may stand anywhere.
        items = reply.data
        try:
            items = sorted(items, key=lambda item: item.index)
            if [item.index for item in items] != list(range(len(texts))):
                raise self._unusable(f"{len(items)} vectors for {len(texts)} texts, or misnumbered")
            with np.errstate(over="ignore"):
                vectors_nD = np.array([item.embedding for item in items], dtype=np.float32)
        except (ValueError, TypeError, AttributeError) as error:
            raise self._unusable(f"not a list of numbers for each text: {error}") from error
        shape = vectors_nD.shape[1:]
        if len(shape) != 1 or not shape[0] or shape[0] != (self._dims or shape[0]):
            raise self._unusable(f"vectors of shape {shape}, not of {self._dims or 'some'} numbers")
        if not np.isfinite(vectors_nD).all():
            raise self._unusable("a vector has numbers that are infinite or undefined")
        if not vectors_nD.any(axis=1).all():
            raise self._unusable("a vector is zero, which is near to nothing")
        return vectors_nD

    def _unusable(self, reason: str) -> EndpointError:
        return EndpointError(
            f"index.encoder_path={self._name!r} at {self._client.base_url.host} gave no usable "
            f"vectors: {' '.join(reason.split())[:300]}. Check index.base_url, index.encoder_path "
            f"and the key in ${self._api_key_env}, then run the same command again"
        )
