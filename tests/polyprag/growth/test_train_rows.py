"""Rows against a frozen pool: a plain torch.optim.Adam, one passage at a time, is the reference."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from polyprag.config import AddConfig, Config, DataConfig, ExpertsConfig, TrainConfig
from polyprag.errors import RunError
from polyprag.growth.train_rows import RowTrainer, _turns
from polyprag.method.examples import examples_of
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.router import gates as gates_of
from polyprag.method.teacher.targets import TaughtAnswer, likeliest
from sharding.corpus.passages import QA, Augmentation, Passage, Record, tombstone

STEPS = 8


def record(i: int, num_qas: int) -> Record:
    passage = Passage(i, f"p{i}", f"Person {i}", f"Person {i} was born in {1900 + 7 * i}.")
    qas = tuple(QA(f"Birth {i}? {j}", str(1900 + 7 * i + j), "") for j in range(num_qas))
    return Record(passage, Augmentation(rewrites=(), qas=qas))


RECORDS = [record(4, 3), record(5, 1), tombstone(record(6, 0).passage), record(7, 2)]


@pytest.fixture
def config() -> Config:
    return Config(
        data=DataConfig(formats=["qa"]),
        experts=ExpertsConfig(num=4, rank=1),
        train=TrainConfig(loss_on="answer", max_tokens=64),
        add=AddConfig(steps=STEPS, examples_per_step=3, rows_lr=0.2),
    )


@pytest.fixture
def base(
    config: Config,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase]:
    """A base model with experts that do something."""
    model = make_random_llama()
    pool = inject(model, config.experts, config.router, seed=0)
    generator = torch.Generator().manual_seed(1)
    pool.load_state_dict(
        {n: 0.2 * torch.randn(t.shape, generator=generator) for n, t in pool.state_dict().items()}
    )
    return model, pool, make_byte_tokenizer()


def start_of(records: Sequence[Record], pool: ExpertPool) -> np.ndarray:
    shape = (len(records), pool.num_sites, pool.num_experts)
    return np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)


def test_each_row_is_what_adam_finds_for_its_passage_alone(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    model, pool, tokenizer = base
    start = start_of(RECORDS, pool)
    calls: list[tuple[int, int]] = []
    trained = RowTrainer(model, pool, tokenizer, config).train(
        RECORDS, start, partition=1, seed=0, progress=lambda *call: calls.append(call)
    )
    for at in (0, 1, 3):
        examples = examples_of(RECORDS[at], tokenizer, config.data, loss_on="answer")
        row = torch.tensor(start[at : at + 1], requires_grad=True)
        adam = torch.optim.Adam([row], lr=0.2)
        for step in range(STEPS):  # 3 examples a step: all of them
            adam.param_groups[0]["lr"] = 0.2 * (STEPS - step) / STEPS
            losses = []
            for example in examples:
                ids = torch.tensor(example.input_ids[None], dtype=torch.int64)
                with pool.gated(gates_of(row, config.router)):
                    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
                targets = torch.tensor(example.labels[1:], dtype=torch.int64)
                losses.append(F.cross_entropy(logits, targets, reduction="none")[targets >= 0])
            adam.zero_grad()
            torch.autograd.backward(torch.cat(losses).mean())
            adam.step()
        assert trained.part.rows[at] == pytest.approx(row.detach().numpy()[0], abs=2e-4)
        assert np.abs(trained.part.rows[at] - start[at]).max() > 0.3
    assert trained.part.steps.tolist() == [STEPS, STEPS, 0, STEPS]
    assert (trained.part.rows[2] == start[2]).all()
    assert (trained.part.index, trained.part.first_id) == (1, 4)
    assert calls == [(step, STEPS) for step in range(1, STEPS + 1)]


def test_a_row_learns_of_the_teacher_what_adam_finds_with_dense_distributions(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    model, pool, tokenizer = base
    train = replace(config.train, objective="both", distill_weight=0.3)
    config = replace(config, train=train)
    generator = torch.Generator().manual_seed(2)
    answers = [[30, 31, 32, 257], [40, 257], [50, 51, 257]]
    of_teacher = [torch.randn(len(answer), 258, generator=generator) for answer in answers]

    class Taught:
        def of(self, passage_id: int, question: int) -> TaughtAnswer:
            kept = likeliest(of_teacher[question], top_k=1000)
            return TaughtAnswer(np.array(answers[question], np.int32), kept)

    records, start = RECORDS[:1], start_of(RECORDS[:1], pool)
    trained = RowTrainer(model, pool, tokenizer, config, taught=Taught()).train(
        records, start, partition=1, seed=0
    )
    row = torch.tensor(start, requires_grad=True)
    adam = torch.optim.Adam([row], lr=0.2)
    for step in range(STEPS):
        adam.param_groups[0]["lr"] = 0.2 * (STEPS - step) / STEPS
        losses = []
        for question, answer in enumerate(answers):
            prompt = tokenizer(f"Question: Birth 4? {question}\nAnswer:")["input_ids"]
            with pool.gated(gates_of(row, config.router)):
                logits = model(torch.tensor([prompt + answer]), use_cache=False).logits[0]
            says = logits[len(prompt) - 1 : -1].log_softmax(-1)
            wants = of_teacher[question].log_softmax(-1)
            text = F.nll_loss(says, torch.tensor(answer), reduction="none")
            losses.append(text + 0.3 * (wants.exp() * (wants - says)).sum(-1))
        adam.zero_grad()
        torch.autograd.backward(torch.cat(losses).mean())
        adam.step()
    assert trained.part.rows[0] == pytest.approx(row.detach().numpy()[0], abs=5e-3)
    assert np.abs(trained.part.rows[0] - start[0]).max() > 0.3


def test_the_same_partition_gives_the_same_bits_and_the_experts_stay(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    model, pool, tokenizer = base
    config = replace(config, add=replace(config.add, examples_per_step=1))
    start, experts = start_of(RECORDS, pool), pool.state_dict()
    before = start.copy()
    trainer = RowTrainer(model, pool, tokenizer, config)
    first = trainer.train(RECORDS, start, partition=1, seed=0)
    trainer.train(RECORDS[:2], start[:2], partition=0, seed=0)
    torch.manual_seed(123)
    again = RowTrainer(model, pool, tokenizer, config).train(RECORDS, start, partition=1, seed=0)
    for name in ("rows", "exp_avg", "exp_avg_sq", "steps"):
        assert (getattr(first.part, name) == getattr(again.part, name)).all()
    assert first.loss == again.loss
    assert (start == before).all()
    assert all(torch.equal(experts[name], t) for name, t in pool.state_dict().items())
    other = trainer.train(RECORDS, start, partition=1, seed=1)
    assert (other.part.rows[0] != first.part.rows[0]).any()  # in another order of its examples


def test_rows_learn_from_zero(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    model, pool, tokenizer = base
    zeros = np.zeros_like(start_of(RECORDS, pool))
    losses = []
    for steps in (1, 60):
        of_steps = replace(config, add=replace(config.add, steps=steps))
        trained = RowTrainer(model, pool, tokenizer, of_steps).train(
            RECORDS, zeros, partition=0, seed=0
        )
        losses.append(trained.loss)
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1] < 0.7 * losses[0]


@pytest.mark.parametrize("second_moment", ["element", "site", "row"])
def test_moments_have_the_shape_that_joint_training_goes_on_with(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase],
    config: Config,
    second_moment: str,
) -> None:
    model, pool, tokenizer = base
    config = replace(
        config,
        train=replace(config.train, rows_second_moment=second_moment),
        add=replace(config.add, steps=1),
    )
    start = start_of(RECORDS, pool)
    part = (
        RowTrainer(model, pool, tokenizer, config).train(RECORDS, start, partition=0, seed=0).part
    )
    n, sites, experts = start.shape
    shapes = {"element": (n, sites, experts), "site": (n, sites, 1), "row": (n, 1, 1)}
    assert part.exp_avg_sq.shape == shapes[second_moment]
    assert (part.exp_avg_sq[[0, 1, 3]] > 0).all()


def test_a_partition_of_removed_passages_has_nothing_to_train(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    model, pool, tokenizer = base
    start = start_of(RECORDS[2:3], pool)
    trained = RowTrainer(model, pool, tokenizer, config).train(
        RECORDS[2:3], start, partition=0, seed=0
    )
    assert trained.loss is None
    assert (trained.part.rows == start).all()


def test_a_start_of_another_shape_is_refused(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    model, pool, tokenizer = base
    with pytest.raises(ValueError, match="this pool need float32"):
        RowTrainer(model, pool, tokenizer, config).train(
            RECORDS, start_of(RECORDS[:2], pool), partition=0, seed=0
        )


@given(count=st.integers(1, 7), per_step=st.integers(1, 9), rounds=st.integers(1, 30))
def test_every_example_has_its_turn_before_any_has_two_more(
    count: int, per_step: int, rounds: int
) -> None:
    turns = _turns(count, per_step, np.random.default_rng(0))
    seen = np.zeros(count, int)
    for _ in range(rounds):
        turn = next(turns)
        assert len(turn) == min(per_step, count)
        for example in turn:
            seen[example] += 1
            assert seen.max() - seen.min() <= 1


def test_a_loss_that_is_not_finite_names_its_passages_and_changes_nothing(
    base: tuple[PreTrainedModel, ExpertPool, PreTrainedTokenizerBase], config: Config
) -> None:
    """The base fails at one letter, which only the last passage has."""
    model, pool, tokenizer = base
    letter = tokenizer("?")["input_ids"][0]
    records = [RECORDS[0], Record(Passage(5, "odd", "Person 5", "Nothing."), None)]
    plain = Augmentation(rewrites=(), qas=(QA("Birth 4", "1928", ""),))
    records[0] = Record(records[0].passage, plain)
    records[1] = Record(
        records[1].passage, Augmentation(rewrites=(), qas=(QA("Birth?", "19", ""),))
    )

    def fail(
        module: torch.nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor
    ) -> torch.Tensor:
        return torch.where((inputs[0] == letter).unsqueeze(-1), torch.nan, out)

    hook = model.get_input_embeddings().register_forward_hook(fail)
    start = start_of(records, pool)
    before = start.copy()
    with pytest.raises(
        RunError, match=r"update 1 .*gradients of 'odd' aren't.*add\.rows_lr"
    ) as told:
        RowTrainer(model, pool, tokenizer, config).train(records, start, partition=1, seed=0)
    hook.remove()
    assert told.value.exit_status == 2 and "'p4'" not in str(told.value)
    np.testing.assert_array_equal(start, before)
