"""How many examples and tokens a corpus gives, from a sample of its passages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import structs
from transformers import PreTrainedTokenizerBase

from polyprag.config import AugmentConfig, Config
from polyprag.method.examples import count_examples, examples_of, num_examples
from sharding.corpus.passages import QA, Augmentation, Passage, Record
from sharding.corpus.reader import Corpus

SAMPLE_SIZE = 64
# What a question and its answer are taken to be like where a language model is yet to write them.
_STAND_IN = QA(
    "Which of the places that are named in the text was the first of its kind?",
    "the second one",
    "It was the second one.",
)
_NOTHING = Passage(0, "", "", "")


@dataclass(frozen=True, slots=True)
class TokenSample:
    """What the sampled passages give.

    Attributes:
        passages: in the sample.
        examples_per_passage: mean over the sample.
        tokens_per_example: mean; None without a tokenizer.
        tokens_margin: half the 95 % interval of that mean, as a share of it.
        facts_per_passage: mean of the distinct answers that a passage's questions have.
        skippable: share of the tokens that all prompts begin with and experts needn't act on.
    """

    passages: int
    examples_per_passage: float
    tokens_per_example: float | None
    tokens_margin: float | None
    facts_per_passage: float = 0.0
    skippable: float = 0.0


def spread_ids(num_passages: int, size: int = SAMPLE_SIZE) -> list[int]:
    """Returns the ids of passages spread evenly over a corpus."""
    size = min(size, num_passages)
    return [(2 * i + 1) * num_passages // (2 * size) for i in range(size)]


def sample_corpus(
    corpus: Corpus, config: Config, tokenizer: PreTrainedTokenizerBase | None
) -> TokenSample:
    """Reads some passages, each by one short read, and makes their examples.

    A passage that isn't augmented yet is given what `polyprag augment` would write: by the rules
    themselves, or as many rewrites and questions as a language model is asked for.

    Args:
        corpus: prepared, with passages; augmented or not.
        config: of the run.
        tokenizer: the base model's, if it is there.

    Raises:
        CorpusError: a shard is missing or damaged.
    """
    augment = _stand_in(config)
    examples, tokens, facts, skippable = [], [], [], 0
    skips = config.experts.skip_prefix
    for passage_id in spread_ids(corpus.manifest.num_passages):
        record = corpus.record(passage_id)
        if record.augmentation is None:
            record = Record(record.passage, augment(record.passage))
        facts.append(_num_facts(record))
        examples.append(num_examples(count_examples(record), config.data.formats))
        if tokenizer is not None:
            made = examples_of(
                _answered(record),
                tokenizer,
                config.data,
                loss_on=config.train.loss_on,
                generation=config.generation,
                skip_prefix=True,
            )
            skipped = 0 if skips else sum(example.skipped for example in made)
            tokens.append(sum(len(example) for example in made) + skipped)
            skippable += skipped
    mean = sum(examples) / len(examples)
    if tokenizer is None or not sum(examples):
        return TokenSample(len(examples), mean, None, None, sum(facts) / len(facts))
    ratio, margin = ratio_estimate(tokens, examples)
    share = skippable / sum(tokens)
    return TokenSample(len(examples), mean, ratio, margin, sum(facts) / len(facts), share)


def ratio_estimate(totals: Sequence[int], sizes: Sequence[int]) -> tuple[float, float | None]:
    """Returns the ratio of two sums over a simple sample, and its relative 95 % margin.

    Cochran, Sampling Techniques (1977), section 6.4; without the finite-population correction.

    Args:
        totals: of each sampled unit, such as its tokens.
        sizes: of each sampled unit, such as its examples; not all zero.

    Returns:
        The ratio; half the interval's width as a share of it, None for a single unit.
    """
    count, size = len(sizes), sum(sizes)
    ratio = sum(totals) / size
    if count < 2 or ratio == 0:
        return ratio, None
    squares = sum((t - ratio * s) ** 2 for t, s in zip(totals, sizes, strict=True))
    error = math.sqrt(count * squares / (count - 1)) / size
    return ratio, 1.96 * error / ratio


def planned_examples_per_passage(config: Config) -> int:
    """Returns the examples of a passage for which every rewrite and question is written."""
    record = Record(_NOTHING, _written_by_a_model(_NOTHING, config.augment))
    return num_examples(count_examples(record), config.data.formats)


def _answered(record: Record) -> Record:
    """Returns a record whose questions all have an answer: the teacher's are yet to be written."""
    augmentation = record.augmentation
    if augmentation is None:
        return record
    qas = tuple(
        qa if qa.answer.strip() else structs.replace(qa, answer=_STAND_IN.answer)
        for qa in augmentation.qas
    )
    return Record(record.passage, structs.replace(augmentation, qas=qas))


def _num_facts(record: Record) -> int:
    """Counts the distinct answers; each question that is yet to be written or answered is one."""
    qas = record.augmentation.qas if record.augmentation is not None else ()
    known = {qa.answer.strip().casefold() for qa in qas if qa is not _STAND_IN} - {""}
    return len(known) + sum(qa is _STAND_IN or not qa.answer.strip() for qa in qas)


def _stand_in(config: Config) -> Callable[[Passage], Augmentation]:
    augment = config.augment
    if augment.backend != "rules":
        return lambda passage: _written_by_a_model(passage, augment)
    from polyprag.augment import rules

    return lambda passage: rules.augment(
        passage, num_rewrites=augment.wanted_rewrites, num_qas=augment.wanted_qas, seed=0
    )


def _written_by_a_model(passage: Passage, augment: AugmentConfig) -> Augmentation:
    """Rewrites as long as the text, and questions of a usual length."""
    return Augmentation(
        (passage.text,) * augment.wanted_rewrites, (_STAND_IN,) * augment.wanted_qas
    )
