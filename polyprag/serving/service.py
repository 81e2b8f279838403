"""One run behind a server: takes requests while there is room, and keeps the run up to date."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from polyprag.answering.answer import Answer
from polyprag.answering.engine import Engine
from polyprag.answering.modes import CONTROLS, Mode, ready_modes
from polyprag.answering.reply import Reply
from polyprag.answering.request import Request
from polyprag.answering.trust.abstention import abstention_file
from polyprag.config import RouterConfig
from polyprag.errors import PolypragError
from polyprag.retrieval.search import Index
from polyprag.routed.map_file import ROUTER
from polyprag.run_dir import ENCODING, INDEX
from polyprag.serving.failures import ApiError
from polyprag.serving.limits import RequestLimits
from polyprag.serving.metrics import Metrics
from polyprag.serving.room import Room
from polyprag.serving.wire import ChatBody, CompletionBody
from sharding.storage.files import exists, join, read_bytes

_LOG = logging.getLogger(__name__)
_THREADS = 8  # that prepare and judge, while one other decodes
_RELOAD_SECONDS = 2.0

Result = TypeVar("Result")


class Service:
    """A loaded run that answers for a server.

    Attributes:
        engine: who answers.
        name: of the base model, as clients name it.
        limits: of requests.
        metrics: what is counted.
        started: Unix time.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        run_dir: str | Path,
        name: str,
        limits: RequestLimits | None = None,
        reload_seconds: float = _RELOAD_SECONDS,
    ) -> None:
        """Takes a loaded run; `watching` keeps it up to date."""
        self.engine, self.name, self.limits = engine, name, limits or RequestLimits()
        self.metrics, self.started = Metrics(), int(time.time())
        self._watch = self.metrics.watch
        self._run_dir, self._reload_seconds = str(run_dir), reload_seconds
        self._waiting, self._is_ending = 0, False
        self._mean_seconds = 1.0  # of a request, lately
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="serving")
        self._seen = self._state()
        self._watch("waiting", "Continuations that haven't ended", lambda: self._waiting)
        self._watch("running", "Of these, begun", lambda: engine.decoder.num_running)
        self._watch("queued", "Of these, not begun", lambda: engine.decoder.num_waiting)
        self._watch(
            "cache_bytes",
            "What the keys and values of running continuations take",
            lambda: engine.decoder.cache_bytes,
        )

    @property
    def modes(self) -> list[Mode]:
        """The ways in which the run can answer at the moment."""
        loaded = self.engine.loaded
        ready = ready_modes(
            has_index=loaded.index is not None,
            has_experts=loaded.pool is not None,
            has_map=loaded.has_map,
        )
        return [mode for mode in ready if mode not in CONTROLS]

    @property
    def refuses(self) -> bool:
        """Whether an answer that isn't to be trusted is kept back."""
        return self.engine.loaded.config.answering.abstain == "refuse"

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return not self._is_ending

    @cached_property
    def base(self) -> str:
        """Where the base model is from."""
        return self.engine.loaded.config.model.path

    @property
    def window(self) -> int | None:
        """Tokens that prompt and answer may have together; None: any."""
        found = getattr(self.engine.loaded.model.config, "max_position_embeddings", None)
        return None if found is None else int(found)

    def router_for(self, body: ChatBody | CompletionBody) -> RouterConfig | None:
        """Returns how rows become gates, where a client asks for gates."""
        wanted = body.polyprag is not None and body.polyprag.gates
        return self.engine.loaded.router if wanted else None

    def indexed(self) -> Index:
        """Returns the run's index.

        Raises:
            ApiError: it has none.
        """
        index = self.engine.loaded.index
        if index is None:
            raise ApiError(400, "the run has no index: run `polyprag index RUN`")
        return index

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Runs what would hold the event loop up."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def accept(self, number: int = 1, *, route: str, mode: str = "") -> Room:
        """Takes the room that a client's request needs.

        Args:
            number: of continuations; a search needs as much room as one.
            route: for the counters.
            mode: for the counters.

        Raises:
            ApiError: there is none at the moment, or it asks for more than one may.
        """
        limits = self.limits
        if number > limits.max_choices:
            raise ApiError(400, f"{number} continuations: at most {limits.max_choices} are made")
        if self._is_ending:
            raise ApiError(503, "the server is ending", retry_after=5)
        if self._waiting + number > limits.max_waiting:
            seconds = math.ceil(self._mean_seconds)
            raise ApiError(
                429,
                f"{self._waiting} continuations are waiting already; try again in {seconds} s",
                code="overloaded",
                retry_after=seconds,
            )
        self._waiting += number
        return Room(
            number,
            seconds=limits.timeout_s,
            route=route,
            mode=mode,
            metrics=self.metrics,
            on_leave=self._left,
        )

    def _left(self, room: Room) -> None:
        self._waiting -= room.number
        self._mean_seconds += (room.seconds - self._mean_seconds) / 16

    async def begun(self, requests: Sequence[Request]) -> list[Reply]:
        """Begins to answer requests of any kinds, in one batch with all others."""
        return await self.in_thread(lambda: self.engine.submit_all(requests))

    async def ended(self, replies: Sequence[Reply]) -> list[Answer]:
        """Waits for answers; when it is given up, they are."""
        try:
            for reply in replies:
                await reply.wait()
        except BaseException:
            for reply in replies:
                reply.cancel()
            raise
        return list(await asyncio.gather(*(self.answer_of(reply) for reply in replies)))

    async def answer_of(self, reply: Reply) -> Answer:
        """Returns what a reply has come to, judged and counted."""
        answer = await self.in_thread(reply.answer)
        said = sum(len(choice.ids) for choice in answer.choices)
        self.metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(said)
        self.metrics.batch.observe(self.engine.decoder.num_running + len(answer.choices))
        if reply.first_seconds is not None:
            before = (answer.latency.retrieve_ms + answer.latency.mix_ms) / 1000
            self.metrics.first_token.observe(before + reply.first_seconds)
            longest = max(len(choice.ids) for choice in answer.choices)
            if longest > 1:
                gap = reply.seconds - reply.first_seconds
                self.metrics.per_token.observe(gap / (longest - 1))
        return answer

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Takes in what changes in the run meanwhile; ends with what was accepted."""
        await self.in_thread(self.engine.loaded.open_index)  # else the first request waits for it
        task = asyncio.create_task(self._keep_up())
        try:
            yield
        finally:
            self._is_ending = True
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.to_thread(self.engine.close)
            self._threads.shutdown()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(self._reload_seconds)
            await asyncio.to_thread(self._take_in)

    def _take_in(self) -> None:
        """Loads the run anew where it has changed; one that isn't whole yet is looked at later."""
        try:
            state = self._state()
            if state == self._seen:
                return
            self.engine.reload()
        except (PolypragError, OSError) as error:
            self.metrics.reloads.labels("failed").inc()
            _LOG.warning("%s: what has changed isn't taken in yet: %s", self._run_dir, error)
            return
        self._seen = state
        self.metrics.reloads.labels("done").inc()
        _LOG.warning("%s: what has changed was taken in", self._run_dir)

    def _state(self) -> tuple[str, ...]:
        """Returns what is another one when the run has changed."""
        files = [join(self._run_dir, part, "manifest.json") for part in (ENCODING, INDEX, ROUTER)]
        files.append(abstention_file(self._run_dir))
        return tuple(
            hashlib.sha256(read_bytes(file)).hexdigest() if exists(file) else "" for file in files
        )
