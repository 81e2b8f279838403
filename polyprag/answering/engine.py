"""One engine for every way to ask a run: each request has its own mode, mixture and settings.

Requests are prepared in their callers' threads (search, rows, mixture, prompt) while one thread
decodes all of them in one batch.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from polyprag.answering.answer import Answer, Choice, Latency
from polyprag.answering.answerer import Answerer
from polyprag.answering.generation import said_of
from polyprag.answering.modes import MIXES, MODES, SEARCHES, Mode
from polyprag.answering.preparation import Preparation, Prepared
from polyprag.answering.reply import Reply
from polyprag.answering.request import Request
from polyprag.config import Config
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.loop import DecodingLoop
from polyprag.decoding.slots import SlotCache
from polyprag.decoding.text_stream import TextStream
from polyprag.errors import ConfigError, RequestError
from polyprag.retrieval.query_encoder import check_endpoint
from polyprag.routed.map_file import ROUTER
from polyprag.run_dir import ENCODING, INDEX
from sharding.storage.files import exists, join


class Engine:
    """A run, loaded once, that answers any number of requests from any thread."""

    def __init__(self, answerer: Answerer, *, run_dir: str | Path, most: int | None = None) -> None:
        """Starts to wait for requests; `open` loads a run directory.

        Args:
            answerer: the loaded run.
            run_dir: its directory, where passages are looked up by key.
            most: continuations that are said at a time; None: `generation.batch_size`.

        Raises:
            ConfigError: the base model remembers more than keys and values of what it has read.
        """
        if not SlotCache.fits(answerer.model):
            raise ConfigError(
                f"model.path={answerer.config.model.path!r}: models that remember more than keys "
                "and values can't be asked by several requests in one batch; `polyprag ask` and "
                "`evaluate` answer with them batch by batch"
            )
        self._loaded, self._run_dir = answerer, str(run_dir)
        self._preparation = Preparation(answerer, run_dir=self._run_dir)
        self._loop = DecodingLoop(
            Decoder(
                answerer.model,
                answerer.tokenizer,
                pool=answerer.pool,
                most=most or answerer.config.generation.batch_size,
            )
        )

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
        loaded = Answerer.open(run_dir, config, modes=modes or _ready_modes(run_dir))
        return cls(loaded, run_dir=run_dir, most=most)

    def ask(self, question: str, **fields: Any) -> Answer:
        """Answers one question; `fields` are those of a `Request`, such as mode="combine".

        Raises:
            RequestError: the request can't be answered as it is.
        """
        return self.submit(Request(question=question, **fields)).answer()

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers requests of any kinds in one batch, in their order."""
        replies = [self._submitted(each) for each in self._preparation.of(requests)]
        return [reply.answer() for reply in replies]

    def submit(self, request: Request) -> Reply:
        """Begins to answer a request, and returns what gives its text as it comes."""
        (prepared,) = self._preparation.of([request])
        return self._submitted(prepared)

    async def stream(self, question: str, **fields: Any) -> AsyncIterator[str]:
        """Yields the answer's text as it comes; see `ask`."""
        reply = await asyncio.to_thread(self.submit, Request(question=question, **fields))
        async for piece in reply:
            yield piece

    @property
    def has_turns(self) -> bool:
        """Whether prompts are turns of a chat template."""
        return self._loaded.prompts.chat

    @property
    def stale_index(self) -> str | None:
        """What of the index is out of date, and what to do; None: nothing."""
        return None if self._loaded.index is None else self._loaded.index.freshness.note

    def close(self) -> None:
        """Finishes what was begun, and takes nothing more."""
        self._loop.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Returns what was loaded, in a line."""
        loaded = self._loaded
        index, pool = loaded.index, loaded.pool
        parts = [
            f"Engine({self._run_dir!r}",
            f"base {loaded.config.model.path}",
            "no index" if index is None else f"{index.num_passages:,} passages",
            "no experts" if pool is None else f"{pool.num_experts} experts",
        ]
        return ", ".join(parts) + ")"

    def _submitted(self, prepared: Prepared) -> Reply:
        sampling, request = prepared.sampling, prepared.request
        started = time.perf_counter()
        reply = Reply(partial(self._answer, prepared, started))
        made = []
        for choice in range(request.n):
            seed = None if sampling.seed is None else sampling.seed + choice
            own = replace(sampling, seed=seed)
            made.append(
                Continuation(
                    prepared.prompt,
                    sampling=own,
                    text=TextStream(self._loaded.tokenizer, own.stops),
                    gates=prepared.gates,
                    on_change=partial(reply.note, choice),
                )
            )
        reply.continuations = made
        try:
            self._loop.submit(made)
        except ValueError as error:
            raise RequestError(f"n={request.n}: {error}") from error
        return reply

    def _answer(self, prepared: Prepared, started: float, reply: Reply) -> Answer:
        """Returns what a reply has come to, judged."""
        choices = tuple(
            Choice(
                text=each.text,
                ids=tuple(each.ids),
                finish=str(each.finish),
                logprobs=tuple(each.logprobs) if prepared.request.sampling else (),
            )
            for each in reply.continuations
        )
        first, *_ = reply.continuations
        request = prepared.request
        said = said_of(first)
        latency = Latency(
            retrieve_ms=prepared.retrieve_ms,
            mix_ms=prepared.mix_ms,
            generate_ms=(time.perf_counter() - started) * 1000,
        )
        loaded = self._loaded
        judged = loaded.judge.judged(
            [request.text],
            [said],
            mode=request.mode,
            hits=None if prepared.hits is None else [prepared.hits],
            index=loaded.index,
            alone=partial(loaded.alone, [request.text], [said]),
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
            prompt_tokens=len(prepared.prompt),
        )


def _ready_modes(run_dir: str | Path) -> list[Mode]:
    """Returns the modes that a run has everything for."""
    has = {
        stage: exists(join(run_dir, stage, "manifest.json")) for stage in (INDEX, ENCODING, ROUTER)
    }
    return [
        mode
        for mode in MODES
        if (has[INDEX] or mode not in SEARCHES)
        and (has[ENCODING] or mode not in MIXES)
        and (has[ROUTER] or mode != "routed")
    ]
