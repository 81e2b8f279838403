"""The teacher at work: prompts with their passage, answers where none is written, distributions.

Its prompts are those of the mode `rag` with the one passage, which is cut where the answer wouldn't
fit the model's window: by the same rules, but no more than a written answer needs. A passage of
which several questions are asked is read once for them all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.generation import decode_greedily
from polyprag.config import Config
from polyprag.decoding.slots import SlotCache
from polyprag.method.batches.padded import length_groups, pad_batch, pass_overhead
from polyprag.method.batches.prefix import SharedPrefix, read_prefix
from polyprag.method.examples import Example
from polyprag.method.loss import logits_at
from polyprag.method.prompts import PromptTokenizer, common_beginning
from polyprag.method.teacher.targets import TaughtAnswer, TeacherTargets, join_targets, likeliest
from polyprag.method.window import QuestionTooLongError, fit_prompt, prompt_tokens
from sharding.corpus.passages import Passage


@dataclass(frozen=True, slots=True)
class PassageQuestion:
    """A question for the teacher; without an answer it writes one."""

    passage: Passage
    question: str
    answer: str | None


class Teacher:
    """A base model without experts that is asked with the passage before its eyes."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: Config
    ) -> None:
        """Uses a model that is loaded.

        Args:
            model: the base, in eval mode.
            tokenizer: the model's.
            config: `generation`, `train.teacher_top_k` and `train.max_tokens`.

        Raises:
            ConfigError: the chat template can't be used.
        """
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._prompts = PromptTokenizer(tokenizer, config.generation)

    @torch.inference_mode()
    def answer(
        self,
        asked: Sequence[PassageQuestion],
        *,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[TaughtAnswer]:
        """Returns what it says to each question.

        An answer of its own that was cut at `generation.max_new_tokens` has no EOS: how it would
        have gone on isn't known, and that it ends there isn't to be learnt.

        Args:
            asked: in any number.
            progress: is told which share is done.
        """
        generation = self._config.generation
        written = [each.answer for each in asked]
        blank = [i for i, answer in enumerate(written) if answer is None]
        cut: set[int] = set()
        prompts = [self._prompt(asked[i], room=generation.max_new_tokens) for i in blank]
        for group, shared in self._sharing([asked[i].passage.id for i in blank], prompts):
            said = decode_greedily(
                self._model,
                self._tokenizer,
                [prompts[at] for at in group],
                config=generation,
                prefix_ids=shared,
                chat=self._prompts.chat,
            )
            for i, each in zip([blank[at] for at in group], said, strict=True):
                written[i] = each.text
                if each.text and not each.has_ended:
                    cut.add(i)
        answers = self._prompts.completion_ids([answer or "" for answer in written])
        answers = [ids[:-1] if i in cut else ids for i, ids in enumerate(answers)]
        examples = [
            self._sequence(each, answer) for each, answer in zip(asked, answers, strict=True)
        ]
        found: list[TaughtAnswer | None] = [None] * len(asked)
        done = 0
        for group, prefix in self._batches(examples, [len(answer) for answer in answers]):
            said_of_each = self._say([examples[i] for i in group], prefix)
            for i, targets in zip(group, said_of_each, strict=True):
                found[i] = TaughtAnswer(np.array(answers[i], np.int32), targets)
            done += len(group)
            progress(done / len(asked))
        return [each for each in found if each is not None]

    def _batches(
        self, examples: Sequence[Example], answers: Sequence[int]
    ) -> Iterator[tuple[list[int], SharedPrefix | None]]:
        """Yields the examples of each batch, by their index, and what they go on from.

        Args:
            examples: prompts with answers.
            answers: tokens of each answer.
        """
        prompts = [
            example.input_ids[: len(example) - answer].tolist()
            for example, answer in zip(examples, answers, strict=True)
        ]
        passages = [example.passage_id for example in examples]
        for alike, shared in self._sharing(passages, prompts):
            prefix = read_prefix(self._model, shared) if shared else None
            rest = [len(examples[i]) - len(shared) for i in alike]
            for group in length_groups(rest, self._config.train.max_tokens):
                yield [alike[at] for at in group], prefix

    def _sharing(
        self, passages: Sequence[int], prompts: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Yields prompts that are read together, by their index, and what they begin with.

        Those that share nothing worth a pass come last, all together.

        Args:
            passages: the id of each prompt's passage.
            prompts: their tokens.
        """
        of_passage: dict[int, list[int]] = {}
        for index, passage in enumerate(passages):
            of_passage.setdefault(passage, []).append(index)
        alone: list[int] = []
        for alike in of_passage.values():
            if shared := self._shared([prompts[i] for i in alike]):
                yield alike, shared
            else:
                alone += alike
        if alone:
            yield alone, []

    def _shared(self, prompts: Sequence[list[int]]) -> list[int]:
        """Returns what a passage's prompts begin with, where reading it once is worth a pass."""
        shared = common_beginning(prompts)[: min(map(len, prompts)) - 1]
        passes = 2  # of its own: the passage, and what is asked about it
        saved = len(shared) * (len(prompts) - 1)
        is_worth_it = saved >= passes * pass_overhead(self._model.device)
        return shared if is_worth_it and SlotCache.fits(self._model) else []

    def _prompt(self, asked: PassageQuestion, *, room: int) -> list[int]:
        """Returns the prompt's ids, cut so that `room` more tokens fit the model's window."""
        max_tokens = prompt_tokens(self._model.config, room)
        try:
            return fit_prompt(
                self._prompts, asked.question, passages=[asked.passage], max_tokens=max_tokens
            )
        except QuestionTooLongError:  # it loses its beginning, as in training
            return fit_prompt(self._prompts, asked.question, max_tokens=None)[-(max_tokens or 1) :]

    def _sequence(self, asked: PassageQuestion, answer: list[int]) -> Example:
        """Returns prompt and answer; what stands for the targets only says where they are."""
        room = len(answer)
        if asked.answer is None:  # the prompt that it was said after
            room = max(room, self._config.generation.max_new_tokens)
        ids = [*self._prompt(asked, room=room), *answer]
        sequence = np.array(ids, np.int32)
        marks = np.zeros((len(answer), 1))
        places = TeacherTargets(marks.astype(np.int32), marks.repeat(2, 1).astype(np.float16))
        return Example(asked.passage.id, sequence, sequence, places)

    def _say(
        self, examples: Sequence[Example], prefix: SharedPrefix | None
    ) -> list[TeacherTargets]:
        if prefix is not None:
            examples = [replace(each, skipped=len(prefix)).without_prefix() for each in examples]
        targets = join_targets(examples)
        if targets is None:
            return []
        batch = pad_batch(examples, int(self._tokenizer.pad_token_id))
        device, positions = self._model.device, torch.unique(targets.places)
        logits = logits_at(
            self._model,
            batch.input_ids.to(device),
            batch.attention_mask.to(device),
            positions.to(device),
            prefix=prefix,
        )
        rows, at = targets.rows, torch.searchsorted(positions, targets.places)
        kept = likeliest(
            logits[rows.to(device), at.to(device)], top_k=self._config.train.teacher_top_k
        )
        ends = np.cumsum([len(example.targets or ()) for example in examples])
        return [
            TeacherTargets(kept.ids[start:end], kept.log_probs[start:end])
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
