"""What requests are decoded with: passages, mixture, prompt.

k passages of a request, S sites, K experts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from polyprag.answering.answerer import Answerer
from polyprag.answering.generation import greedy
from polyprag.answering.given import hits_of_ids
from polyprag.answering.mixing import mixture_of_hits
from polyprag.answering.modes import MIXES, READS, SEARCHES
from polyprag.answering.request import Key, Request
from polyprag.decoding.sampling import Sampling
from polyprag.errors import RequestError
from polyprag.method.mixture import weights as weights_of
from polyprag.method.prompts import passage_block
from polyprag.method.window import prompt_tokens
from polyprag.retrieval.results import Hits
from sharding.change.keys import ids_of_keys
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.storage.files import join


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a request is decoded with.

    Attributes:
        request: that was made.
        text: what its passages were searched for by.
        prompt: token ids.
        hits: its passages; None where its mode has none.
        weights: (k,) float32, what each passage's gates count; None where none is mixed.
        gates: (S, K) float32; None for the base alone.
        sampling: how it is continued.
        retrieve_ms: of the search, shared by the requests that were searched for together.
        mix_ms: of reading rows and mixing.
    """

    request: Request
    text: str
    prompt: list[int]
    hits: Hits | None
    weights: npt.NDArray[np.float32] | None
    gates: torch.Tensor | None
    sampling: Sampling
    retrieve_ms: float
    mix_ms: float


class Preparation:
    """Prepares requests to one run, in any thread."""

    def __init__(self, loaded: Answerer, *, run_dir: str) -> None:
        """Takes the loaded run, and its directory, where passages are looked up by key."""
        self._loaded, self._run_dir = loaded, run_dir
        self._keys: dict[str, int] = {}

    def of(self, requests: Sequence[Request]) -> list[Prepared]:
        """Finds passages and mixtures of requests; what is searched for, all at once.

        Raises:
            RequestError: names what can't be answered.
            RunError: the run has no index or no experts, and a mode needs them.
        """
        loaded, found = self._loaded, dict[int, Hits]()
        texts = [self._text(request) for request in requests]
        started = time.perf_counter()
        searched: dict[int | None, list[int]] = {}
        for i, request in enumerate(requests):
            if request.pinned is not None:
                found[i] = self._pinned(request.pinned)
            elif request.mode in SEARCHES:
                searched.setdefault(request.top_k, []).append(i)
        for top_k, which in searched.items():
            hits = loaded.retrieve([texts[i] for i in which], k=top_k)
            found |= dict(zip(which, hits, strict=True))
        retrieve_ms = (time.perf_counter() - started) * 1000 / max(len(requests), 1)
        return [
            self._ready(request, texts[i], found.get(i), retrieve_ms=retrieve_ms)
            for i, request in enumerate(requests)
        ]

    def _text(self, request: Request) -> str:
        """Returns what a request's passages are searched for by."""
        if request.question is not None:
            return request.question
        if isinstance(request.prompt, str):
            return request.prompt
        vocabulary = int(self._loaded.model.config.get_text_config().vocab_size)
        ids = list(request.prompt or ())
        if wrong := [token for token in ids if not 0 <= token < vocabulary]:
            raise RequestError(f"prompt: {wrong[0]} isn't a token of the model's {vocabulary:,}")
        return str(self._loaded.tokenizer.decode(ids, skip_special_tokens=True))

    def _ready(
        self, request: Request, text: str, hits: Hits | None, *, retrieve_ms: float
    ) -> Prepared:
        loaded, started = self._loaded, time.perf_counter()
        weights, gates = None, None
        if request.mode == "routed":
            gates = loaded.routed([text])[0]
        elif request.mode in MIXES and hits is not None:
            weights = weights_of(torch.from_numpy(hits.scores), loaded.config.retrieval)
            if request.mixture is not None:
                weights = torch.tensor(list(request.mixture.values()), dtype=torch.float32)
            gates = mixture_of_hits(
                hits,
                weights,
                mode=request.mode,
                pool=loaded.experts(request.mode),
                router=loaded.router,
            )
        judged = request.question is not None and loaded.config.answering.abstain != "never"
        sampling = request.sampling or greedy(
            loaded.config.generation, chat=loaded.prompts.chat, scored=judged
        )
        if judged and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)  # what an answer is judged by
        mixed = time.perf_counter()
        return Prepared(
            request=request,
            text=text,
            prompt=self._prompt(request, hits, sampling),
            hits=hits,
            weights=None if weights is None else weights.numpy(),
            gates=gates,
            sampling=sampling,
            retrieve_ms=retrieve_ms,
            mix_ms=(mixed - started) * 1000,
        )

    def _prompt(self, request: Request, hits: Hits | None, sampling: Sampling) -> list[int]:
        loaded = self._loaded
        shown = hits.passages if hits is not None and request.mode in READS else ()
        if request.question is not None:
            return loaded.prompt_ids(
                request.question,
                shown,
                history=request.history,
                max_new_tokens=sampling.max_new_tokens,
            )
        blocks = "".join(passage_block(each.title, each.text) for each in shown)
        if isinstance(request.prompt, str):
            (ids,) = loaded.prompts.plain_ids([blocks + request.prompt])
        else:
            ids = list(request.prompt or ())
            if blocks:
                ids = [*loaded.prompts.plain_ids([blocks])[0], *ids]
        room = prompt_tokens(loaded.model.config, sampling.max_new_tokens)
        if not ids or (room is not None and len(ids) > room):
            raise RequestError(
                f"prompt: has {len(ids)} tokens; it needs one at least, and {room} fit the model's "
                f"window beside max_new_tokens={sampling.max_new_tokens}"
            )
        return ids

    def _pinned(self, keys: Sequence[Key]) -> Hits:
        """Returns passages by id or key.

        Raises:
            RequestError: there is none.
        """
        unknown = [key for key in keys if isinstance(key, str) and key not in self._keys]
        try:
            if unknown:
                corpus = Corpus.open(join(self._run_dir, "corpus"))
                for passage_id in ids_of_keys(corpus, unknown):  # which reads it once for all
                    self._keys[corpus.record(passage_id).passage.key] = passage_id
            if gone := [key for key in unknown if key not in self._keys]:
                raise RequestError(f"passages: {gone[0]!r} has been removed")
            ids = [self._keys[key] if isinstance(key, str) else key for key in keys]
            return hits_of_ids(self._loaded.indexed(), ids)
        except (CorpusError, IndexError) as error:
            raise RequestError(f"passages: {error}") from error
