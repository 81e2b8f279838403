"""Augmentation by a local causal LM: asked in batches of like length, kept item by item."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.generate import NewlineEnds, continuations
from polyprag.augment.prompt import instruction
from polyprag.augment.writing.asks import CHECK, ITEMS, SPAN, ModelRequest
from polyprag.augment.writing.avoided import avoided_in
from polyprag.augment.writing.work import PassageWork
from polyprag.augment.written import Written
from polyprag.config import AugmentConfig, Config, GenerationConfig
from polyprag.errors import ConfigError
from polyprag.method.base_model import load_base
from polyprag.method.window import longest_that_fits, prompt_tokens
from polyprag.tokens.chat_template import chat_markup
from polyprag.tokens.text_tokens import TextTokenizer
from sharding.corpus.passages import Passage

_DEFAULTS = GenerationConfig()
_SMALL = 1_000_000_000  # parameters: models below seldom write whole JSON
_TOKENS_OF_QUESTION = 48
_PATTERNS = (SPAN, CHECK)  # a text that goes on to the end of its line, in chat models, too
_TOKENS_MORE = 64  # that a rewrite may have beyond its request's


class HFWriter:
    """Writes augmentations with a transformers model that is already loaded.

    Attributes:
        simple: whether it is asked for one question at a time (`augment.style`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: AugmentConfig,
        *,
        generation: GenerationConfig = _DEFAULTS,
    ) -> None:
        """Uses `model`; chat models are asked through their template, but for single questions.

        Args:
            model: in eval mode.
            tokenizer: the model's.
            config: what to ask for.
            generation: `date` and `thinking` of a chat template.

        Raises:
            ConfigError: the chat template can't be used, or `augment.avoid` can't be read.
        """
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self._chat = bool(tokenizer.chat_template)
        markup: tuple[str, ...] = ()
        if self._chat:
            markup = chat_markup(tokenizer, date=generation.date, thinking=generation.thinking)
        self._requests = TextTokenizer(tokenizer, markup=markup)
        self._patterns = TextTokenizer(tokenizer) if markup else self._requests
        self._avoided = avoided_in(config.avoid)
        self.simple = config.style == "spans" or (
            config.style == "auto" and (not self._chat or model.num_parameters() < _SMALL)
        )

    def __call__(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        """Yields each passage's augmentation, those of `augment.batch_size` passages together.

        A model's reply is what it is: no passage stays open. What couldn't be read is among the
        dropped.

        Raises:
            ConfigError: the request alone doesn't fit the model's window.
        """
        size = self.config.batch_size
        for start in range(0, len(passages), size):
            block = passages[start : start + size]
            works = [
                PassageWork(passage, self.config, simple=self.simple, avoided=self._avoided)
                for passage in block
            ]
            self._ask([(work, request) for work in works for request in work.question_requests()])
            self._ask([(work, request) for work in works for request in work.check_requests()])
            self._ask([(work, request) for work in works for request in work.rewrite_requests()])
            for at, work in enumerate(works, start=start):
                yield at, work.written()

    def _ask(self, pending: list[tuple[PassageWork, ModelRequest]]) -> None:
        """Asks, and asks again, by sampling, where a reply has nothing of what was asked for."""
        tries = 1 + (self.config.max_retries if self.config.temperature > 0 else 0)
        for attempt in range(tries):
            if not pending:
                return
            replies = self.complete([request for _, request in pending], attempt)
            failed = []
            for (work, request), reply in zip(pending, replies, strict=True):
                # Of a single question there are other wordings to come.
                is_last = attempt == tries - 1 or request.kind in _PATTERNS
                if not work.take(request, reply, is_last=is_last) and not is_last:
                    failed.append((work, request))
            pending = failed

    @torch.inference_mode()
    def complete(self, requests: Sequence[ModelRequest], attempt: int) -> list[str]:
        """Returns the model's text for each request: greedy at first, sampled afterwards.

        Later attempts and later turns of a request are sampled, seeded by the first passage of each
        batch, its turn and the attempt, so that a partition that is written again gets the same
        text.
        """
        ids = [self._request_ids(request) for request in requests]
        keys = [
            (request.kind, attempt + request.turn if self.config.temperature else 0)
            for request in requests
        ]
        order = sorted(range(len(ids)), key=lambda i: (keys[i], -len(ids[i])))
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        replies = [""] * len(ids)
        start = 0
        while start < len(order):
            key = keys[order[start]]
            batch = [i for i in order[start : start + self.config.batch_size] if keys[i] == key]
            start += len(batch)
            kind, turn = key
            with torch.random.fork_rng(devices):
                torch.manual_seed(requests[batch[0]].passage.id * 1000 + turn)
                texts = continuations(
                    self.model,
                    self.tokenizer,
                    [ids[i] for i in batch],
                    max_new_tokens=self._new_tokens(kind, len(ids[batch[0]])),
                    temperature=self.config.temperature if turn else 0.0,
                    stops=(NewlineEnds(self.tokenizer),) if kind in _PATTERNS else (),
                )
            for i, text in zip(batch, texts, strict=True):
                replies[i] = text
        return replies

    def _new_tokens(self, kind: str, longest: int) -> int:
        """Returns how much may be said: a question is short, a rewrite about as its passage."""
        most = self.config.max_new_tokens
        if kind == ITEMS:
            return most
        return min(most, _TOKENS_OF_QUESTION if kind in _PATTERNS else longest + _TOKENS_MORE)

    def _request_ids(self, request: ModelRequest) -> list[int]:
        """Returns the request's token ids, the passage cut where the window is too short for it."""
        max_tokens = prompt_tokens(self.model.config, self.config.max_new_tokens)

        def ids_with(num_characters: int) -> list[int]:
            text = instruction(request, num_characters=num_characters, chat=self._chat)
            uses = self._patterns if request.kind in _PATTERNS else self._requests
            return uses.ids([text])[0]

        ids = longest_that_fits(ids_with, len(request.passage.text), room=max_tokens)
        if max_tokens is not None and len(ids) > max_tokens:
            raise ConfigError(
                f"augment.max_new_tokens={self.config.max_new_tokens} leaves {max_tokens} of the "
                "model's window for the request, which is too few: lower it, or set augment.model "
                "to a model with a longer window"
            )
        return ids


def load_writer(config: Config) -> HFWriter:
    """Returns a writer with `augment.model` (by default `model.path`) loaded."""
    source = config.model
    if config.augment.model is not None:
        source = replace(config.model, path=config.augment.model, revision=None)
    model, tokenizer = load_base(source)
    return HFWriter(model, tokenizer, config.augment, generation=config.generation)
