"""One engine for every way to ask a run: each request has its own mode, mixture and settings.

Requests are prepared in their callers' threads (search, rows, mixture, prompt) while one thread
decodes all of them in one batch.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from polyprag.answering.answer import Answer, Choice, Latency
from polyprag.answering.answerer import Answerer
from polyprag.answering.generation import said_of
from polyprag.answering.modes import Mode, ready_modes
from polyprag.answering.preparation import Preparation, Prepared
from polyprag.answering.reply import Reply
from polyprag.answering.request import Request
from polyprag.config import Config
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.loop import DecodingLoop, LoopClosedError
from polyprag.decoding.slots import SlotCache
from polyprag.decoding.text_stream import TextStream
from polyprag.errors import ConfigError, RequestError, RunError
from polyprag.retrieval.query_encoder import check_endpoint
from polyprag.routed.map_file import ROUTER
from polyprag.run_dir import CORPUS, ENCODING, INDEX
from sharding.storage.files import exists, join


class Engine:
    """A run, loaded once, that answers any number of requests from any thread."""

    def __init__(
        self,
        answerer: Answerer,
        *,
        run_dir: str | Path,
        most: int | None = None,
        modes: Collection[Mode] | None = None,
    ) -> None:
        """Starts to wait for requests; `open` loads a run directory.

        Args:
            answerer: the loaded run.
            run_dir: its directory, where passages are looked up by key.
            most: continuations that are said at a time; None: `generation.batch_size`.
            modes: what `reload` loads; None: all that the run is ready for.

        Raises:
            ConfigError: the base model remembers more than keys and values of what it has read.
        """
        if not SlotCache.fits(answerer.model):
            raise ConfigError(
                f"model.path={answerer.config.model.path!r}: models that remember more than keys "
                "and values can't be asked by several requests in one batch; `polyprag ask` and "
                "`evaluate` answer with them batch by batch"
            )
        self._run_dir, self._most = str(run_dir), most or answerer.config.generation.batch_size
        self._modes = modes
        self._reloading = threading.Lock()
        self._now = self._ready(answerer, None)

    def _ready(self, loaded: Answerer, before: "_Ready | None") -> "_Ready":
        """Gets what was loaded ready, with the loop of before where the model is the same."""
        if before is not None and loaded.model is before.loaded.model:
            loop = before.loop
        else:
            decoder = Decoder(
                loaded.model,
                loaded.tokenizer,
                pool=loaded.pool,
                prefix_ids=loaded.prompts.skipped_ids,
                most=self._most,
            )
            loop = DecodingLoop(decoder)
        return _Ready(loaded, Preparation(loaded, run_dir=self._run_dir), loop)

    def reload(self) -> None:
        """Takes in what has changed in the run since: passages, rows, experts, calibration.

        Requests that have begun end with what they began with. Another model is loaded only where
        the experts have changed; both are in memory then until the last of those has ended.

        Raises:
            RunError: the run isn't whole at the moment; nothing has changed then.
        """
        with self._reloading:
            before = self._now
            modes = self._modes or _ready_modes(self._run_dir)
            config, base = before.loaded.config, before.loaded.base
            loaded = Answerer.open(self._run_dir, config, modes=modes, earlier=base)
            loaded.open_index()  # which a build could take away when it is in use
            self._now = self._ready(loaded, before)
            if self._now.loop is not before.loop:
                before.loop.close()

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        config: Config,
        *,
        modes: Collection[Mode] | None = None,
        most: int | None = None,
    ) -> "Engine":
        """Loads what the modes need, of a run that the user trusts as far as its settings go.

        Args:
            run_dir: RUN.
            config: see `Answerer.open`.
            modes: what will be asked for; None: all that the run is ready for.
            most: see `Engine`.

        Raises:
            RunError: the run lacks something that a mode needs.
            ConfigError: the base model can't be loaded, or the index asks an endpoint that the user
                hasn't named.
        """
        if exists(join(run_dir, INDEX, "manifest.json")):
            check_endpoint(run_dir, trust_run=False)
        ready = modes or _ready_modes(run_dir)
        if ready == ["closed"] and not exists(join(run_dir, CORPUS)):
            raise RunError(f"{run_dir} is no run: run `polyprag prepare` first")
        loaded = Answerer.open(run_dir, config, modes=ready)
        return cls(loaded, run_dir=run_dir, most=most, modes=modes)

    def ask(self, question: str, **fields: Any) -> Answer:
        """Answers one question; `fields` are those of a `Request`, such as mode="combine".

        Raises:
            RequestError: the request can't be answered as it is.
        """
        return self.submit(Request(question=question, **fields)).answer()

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers requests of any kinds in one batch, in their order."""
        return [reply.answer() for reply in self.submit_all(requests)]

    def submit(self, request: Request) -> Reply:
        """Begins to answer a request, and returns what gives its text as it comes."""
        (reply,) = self.submit_all([request])
        return reply

    def submit_all(self, requests: Sequence[Request]) -> list[Reply]:
        """Begins to answer several, whose passages are searched for together."""
        now = self._now
        prepared = now.preparation.of(requests)
        try:
            return [self._begun(each, now) for each in prepared]
        except LoopClosedError:
            if now is self._now:
                raise
        return self.submit_all(requests)  # the run was loaded anew meanwhile

    async def stream(self, question: str, **fields: Any) -> AsyncIterator[str]:
        """Yields the answer's text as it comes; see `ask`."""
        reply = await asyncio.to_thread(self.submit, Request(question=question, **fields))
        async for piece in reply:
            yield piece

    @property
    def has_turns(self) -> bool:
        """Whether prompts are turns of a chat template."""
        return self.loaded.prompts.chat

    @property
    def stale_index(self) -> str | None:
        """What of the index is out of date, and what to do; None: nothing."""
        index = self.loaded.index
        return None if index is None else index.freshness.note

    @property
    def loaded(self) -> Answerer:
        """The run as it is loaded at the moment."""
        return self._now.loaded

    @property
    def decoder(self) -> Decoder:
        """What is being said at the moment, for who watches it."""
        return self._now.loop.decoder

    def close(self) -> None:
        """Finishes what was begun, and takes nothing more."""
        self._now.loop.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Returns what was loaded, in a line."""
        loaded = self.loaded
        index, pool = loaded.index, loaded.pool
        parts = [
            f"Engine({self._run_dir!r}",
            f"base {loaded.config.model.path}",
            "no index" if index is None else f"{index.num_passages:,} passages",
            "no experts" if pool is None else f"{pool.num_experts} experts",
        ]
        return ", ".join(parts) + ")"

    def _begun(self, prepared: Prepared, now: "_Ready") -> Reply:
        sampling, request = prepared.sampling, prepared.request
        reply = Reply(prepared, partial(_answer, now.loaded))
        made = []
        for choice in range(request.n):
            seed = None if sampling.seed is None else sampling.seed + choice
            own = replace(sampling, seed=seed)
            made.append(
                Continuation(
                    prepared.prompt,
                    sampling=own,
                    text=TextStream(now.loaded.tokenizer, own.stops),
                    gates=prepared.gates,
                    on_change=partial(reply.note, choice),
                )
            )
        reply.continuations = made
        try:
            now.loop.submit(made)
        except ValueError as error:
            raise RequestError(f"n={request.n}: {error}") from error
        return reply


@dataclass(frozen=True, slots=True)
class _Ready:
    """A loaded run, ready for requests."""

    loaded: Answerer
    preparation: Preparation
    loop: DecodingLoop


def _answer(loaded: Answerer, reply: Reply) -> Answer:
    """Returns what a reply has come to, judged."""
    prepared = reply.prepared
    asked = prepared.request.sampling
    tells = asked is not None and asked.logprobs is not None  # else noted to judge by alone
    choices = tuple(
        Choice(
            text=each.text,
            ids=tuple(each.ids),
            finish=str(each.finish),
            logprobs=tuple(each.logprobs) if tells else (),
        )
        for each in reply.continuations
    )
    first, *_ = reply.continuations
    request = prepared.request
    said = said_of(first)
    latency = Latency(
        retrieve_ms=prepared.retrieve_ms,
        mix_ms=prepared.mix_ms,
        generate_ms=reply.seconds * 1000,
    )
    judged = None
    if request.question is not None:  # a text that goes on isn't right or wrong
        judged = loaded.judge.judged(
            [prepared.text],
            [said],
            mode=request.mode,
            hits=None if prepared.hits is None else [prepared.hits],
            index=loaded.index,
            alone=partial(loaded.alone, [prepared.text], [said]),
            top_k=request.top_k,
        )
    evidence, trust = (None, None) if judged is None else judged[0]
    return Answer(
        text=said.text,
        mode=request.mode,
        hits=prepared.hits,
        gates=None if prepared.gates is None else prepared.gates.numpy(),
        latency=latency,
        evidence=evidence,
        trust=trust,
        weights=prepared.weights,
        choices=choices,
        thinking=said.thinking,
        prompt_ids=tuple(prepared.prompt),
        prompt_logprobs=tuple(first.prompt_logprobs),
    )


def _ready_modes(run_dir: str | Path) -> list[Mode]:
    """Returns the modes that a run has everything for."""
    has_index, has_experts, has_map = (
        exists(join(run_dir, stage, "manifest.json")) for stage in (INDEX, ENCODING, ROUTER)
    )
    return ready_modes(has_index=has_index, has_experts=has_experts, has_map=has_map)
