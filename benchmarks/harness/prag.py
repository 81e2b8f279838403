"""PRAG, the rival: one LoRA for each passage, by the book (arXiv 2501.15915), on peft."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from polyprag.answering.generation import decode_greedily
from polyprag.config import Config
from polyprag.evaluation.questions import Question
from polyprag.method.base_model import load_base
from polyprag.method.batches.padded import pad_batch
from polyprag.method.examples import examples_of
from polyprag.method.loss import causal_loss_sum, logits_at
from polyprag.method.prompts import PromptTokenizer, qa_prompt
from sharding.corpus.passages import Record


@dataclass(frozen=True)
class Recipe:
    """How each passage's LoRA is trained on its own examples.

    Attributes:
        epochs: passes over the passage's examples.
        rate: of AdamW, constant.
        formats: of its examples; PRAG's by default.
        loss_on: what counts of an example's text; PRAG's by default.
        batch: examples a step; 0: all of them.
        num_qas: of its question-answer pairs the first so many.
        num_rewrites: likewise.
    """

    epochs: int
    rate: float
    formats: tuple[str, ...] = ("passage_qa", "qa")
    loss_on: str = "all"
    batch: int = 0
    num_qas: int | None = None
    num_rewrites: int | None = None

    def record(self, record: Record) -> Record:
        """Returns the passage with as much of what was written as counts."""
        written = record.augmentation
        if written is None:
            return record
        kept = msgspec.structs.replace(
            written,
            rewrites=written.rewrites[: self.num_rewrites],
            qas=written.qas[: self.num_qas],
        )
        return msgspec.structs.replace(record, augmentation=kept)


class Prag:
    """A base model with one LoRA, trained anew for each passage."""

    def __init__(self, config: Config) -> None:
        """Loads the base; the LoRA has the rank, scale and targets of an expert."""
        base, self._tokenizer = load_base(config.model)
        lora = LoraConfig(
            r=config.experts.rank,
            lora_alpha=config.experts.alpha,
            target_modules=config.experts.targets,
            task_type="CAUSAL_LM",
        )
        self._config, self._model = config, get_peft_model(base, lora)
        modules = list(self._model.modules())
        self._layers = [module for module in modules if isinstance(module, LoraLayer)]
        self._weights = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._prompts = PromptTokenizer(self._tokenizer, config.generation)

    @property
    def bytes_a_passage(self) -> int:
        """What a passage's LoRA takes as fp32."""
        return sum(weight.numel() for weight in self._weights) * 4

    def train(self, record: Record, recipe: Recipe, *, seed: int) -> tuple[int, float]:
        """Trains a new LoRA on a passage; returns its examples, and the last step's mean loss."""
        torch.manual_seed(seed)
        for layer in self._layers:
            layer.reset_lora_parameters("default", True)
        optimizer = torch.optim.AdamW(self._weights, lr=recipe.rate, weight_decay=0.0)
        data = replace(self._config.data, formats=list(recipe.formats))
        generation = self._config.generation
        examples = examples_of(
            recipe.record(record),
            self._tokenizer,
            data,
            loss_on=recipe.loss_on,
            generation=generation,
        )
        pad_id = int(self._tokenizer.pad_token_id)
        size = recipe.batch or len(examples)
        order = random.Random(seed)
        self._model.train()
        loss = torch.zeros(())
        for _ in range(recipe.epochs):
            drawn = order.sample(examples, len(examples))
            for start in range(0, len(drawn), size):
                batch = pad_batch(drawn[start : start + size], pad_id)
                logits = logits_at(self._model, batch.input_ids, batch.attention_mask)
                total, count = causal_loss_sum(logits, batch.labels)
                loss = total / count
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        self._model.eval()
        return len(examples), float(loss.detach())

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """Returns the answers to questions without a passage in the prompt."""
        prompts = self._prompts.prompt_ids([qa_prompt(each.question) for each in questions])
        said = decode_greedily(
            self._model, self._tokenizer, prompts, config=self._config.generation
        )
        return [each.text for each in said]
