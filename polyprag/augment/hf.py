"""Augmentation by a local causal LM: batched, checked, and retried by sampling."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from msgspec import structs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.generation import continuations
from polyprag.augment.prompt import instruction, write_with_retries, written_or_open
from polyprag.augment.written import Written
from polyprag.config import AugmentConfig, Config, GenerationConfig
from polyprag.errors import ConfigError
from polyprag.method.base_model import load_base
from polyprag.method.window import first_characters, longest_that_fits, prompt_tokens
from polyprag.tokens.chat_template import chat_markup
from polyprag.tokens.text_tokens import TextTokenizer
from sharding.corpus.passages import Passage

_DEFAULTS = GenerationConfig()


class HFWriter:
    """Writes augmentations with a transformers model that is already loaded."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: AugmentConfig,
        *,
        generation: GenerationConfig = _DEFAULTS,
    ) -> None:
        """Uses `model`; chat models are asked through their template, others are continued.

        Args:
            model: in eval mode.
            tokenizer: the model's.
            config: what to ask for.
            generation: `date` and `thinking` of a chat template.

        Raises:
            ConfigError: the chat template can't be used.
        """
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self._chat = bool(tokenizer.chat_template)
        markup: tuple[str, ...] = ()
        if self._chat:
            markup = chat_markup(tokenizer, date=generation.date, thinking=generation.thinking)
        self._requests = TextTokenizer(tokenizer, markup=markup)

    def __call__(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        """Yields what was written about each passage, batch by batch.

        Raises:
            ConfigError: the request alone doesn't fit the model's window.
        """
        for start in range(0, len(passages), self.config.batch_size):
            batch = passages[start : start + self.config.batch_size]
            written = write_with_retries(batch, self.complete, self.config)
            for position, augmentation in enumerate(written, start=start):
                yield position, written_or_open(augmentation, self.config)

    @torch.inference_mode()
    def complete(self, passages: Sequence[Passage], attempt: int) -> list[str]:
        """Returns the model's text for each passage: greedy at attempt 0, sampled afterwards.

        Sampling is seeded by the first passage of each batch and the attempt, so that a partition
        that is written again gets the same text.
        """
        ids = [self._request_ids(passage) for passage in passages]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        replies = [""] * len(ids)
        for start in range(0, len(order), self.config.batch_size):
            batch = order[start : start + self.config.batch_size]
            with torch.random.fork_rng(devices):
                torch.manual_seed(passages[batch[0]].id * 1000 + attempt)
                texts = continuations(
                    self.model,
                    self.tokenizer,
                    [ids[i] for i in batch],
                    max_new_tokens=self.config.max_new_tokens,
                    temperature=self.config.temperature if attempt else 0.0,
                )
            for i, text in zip(batch, texts, strict=True):
                replies[i] = text
        return replies

    def _request_ids(self, passage: Passage) -> list[int]:
        """Returns the request's token ids, the passage cut where the window is too short for it."""
        max_tokens = prompt_tokens(self.model.config, self.config.max_new_tokens)

        def ids_with(num_characters: int) -> list[int]:
            text = instruction(
                structs.replace(passage, text=first_characters(passage.text, num_characters)),
                num_rewrites=self.config.num_rewrites,
                num_qas=self.config.num_qas,
            )
            return self._requests.ids([text if self._chat else f"{text}\n\nJSON:\n"])[0]

        ids = longest_that_fits(ids_with, len(passage.text), room=max_tokens)
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
