"""Training sequences of a passage, in PRAG's formats (arXiv 2501.15915, section 3.1).

`passage_qa`: each text (the passage, each rewrite) with each question and its answer. `qa`: each
question alone with its answer. `passage`: each text alone, which is also what a passage without
questions comes as. `data.formats` chooses among them; PRAG uses the first two.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from polyprag.config import DataConfig
from polyprag.prompts import (
    completion_ids,
    one_line,
    passage_block,
    prompt_ids,
    render_prompt,
    uses_chat,
)
from sharding.passages import Passage, Record

IGNORED = -100  # the label of a token that has no loss


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised training sequence.

    Attributes:
        passage_id: whose routing row it trains.
        input_ids: (T,) token ids.
        labels: (T,) the same ids, -100 where there is no loss; not shifted.
    """

    passage_id: int
    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.input_ids)


def count_examples(record: Record) -> dict[str, int]:
    """Return how many examples a record has in each format, whatever formats a run uses.

    `bare_passage` counts the texts of a passage without questions, which are always used.
    """
    augmentation = record.augmentation
    texts = 1 + (len(augmentation.rewrites) if augmentation else 0)
    qas = len(augmentation.qas) if augmentation else 0
    return {
        "passage_qa": texts * qas,
        "qa": qas,
        "passage": texts,
        "bare_passage": 0 if qas else texts,
    }


def num_examples(counts: Mapping[str, int], formats: Collection[str]) -> int:
    """Return how many examples `expand` makes of what was counted, with `data.formats`."""
    bare = 0 if "passage" in formats else counts.get("bare_passage", 0)
    return bare + sum(counts.get(name, 0) for name in formats)


def expand(
    record: Record,
    tokenizer: PreTrainedTokenizerBase,
    config: DataConfig,
    *,
    loss_on: str = "all",
    prompt_style: str = "auto",
) -> list[Example]:
    """Return a record's examples, in a fixed order.

    Args:
        record: a passage with or without augmentation.
        tokenizer: the base model's.
        config: for `formats` and `max_length`. A longer sequence loses the end of its passage text;
            one whose question and answer alone are too long loses its beginning.
        loss_on: `all` tokens, or the `answer` and EOS only. Plain passages always count in full.
        prompt_style: `generation.prompt`, so that training sees what answering will ask.

    Returns:
        `num_examples(count_examples(record), config.formats)` examples, all ending with EOS.

    Raises:
        ConfigError: `prompt_style` is chat and the tokenizer has no template.
    """
    passage = record.passage
    augmentation = record.augmentation
    texts = [passage.text, *(augmentation.rewrites if augmentation else ())]
    shown = [Passage(id=passage.id, key=passage.key, title=passage.title, text=t) for t in texts]
    max_length = config.max_length
    examples = []
    has_qas = augmentation is not None and bool(augmentation.qas)
    if "passage" in config.formats or not has_qas:
        examples += [_plain_passage(text, tokenizer, max_length) for text in shown]
    if augmentation is None:
        return examples

    chat = uses_chat(tokenizer, prompt_style)
    answers = [completion_ids(tokenizer, qa.answer, chat=chat) for qa in augmentation.qas]
    with_text = shown if "passage_qa" in config.formats else []
    alone = [None] if "qa" in config.formats else []
    for text in (*with_text, *alone):
        for qa, answer in zip(augmentation.qas, answers, strict=True):
            prompt = _prompt_that_fits(
                tokenizer, qa.question, text, room=max_length - len(answer), chat=chat
            )
            ids = (prompt + answer)[-max_length:]
            num_ignored = len(ids) - len(answer) if loss_on == "answer" else 0
            examples.append(_example(passage.id, ids, num_ignored=num_ignored))
    return examples


def _example(passage_id: int, ids: list[int], *, num_ignored: int = 0) -> Example:
    input_ids = np.asarray(ids, dtype=np.int32)
    labels = input_ids.copy()
    labels[: max(num_ignored, 0)] = IGNORED
    return Example(passage_id, input_ids, labels)


def _plain_passage(
    passage: Passage, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Example:
    text = passage_block(passage.title, passage.text).rstrip("\n")
    ids = prompt_ids(tokenizer, text)[: max_length - 1]
    return _example(passage.id, [*ids, int(tokenizer.eos_token_id)])


def _prompt_that_fits(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    passage: Passage | None,
    *,
    room: int,
    chat: bool,
) -> list[int]:
    """Return the prompt's ids, the passage text cut at a word so that they are at most `room`."""
    if passage is None:
        return prompt_ids(tokenizer, render_prompt(tokenizer, question, chat=chat), chat=chat)
    text = one_line(passage.text)

    def ids_with(num_chars: int) -> list[int]:
        cut = text[:num_chars]
        if num_chars < len(text) and " " in cut and text[num_chars] != " ":
            cut = cut.rpartition(" ")[0]
        shown = Passage(id=passage.id, key=passage.key, title=passage.title, text=cut)
        prompt = render_prompt(tokenizer, question, passages=[shown], chat=chat)
        return prompt_ids(tokenizer, prompt, chat=chat)

    whole = ids_with(len(text))
    return whole if len(whole) <= room else _longest_that_fits(ids_with, len(text), room)


def _longest_that_fits(ids_with: Callable[[int], list[int]], too_many: int, room: int) -> list[int]:
    """Return `ids_with(n)` for the largest n that bisection finds with at most `room` ids.

    The text is cut, not its tokens: tokens at the seam with the question depend on both sides.
    """
    fits = 0
    best = ids_with(0)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        ids = ids_with(middle)
        if len(ids) <= room:
            fits, best = middle, ids
        else:
            too_many = middle
    return best
