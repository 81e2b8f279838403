"""PRAG's example formats: counts, labels, truncation."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from polyprag.config import DataConfig, GenerationConfig
from polyprag.method.examples import (
    Example,
    ExampleMaker,
    count_examples,
    examples_of,
    num_examples,
)
from polyprag.method.prompts import qa_prompt
from polyprag.method.teacher.targets import TaughtAnswer, TeacherTargets, join_targets
from sharding.corpus.passages import QA, Augmentation, Passage, Record

MakeTokenizer = Callable[[], PreTrainedTokenizerBase]
PASSAGE = Passage(id=7, key="w7", title="Ada Lovelace", text="Ada was an English mathematician.")
QAS = (
    QA("Who was Ada?", "a mathematician", "Ada was a mathematician."),
    QA("Which nationality?", "English", "She was English."),
    QA("What name?", "Ada", "Her name was Ada."),
)
PRAG = ["passage_qa", "qa"]  # its formats
AUGMENTED = Record(PASSAGE, Augmentation(("The English mathematician Ada.",), QAS))


def texts(tokenizer: PreTrainedTokenizerBase, examples: list[Example]) -> list[str]:
    return [tokenizer.decode(example.input_ids.tolist()) for example in examples]


@pytest.fixture
def tokenizer(make_byte_tokenizer: MakeTokenizer) -> PreTrainedTokenizerBase:
    return make_byte_tokenizer()


def test_every_text_with_every_question_then_every_question_alone(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    examples = examples_of(AUGMENTED, tokenizer, DataConfig(formats=PRAG))
    expected = [
        f"Passage: Ada Lovelace. {text}\nQuestion: {qa.question}\nAnswer: {qa.answer}<eos>"
        for text in (PASSAGE.text, "The English mathematician Ada.")
        for qa in QAS
    ] + [f"Question: {qa.question}\nAnswer: {qa.answer}<eos>" for qa in QAS]
    assert texts(tokenizer, examples) == expected
    # PRAG's defaults, 1 rewrite and 3 questions, give 9.
    assert count_examples(AUGMENTED) == {
        "passage_qa": 6,
        "qa": 3,
        "passage": 2,
        "bare_passage": 0,
    }
    assert {example.passage_id for example in examples} == {7}
    assert {example.input_ids.dtype for example in examples} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record(PASSAGE), ["Passage: Ada Lovelace. Ada was an English mathematician.<eos>"]),
        (
            Record(PASSAGE, Augmentation(("A rewrite.",), ())),
            [
                "Passage: Ada Lovelace. Ada was an English mathematician.<eos>",
                "Passage: Ada Lovelace. A rewrite.<eos>",
            ],
        ),
    ],
)
def test_without_questions_each_text_comes_alone_with_loss_on_all_of_it(
    tokenizer: PreTrainedTokenizerBase, record: Record, expected: list[str]
) -> None:
    examples = examples_of(record, tokenizer, DataConfig(formats=PRAG), loss_on="answer")
    assert texts(tokenizer, examples) == expected
    for example in examples:
        assert np.array_equal(example.labels, example.input_ids)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    num_rewrites=st.integers(0, 3),
    num_qas=st.integers(0, 4),
    formats=st.lists(st.sampled_from(["passage_qa", "qa", "passage"]), min_size=1, unique=True),
)
def test_counts_foretell_what_expand_makes(
    tokenizer: PreTrainedTokenizerBase, num_rewrites: int, num_qas: int, formats: list[str]
) -> None:
    qas = tuple(QA(f"Q{i}?", f"a{i}", f"a{i}.") for i in range(num_qas))
    record = Record(PASSAGE, Augmentation(("Again.",) * num_rewrites, qas))
    counts = count_examples(record)
    examples = examples_of(record, tokenizer, DataConfig(formats=formats))
    assert num_examples(counts | {"other": 1}, formats) == len(examples)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    formats=st.lists(st.sampled_from(["passage_qa", "qa", "passage"]), min_size=1, unique=True),
    max_length=st.sampled_from([40, 512]),
    loss_on=st.sampled_from(["all", "answer"]),
    data=st.data(),
)
def test_any_examples_are_made_together_as_they_are_made_one_by_one(
    tokenizer: PreTrainedTokenizerBase,
    formats: list[str],
    max_length: int,
    loss_on: str,
    data: st.DataObject,
) -> None:
    """Whatever the others in the call are, and wherever a stream begins."""
    maker = ExampleMaker(
        tokenizer, DataConfig(formats=formats, max_length=max_length), loss_on=loss_on
    )
    records = [AUGMENTED, Record(PASSAGE), Record(PASSAGE, Augmentation(("Again.",), QAS[:1]))]
    everything = [(record, i) for record in records for i in range(maker.count(record))]
    wanted = data.draw(st.lists(st.sampled_from(everything), max_size=9))
    together = maker.make(wanted)
    assert len(together) == len(wanted)
    for example, pair in zip(together, wanted, strict=True):
        (alone,) = maker.make([pair])
        assert np.array_equal(example.input_ids, alone.input_ids)
        assert np.array_equal(example.labels, alone.labels)


def test_threads_may_share_a_tokenizer_whose_file_truncates_and_pads(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    alone = texts(tokenizer, examples_of(AUGMENTED, tokenizer, DataConfig(formats=PRAG)))
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=600)
    maker = ExampleMaker(tokenizer, DataConfig(formats=PRAG))
    # Nothing is left that a thread's first call would change under another thread's.
    assert tokenizer.backend_tokenizer.truncation is None
    assert tokenizer.backend_tokenizer.padding is None
    wanted = [(AUGMENTED, i) for i in range(maker.count(AUGMENTED))]
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(maker.make, [wanted] * 40):
            assert texts(tokenizer, made) == alone


def test_formats_choose_what_a_passage_is_trained_with(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = examples_of(AUGMENTED, tokenizer, DataConfig(formats=["passage", "qa"]))
    assert texts(tokenizer, examples) == [
        f"Passage: Ada Lovelace. {PASSAGE.text}<eos>",
        "Passage: Ada Lovelace. The English mathematician Ada.<eos>",
        *[f"Question: {qa.question}\nAnswer: {qa.answer}<eos>" for qa in QAS],
    ]


def test_loss_on_answer_leaves_out_everything_before_it(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    everything = examples_of(AUGMENTED, tokenizer, DataConfig(formats=PRAG), loss_on="all")
    for example in everything:
        assert np.array_equal(example.labels, example.input_ids)
    answers = examples_of(AUGMENTED, tokenizer, DataConfig(formats=PRAG), loss_on="answer")
    for example, qa in zip(answers, QAS * 3, strict=True):
        counted = example.labels != -100
        assert tokenizer.decode(example.input_ids[counted].tolist()) == f" {qa.answer}<eos>"
        assert np.array_equal(example.labels[counted], example.input_ids[counted])
        assert counted[-1] and not counted[: -int(counted.sum())].any()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(st.text("abcé", min_size=1, max_size=12), min_size=1, max_size=60),
    max_length=st.integers(90, 200),
)
def test_too_long_passages_lose_their_end_and_keep_question_and_answer(
    tokenizer: PreTrainedTokenizerBase, words: list[str], max_length: int
) -> None:
    passage = Passage(id=0, key="k", title="T", text=" ".join(words))
    record = Record(passage, Augmentation((), QAS))
    config = DataConfig(formats=PRAG, max_length=max_length)
    for example, qa in zip(examples_of(record, tokenizer, config)[:3], QAS, strict=True):
        text = tokenizer.decode(example.input_ids.tolist())
        ending = f"\n{qa_prompt(qa.question)} {qa.answer}<eos>"
        assert len(example) <= max_length and text.endswith(ending)
        shown = text.removeprefix("Passage: T. ").removesuffix(ending)
        kept = shown.split()
        if words != kept:
            assert words[: len(kept)] == kept, "cut between words"
            longer = f"Passage: T. {' '.join(words[: len(kept) + 1])}{ending}"
            assert len(longer.removesuffix("<eos>").encode()) + 1 > max_length, (
                "no more than needed"
            )


def test_one_endless_word_is_cut_inside(tokenizer: PreTrainedTokenizerBase) -> None:
    record = Record(Passage(id=0, key="k", title="T", text="x" * 500), Augmentation((), QAS[:1]))
    example = examples_of(record, tokenizer, DataConfig(formats=PRAG, max_length=100))[0]
    assert len(example) == 100
    ending = "\nQuestion: Who was Ada?\nAnswer: a mathematician<eos>"
    assert tokenizer.decode(example.input_ids.tolist()).endswith(f"x{ending}")


def test_a_question_too_long_by_itself_keeps_its_end_and_the_answer(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    qa = QA("Who? " * 100, "Ada", "Ada.")
    record = Record(PASSAGE, Augmentation((), (qa,)))
    for loss_on in ("all", "answer"):
        for example in examples_of(
            record, tokenizer, DataConfig(formats=PRAG, max_length=32), loss_on=loss_on
        ):
            assert len(example) == 32
            text = tokenizer.decode(example.input_ids.tolist())
            assert text.endswith("Who?\nAnswer: Ada<eos>")


def test_a_long_plain_passage_is_cut_and_still_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    example = examples_of(Record(PASSAGE), tokenizer, DataConfig(formats=PRAG, max_length=20))[0]
    assert tokenizer.decode(example.input_ids.tolist()) == "Passage: Ada Lovela<eos>"


def test_chat_examples_use_the_template_that_answering_uses(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = "[{% for m in messages %}{{ m.content }}|{% endfor %}]>"
    by_style = {
        style: texts(
            tokenizer,
            examples_of(
                AUGMENTED,
                tokenizer,
                DataConfig(formats=PRAG),
                generation=GenerationConfig(prompt=style, instruction="Be brief."),
            ),
        )[-1]
        for style in ("auto", "plain")
    }
    assert by_style["auto"] == "[Be brief.|Question: What name?\nAnswer:|]>Ada<eos>"
    assert by_style["plain"] == "Question: What name?\nAnswer: Ada<eos>"


class Taught:
    """A teacher's answers of three tokens, told apart by passage and question."""

    def of(self, passage_id: int, question: int) -> TaughtAnswer:
        ids = np.array([passage_id, question, 257], np.int32)
        targets = TeacherTargets(np.repeat(ids[:, None], 2, 1), np.zeros((3, 3), np.float16))
        return TaughtAnswer(ids, targets)


