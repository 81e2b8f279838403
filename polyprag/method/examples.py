"""Training sequences of a passage, in PRAG's formats (arXiv 2501.15915, section 3.1).

`passage_qa`: each text (the passage, each rewrite) with each question and its answer. `qa`: each
question alone with its answer. `passage`: each text alone, which is also what a passage without
questions comes as. `data.formats` chooses among them; PRAG uses the first two.

What has a question may learn its answer's text, the teacher's distributions at the answer's tokens,
or both (`train.objective`); `polyprag.method.teacher.targets` says what a teacher is.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import structs
from transformers import PreTrainedTokenizerBase

from polyprag.config import DataConfig, GenerationConfig
from polyprag.errors import RunError
from polyprag.method.prompts import (
    PromptTokenizer,
    goes_on_from,
    one_line,
    passage_block,
    qa_prompt,
)
from polyprag.method.teacher.targets import AnswerSource, TeacherTargets
from polyprag.method.window import first_characters, longest_that_fits
from sharding.corpus.passages import QA, Passage, Record

IGNORED = -100  # the label of a token that has no loss
UNANSWERED = "unanswered"
_DEFAULTS = GenerationConfig()


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised training sequence.

    Attributes:
        passage_id: whose routing row it trains.
        input_ids: (T,) token ids.
        labels: (T,) the same ids, -100 where their text has no loss; not shifted.
        targets: the teacher's at the last tokens; None where the text alone is learnt.
        skipped: of the tokens, the first ones that experts leave alone.
    """

    passage_id: int
    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    targets: TeacherTargets | None = None
    skipped: int = 0

    def __len__(self) -> int:
        """Returns the number of tokens that are read for it alone, which are the others."""
        return len(self.input_ids) - self.skipped

    def without_prefix(self) -> "Example":
        """Returns what follows the tokens that experts leave alone."""
        if not self.skipped:
            return self
        ids, labels = self.input_ids[self.skipped :], self.labels[self.skipped :]
        return replace(self, input_ids=ids, labels=labels, skipped=0)

    @property
    def num_counted(self) -> int:
        """Tokens with a loss of any kind, by which the sum of a step's losses is divided."""
        counted = self.labels != IGNORED
        if self.targets is not None:
            counted[len(counted) - len(self.targets) :] = True
        return int(counted[1:].sum())


def count_examples(record: Record) -> dict[str, int]:
    """Returns how many examples a record has in each format, whatever formats a run uses.

    `bare_passage` counts the texts of a passage without questions, which are always used. A removed
    passage has no examples. `unanswered`, where there are any, counts the questions whose answer
    the teacher is to write.
    """
    if record.passage.is_removed:
        return dict.fromkeys(("passage_qa", "qa", "passage", "bare_passage"), 0)
    augmentation = record.augmentation
    texts = 1 + (len(augmentation.rewrites) if augmentation else 0)
    qas = len(augmentation.qas) if augmentation else 0
    counts = {
        "passage_qa": texts * qas,
        "qa": qas,
        "passage": texts,
        "bare_passage": 0 if qas else texts,
    }
    unanswered = sum(not qa.answer.strip() for qa in augmentation.qas) if augmentation else 0
    return counts | {UNANSWERED: unanswered} if unanswered else counts


def num_examples(counts: Mapping[str, int], formats: Collection[str]) -> int:
    """Returns how many examples are made of what was counted, with `data.formats`."""
    bare = 0 if "passage" in formats else counts.get("bare_passage", 0)
    return bare + sum(counts.get(name, 0) for name in formats)


