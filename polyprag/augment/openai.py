"""Augmentation by an OpenAI-compatible endpoint, with a bounded number of passages at once."""

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

import openai
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event

from polyprag.augment.prompt import EMPTY, instruction
from polyprag.augment.request_options import RequestOptions
from polyprag.augment.writing.asks import ITEMS, ModelRequest
from polyprag.augment.writing.avoided import avoided_in
from polyprag.augment.writing.completions import ReplyError, error_of, said_in, shortened
from polyprag.augment.writing.work import PassageWork
from polyprag.augment.written import Written
from polyprag.config import AugmentConfig
from polyprag.endpoint import EndpointError, client_of
from polyprag.errors import ConfigError
from sharding.corpus.passages import Passage

_NOTHING: Mapping[int, Written] = {}
_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 60.0  # doubles in between, unless the server says otherwise
# How servers say that a request has more tokens than their model reads.
_TOO_LONG = re.compile(
    r"context (?:length|window|size)|too (?:long|large|many tokens)|maximum.{0,20}(?:length|tokens)"
    r"|exceed",
    re.IGNORECASE,
)
_TOO_LONG_STATUS = (400, 413, 422)
_FEWEST_CHARACTERS = 500  # of a passage: a refusal of so little is about something else


class OpenAIWriter:
    """Writes augmentations through the chat completions of an OpenAI-compatible server.

    What it learns of the server holds for later calls: that it works, which options it hasn't, and
    that it is down.
    """

    def __init__(
        self, config: AugmentConfig, *, is_known: bool = False, lets_go: bool = False
    ) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            config: `model`, `base_url` (default OpenAI's own) and `api_key_env`, the name of the
                environment variable with the key. `batch_size` bounds the passages under way,
                `max_retries` and `retry_s` how often and how long one request is repeated.
            is_known: whether it wrote something before, in another process: then what it refuses
                leaves passages open, as if it had written in this one.
            lets_go: whether anything leaves passages open, even a wrong key.

        Raises:
            ConfigError: `augment.model` isn't set, there is no key for OpenAI's own endpoint, or
                `augment.avoid` can't be read.
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
            max_retries=0,  # it is asked again here, with one budget for all kinds of failure
        ).with_options(timeout=config.request_s)
        self._avoided = avoided_in(config.avoid)
        self._options = RequestOptions(has_address=config.base_url is not None)
        self._lock = threading.Lock()
        self._has_succeeded, self._is_known = lets_go, is_known or lets_go
        self._failures_in_a_row, self._all_refused = 0, True
        self._is_down = threading.Event()
        self._last_words = ""

    def __call__(
        self, passages: Sequence[Passage], before: Mapping[int, Written] = _NOTHING
    ) -> Iterator[tuple[int, Written]]:
        """Yields each passage's augmentation as it comes; where none came, why.

        After `augment.give_up_after` failures in a row nothing more is asked: all other passages
        stay open at once.

        Raises:
            EndpointError: no request has ever brought a text, and the key, the model or the address
                is wrong, or every request is refused.
        """
        pool = ThreadPoolExecutor(self.config.batch_size)
        try:
            asked = {
                pool.submit(self._write, each, before.get(at)): at
                for at, each in enumerate(passages)
            }
            for done in as_completed(asked):
                yield asked.pop(done), done.result()
        except BaseException:
            self._is_down.set()  # nobody waits for a further try
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if passages and self._is_useless and self._last_words:
            raise self._unusable(self._last_words)

    def _write(self, passage: Passage, before: Written | None) -> Written:
        if self._is_down.is_set():
            return replace(before or Written(EMPTY), failure=self._not_asked())
        work = PassageWork(
            passage,
            self.config,
            simple=self.config.style == "spans",
            avoided=self._avoided,
            before=before,
        )
        answered = 0
        try:
            for requests in (work.question_requests, work.rewrite_requests):
                for request in requests():
                    if before is None or answered >= before.asked:
                        self._ask(work, request)
                    answered += 1
        except ReplyError as error:
            return work.cut_short(self._failed(error), asked=answered)
        with self._lock:
            self._failures_in_a_row = 0
        return work.written()

    def _ask(self, work: PassageWork, request: ModelRequest) -> None:
        """Asks until a reply has what was asked for.

        Raises:
            ReplyError: none had, or none came.
        """
        started = time.monotonic()
        tries = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ReplyError) and error.passes),
            stop=lambda state: self._is_enough(state, started),
            wait=_wait_s,
            sleep=sleep_using_event(self._is_down),
            reraise=True,
        )
        for attempt in tries:
            with attempt:
                number = attempt.retry_state.attempt_number
                reply = self._reply(request, self._temperature(request, number))
                if not work.take(request, reply, is_last=False):
                    # Of a model that isn't sampled the same would come again.
                    passes = self.config.temperature > 0
                    if number > self.config.max_retries or not passes:
                        if work.take(request, reply):  # an order in the passage was obeyed
                            return
                        passes = False
                    words = f"nothing of what was asked for in the reply: {reply}"
                    raise ReplyError(words, passes=passes, retry_after_s=0.0)

    def _temperature(self, request: ModelRequest, attempt: int) -> float:
        return self.config.temperature if attempt > 1 or request.turn else 0.0

    def _is_enough(self, state: RetryCallState, started: float) -> bool:
        """Tells whether a request is given up, after its last try and before the next wait."""
        late = time.monotonic() - started + _wait_s(state) > self.config.retry_s
        return late or self._is_down.is_set() or state.attempt_number > self.config.max_retries

    def _reply(self, request: ModelRequest, temperature: float) -> str:
        """Returns what the model says to one request.

        Raises:
            ReplyError: nothing came.
            EndpointError: the key, the model or the address is wrong.
        """
        shown: int | None = None  # characters of the passage; all, unless the server can't read it
        while True:
            prompt = instruction(request, num_characters=shown)
            sent = self._options.now(
                temperature=temperature,
                limit=self.config.max_new_tokens,
                is_json=request.kind == ITEMS,
            )
            try:
                raw = self._client.chat.completions.with_raw_response.create(
                    model=self._model, messages=[{"role": "user", "content": prompt}], **sent
                )
                said = said_in(raw.http_response, max_tokens=self.config.max_new_tokens)
            except openai.OpenAIError as error:
                problem = error_of(error)
                if self._options.can_go_without(problem, sent):
                    continue
                size = len(request.passage.text) if shown is None else shown
                if _is_too_long(problem) and size > _FEWEST_CHARACTERS:
                    shown = size // 2
                    continue
                raise self._raised(problem) from error
            except ReplyError as error:
                raise self._raised(error) from None
            self._has_succeeded = True
            return said

    def _raised(self, error: ReplyError) -> Exception:
        """Returns what a failed request raises: nothing ever came of a wrong key."""
        if error.is_setup and not self._has_succeeded and not _may_pass(error):
            return self._unusable(str(error))
        return error

    def _failed(self, error: ReplyError) -> str:
        """Counts a passage's failure, and returns its words.

        Raises:
            EndpointError: every request so far was refused, or couldn't be sent.
        """
        with self._lock:
            self._failures_in_a_row += 1
            self._last_words = error.told()
            self._all_refused &= error.is_refusal or error.is_setup
            is_enough = self._failures_in_a_row >= self.config.give_up_after
        if error.is_setup and not self._has_succeeded:
            raise self._unusable(str(error)) from error
        if is_enough:
            if self._is_useless:
                raise self._unusable(str(error)) from error
            self._is_down.set()
        return error.told()

    @property
    def _is_useless(self) -> bool:
        """Whether it has refused everything so far, and never written anything."""
        return self._all_refused and not (self._has_succeeded or self._is_known)

    def _not_asked(self) -> str:
        return shortened(
            f"not asked: the endpoint failed {self.config.give_up_after} times in a row, at last "
            f"with {self._last_words}"
        )

    def _unusable(self, reason: str) -> EndpointError:
        """Returns the error that ends all; what waits isn't asked any more."""
        self._is_down.set()
        return EndpointError(
            f"augment.model={self._model!r} at {self._client.base_url.host} gave no usable reply: "
            f"{reason}. Check augment.base_url (it mostly ends in /v1), augment.model and the key "
            f"in ${self.config.api_key_env}, then run the same command again: what is written is "
            "kept"
        )


def _is_too_long(error: ReplyError) -> bool:
    return error.status in _TOO_LONG_STATUS and _TOO_LONG.search(str(error)) is not None


def _may_pass(error: ReplyError) -> bool:
    """Tells whether an address may be right even so: nobody answers there yet."""
    return error.passes and error.status == 0


def _wait_s(state: RetryCallState) -> float:
    """Returns the wait before the next try: what the server asks for, or twice the last one."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, ReplyError) else None
    if asked is not None:
        return asked
    return min(_MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1))