def test_nothing_is_learnt_where_experts_have_no_part(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    )
    config = DataConfig(formats=["qa", "passage"])
    told = GenerationConfig(instruction="Be brief.")
    whole = examples_of(AUGMENTED, tokenizer, config, generation=told)
    found = examples_of(AUGMENTED, tokenizer, config, generation=told, skip_prefix=True)
    beginning = len("<system>Be brief.<user>")
    for before, example in zip(whole, found, strict=True):
        assert example.input_ids.tolist() == before.input_ids.tolist()
        is_chat = tokenizer.decode(example.input_ids.tolist()).startswith("<system>")
        skipped = beginning if is_chat else 0
        assert example.skipped == skipped and len(example) == len(before) - skipped
        # The token after them is foretold by the last of them.
        assert (example.labels[: skipped + is_chat] == -100).all()
        assert (example.labels[skipped + is_chat :] == before.labels[skipped + is_chat :]).all()
        rest = example.without_prefix()
        assert len(rest) == len(rest.input_ids) == len(example)
        assert rest.num_counted == example.num_counted
    cut = replace(config, max_length=30)
    for example in examples_of(AUGMENTED, tokenizer, cut, generation=told, skip_prefix=True):
        assert example.skipped == 0, "a sequence that has lost its beginning is all its passage's"


