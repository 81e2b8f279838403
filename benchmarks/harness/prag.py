"""PRAG, the rival: one LoRA for each passage, by the book (arXiv 2501.15915), on peft."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from polyprag.answering.generation import decode_greedily
from polyprag.config import Config
from polyprag.evaluation.questions import Question
from polyprag.method.base_model import load_base
from polyprag.method.batching import pad_batch
from polyprag.method.examples import examples_of
from polyprag.method.loss import causal_loss_sum
from polyprag.method.prompts import PromptTokenizer, qa_prompt
from sharding.corpus.passages import Record


@dataclass(frozen=True)
class Recipe:
    """How each passage's LoRA is trained: full batches of its own examples."""

    steps: int
    rate: float
    formats: tuple[str, ...] = ("passage_qa", "qa")  # PRAG's
    loss_on: str = "all"  # PRAG's


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
            record, self._tokenizer, data, loss_on=recipe.loss_on, generation=generation
        )
        batch = pad_batch(examples, int(self._tokenizer.pad_token_id))
        self._model.train()
        loss = torch.zeros(())
        for _ in range(recipe.steps):
            logits = self._model(batch.input_ids, attention_mask=batch.attention_mask).logits
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