class ExampleMaker:
    """Makes the examples of records, any of them at any time; several threads may use it at once.

    A record's examples are, in this order and as far as `formats` has them: its texts alone, each
    text with each question, each question alone.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: DataConfig,
        *,
        loss_on: str = "all",
        objective: str = "answers",
        taught: AnswerSource | None = None,
        generation: GenerationConfig = _DEFAULTS,
        skip_prefix: bool = False,
    ) -> None:
        """Makes no example yet.

        Args:
            tokenizer: the base model's.
            config: for `formats` and `max_length`. A longer sequence loses the end of its passage
                text; one whose question and answer alone are too long loses its beginning.
            loss_on: `all` tokens, or the `answer` and EOS only. Plain passages always count in
                full.
            objective: `answers`: the text is learnt as `loss_on` says; `distill`: the teacher's
                distributions at the answer's tokens, and no text, where there is a question;
                `both`.
            taught: the teacher's answers, which then take the place of the written ones; an
                objective with a teacher needs them.
            generation: how prompts are laid out, so that training sees what answering will ask.
            skip_prefix: whether experts leave alone what all prompts begin with. Nothing is learnt
                there then, nor at the token after it, which experts have no part in.

        Raises:
            ConfigError: the chat template is missing, or can't be used.
        """
        self._eos_id, self._loss_on = int(tokenizer.eos_token_id), loss_on
        self._objective, self._taught = objective, taught
        if objective != "answers" and taught is None:
            raise ValueError(f"train.objective={objective} needs what the teacher says")
        self._formats, self._max_length = config.formats, config.max_length
        self._prompts = PromptTokenizer(tokenizer, generation, skip_prefix=skip_prefix)

    def count(self, record: Record) -> int:
        """Returns how many examples a record has."""
        return num_examples(count_examples(record), self._formats)

    def make(self, wanted: Sequence[tuple[Record, int]]) -> list[Example]:
        """Returns examples, all ending with EOS; the tokenizer is called for all of them together.

        Args:
            wanted: of each, the record, and its number among the record's examples from 0.
        """
        parts = [self._part(record, number) for record, number in wanted]
        asked = [(part, part.qa) for part in parts if part.qa is not None]
        plain = [_plain_text(part.text) for part in parts if part.qa is None and part.text]
        asking = [qa_prompt(qa.question, [part.text] if part.text else []) for part, qa in asked]
        of_plain = iter(self._prompts.plain_ids(plain))
        prompts = iter(self._prompts.prompt_ids(asking))
        answers = iter(self._answers(asked))
        return [
            self._plain_example(part, next(of_plain))
            if part.qa is None
            else self._qa_example(part, part.qa, next(prompts), next(answers))
            for part in parts
        ]

    def _answers(
        self, asked: Sequence[tuple["_Part", QA]]
    ) -> list[tuple[list[int], TeacherTargets | None]]:
        """Returns the ids of each answer, and the teacher's targets where they are learnt."""
        if self._taught is not None:
            learns = self._objective != "answers"
            found = [self._taught.of(part.passage_id, part.question) for part, _ in asked]
            return [(each.ids.tolist(), each.targets if learns else None) for each in found]
        for part, qa in asked:
            if not qa.answer.strip():
                raise RunError(
                    f"the question {qa.question[:60]!r} on passage {part.passage_id} has no "
                    "answer: let the teacher write it (`polyprag teach RUN`), or write one"
                )
        ids = self._prompts.completion_ids([qa.answer for _, qa in asked])
        return [(answer, None) for answer in ids]

    def _part(self, record: Record, number: int) -> "_Part":
        """Returns what the record's example of this number is made of."""
        passage, augmentation = record.passage, record.augmentation
        qas = augmentation.qas if augmentation else ()
        num_texts = 1 + (len(augmentation.rewrites) if augmentation else 0)

        def text(index: int) -> Passage:
            if index == 0 or augmentation is None:
                return passage
            return structs.replace(passage, text=augmentation.rewrites[index - 1])

        if "passage" in self._formats or not qas:
            if number < num_texts:
                return _Part(passage.id, text(number), None, 0)
            number -= num_texts
        if "passage_qa" in self._formats:
            if number < num_texts * len(qas):
                at_text, at_qa = divmod(number, len(qas))
                return _Part(passage.id, text(at_text), qas[at_qa], at_qa)
            number -= num_texts * len(qas)
        return _Part(passage.id, None, qas[number], number)

    def _plain_example(self, part: "_Part", ids: list[int]) -> Example:
        kept = ids[: self._max_length - 1]
        return _example(part.passage_id, [*kept, self._eos_id])

    def _qa_example(
        self,
        part: "_Part",
        qa: QA,
        prompt: list[int],
        answered: tuple[list[int], TeacherTargets | None],
    ) -> Example:
        answer, targets = answered
        room = self._max_length - len(answer)
        if part.text and len(prompt) > room:
            prompt = self._cut_prompt(qa.question, part.text, whole=prompt, room=room)
        ids = (prompt + answer)[-self._max_length :]
        num_ignored = len(ids) - len(answer) if self._loss_on == "answer" else 0
        if self._objective == "distill":
            num_ignored = len(ids)
        prefix = self._prompts.skipped_ids
        skipped = len(prefix) if goes_on_from(prefix, ids) else 0
        if skipped:
            num_ignored = max(num_ignored, skipped + 1)
        example = _example(part.passage_id, ids, num_ignored=num_ignored, skipped=skipped)
        return example if targets is None else replace(example, targets=targets.last(len(ids)))

    def _cut_prompt(
        self, question: str, passage: Passage, *, whole: list[int], room: int
    ) -> list[int]:
        """Returns the prompt's ids with the passage's text cut at a word, at most `room` of them.

        Where question and title alone are longer, they are all that is left, and longer than that.

        Args:
            question: kept.
            passage: whose title is kept.
            whole: the ids of the prompt with the whole text.
            room: how many ids there may be.
        """
        text = one_line(passage.text)

        def ids_with(num_characters: int) -> list[int]:
            shown = structs.replace(passage, text=first_characters(text, num_characters))
            return self._prompts.prompt_ids([qa_prompt(question, [shown])])[0]

        return longest_that_fits(ids_with, len(text), room=room, whole=whole)


class _Part(NamedTuple):
    """What one example is made of: a text, a question (with its number), or both."""

    passage_id: int
    text: Passage | None
    qa: QA | None
    question: int


def examples_of(
    record: Record,
    tokenizer: PreTrainedTokenizerBase,
    config: DataConfig,
    *,
    loss_on: str = "all",
    generation: GenerationConfig = _DEFAULTS,
    skip_prefix: bool = False,
) -> list[Example]:
    """Returns all of a record's examples, in their order; see `ExampleMaker`."""
    maker = ExampleMaker(
        tokenizer, config, loss_on=loss_on, generation=generation, skip_prefix=skip_prefix
    )
    return maker.make([(record, number) for number in range(maker.count(record))])


def _example(passage_id: int, ids: list[int], *, num_ignored: int = 0, skipped: int = 0) -> Example:
    input_ids = np.asarray(ids, dtype=np.int32)
    labels = input_ids.copy()
    labels[: max(num_ignored, 0)] = IGNORED
    return Example(passage_id, input_ids, labels, skipped=skipped)


def _plain_text(passage: Passage) -> str:
    return passage_block(passage.title, passage.text).rstrip("\n")