@pytest.mark.parametrize("loss_on", ["all", "answer"])
@pytest.mark.parametrize("objective", ["answers", "distill", "both"])
def test_a_teachers_answers_take_the_place_of_the_written_ones(
    tokenizer: PreTrainedTokenizerBase, objective: str, loss_on: str
) -> None:
    config = DataConfig(formats=["passage", "passage_qa", "qa"])
    maker = ExampleMaker(tokenizer, config, loss_on=loss_on, objective=objective, taught=Taught())
    written = ExampleMaker(tokenizer, config, loss_on=loss_on)
    everything = [(AUGMENTED, number) for number in range(maker.count(AUGMENTED))]
    made, before = maker.make(everything), written.make(everything)
    assert len(made) == 2 + 6 + 3
    for example, one in zip(made[:2], before[:2], strict=True):
        assert np.array_equal(example.labels, one.labels) and example.targets is None
        assert example.num_counted == len(example) - 1
    for number, (example, one) in enumerate(zip(made[2:], before[2:], strict=True)):
        answer = [7, number % 3, 257]
        prompt = len(one) - len(f" {QAS[number % 3].answer}") - 1
        assert example.input_ids.tolist() == [*one.input_ids[:prompt], *answer]
        if objective == "answers":
            assert example.targets is None
        else:
            assert example.targets is not None
            assert example.targets.ids[:, 0].tolist() == answer
        learnt = {"all": list(range(prompt + 3)), "answer": list(range(prompt, prompt + 3))}
        labelled = [] if objective == "distill" else learnt[loss_on]
        assert np.flatnonzero(example.labels != -100).tolist() == labelled
        counted = 3 if objective == "distill" or loss_on == "answer" else prompt + 2
        assert example.num_counted == counted


def test_targets_are_cut_with_the_sequence_they_belong_to(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    class Long:
        def of(self, passage_id: int, question: int) -> TaughtAnswer:
            ids = np.arange(40, dtype=np.int32)
            return TaughtAnswer(
                ids, TeacherTargets(ids[:, None].copy(), np.zeros((40, 2), np.float16))
            )

    config = DataConfig(formats=["qa"], max_length=16)
    (example,) = ExampleMaker(tokenizer, config, objective="distill", taught=Long()).make(
        [(AUGMENTED, 0)]
    )
    assert example.targets is not None and example.targets.ids[:, 0].tolist() == list(range(24, 40))
    assert example.num_counted == 15  # nothing predicts the first token
    joined = join_targets([example])
    assert joined is not None
    assert joined.ids[:, 0].tolist() == list(range(25, 40))
    assert joined.places.tolist() == list(range(15))


def test_joined_targets_lie_before_the_tokens_that_they_predict(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    maker = ExampleMaker(
        tokenizer, DataConfig(formats=["qa"]), objective="distill", taught=Taught()
    )
    examples = maker.make([(AUGMENTED, 2), (AUGMENTED, 0)])
    joined = join_targets([examples[0], replace(examples[0], targets=None), examples[1]])
    assert joined is not None
    assert joined.rows.tolist() == [0, 0, 0, 2, 2, 2]
    for row, place, token in zip(
        joined.rows.tolist(), joined.places.tolist(), joined.ids[:, 0].tolist(), strict=True
    ):
        assert examples[row // 2].input_ids[place + 1] == token
    assert join_targets([replace(examples[0], targets=None)]) is None
