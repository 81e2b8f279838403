"""Whether a pool is large enough for its passages: the law, and what a plan says by it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.plan.capacity import MEASURED_LAW, PoolCapacity, pool_capacity
from cluster.plan.model_shape import ModelShape
from cluster.plan.run import plan_run
from cluster.plan.token_sample import sample_corpus
from cluster.report.plan_text import plan_text
from polyprag.config.files import load_config
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare

RESULTS = Path(__file__).parents[3] / "docs" / "results" / "capacity.json"
SHAPE = ModelShape(
    base_parameters=4_000_000,
    base_dtype_bytes=4,
    layers=4,
    hidden=128,
    vocabulary=4096,
    linear_features=10_000,
    expert_linears=12,
    expert_parameters=540_672,
    sites=12,
    experts=32,
)


def held(num_passages: int, shape: ModelShape = SHAPE, facts: float = 5.0) -> PoolCapacity:
    found = pool_capacity(shape, num_passages=num_passages, facts_per_passage=facts)
    assert found is not None
    return found


def times(shape: ModelShape, factor: float) -> ModelShape:
    """The same experts, more of them."""
    return replace(
        shape,
        experts=round(shape.experts * factor),
        expert_parameters=round(shape.expert_parameters * factor),
    )


def test_the_law_is_the_one_that_was_measured() -> None:
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    law, cells = measured["law"], measured["cells"]
    assert not measured["quick"]
    for name in ("start", "pool", "row"):
        assert getattr(MEASURED_LAW, name) == pytest.approx(law[name], abs=0.005)
    assert MEASURED_LAW.best == pytest.approx(max(cell["f1"] for cell in cells), abs=0.005)
    for name, of_law in (
        ("parameters a fact", MEASURED_LAW.parameters),
        ("numbers a row", MEASURED_LAW.numbers),
    ):
        values = [cell[name] for cell in cells]
        assert of_law == pytest.approx((min(values), max(values)), rel=0.01)
    errors = [
        abs(MEASURED_LAW.f1(cell["parameters a fact"], cell["numbers a row"]) - cell["f1"])
        for cell in cells
    ]
    assert sum(errors) / len(errors) < 0.06


def test_more_passages_are_answered_worse_and_more_experts_better() -> None:
    by_size = [held(num).f1 for num in (200, 2_000, 20_000, 21_000_000)]
    assert by_size == sorted(by_size, reverse=True) and by_size[0] > by_size[1] + 0.05
    assert held(2_000, times(SHAPE, 4)).f1 > held(2_000).f1


def test_what_is_advised_comes_near_the_best() -> None:
    small = held(2_000)
    assert small.experts is not None and small.experts > SHAPE.experts
    larger = held(2_000, times(SHAPE, small.experts / SHAPE.experts))
    assert larger.f1 == pytest.approx(0.95 * larger.best_f1, abs=0.002)
    assert held(2_000, times(SHAPE, 1.1 * small.experts / SHAPE.experts)).experts is None
    assert held(20).experts is None


def test_what_was_never_measured_is_said() -> None:
    assert held(1_000).is_measured
    assert not held(21_000_000).is_measured
    assert not held(1_000, replace(SHAPE, experts=4_096)).is_measured
    assert pool_capacity(SHAPE, num_passages=100, facts_per_passage=0.0) is None


def test_a_plan_says_what_its_pool_can_hold(workplace: Any) -> None:
    config = load_config([], workplace.overrides(cluster__workers=1))
    plan = plan_run(str(workplace.run), config)
    assert plan.capacity is not None
    corpus = Corpus.open(str(workplace.run / "corpus"))
    answers = [
        {qa.answer.casefold() for qa in record.augmentation.qas}
        for record in corpus.iterate()
        if record.augmentation is not None
    ]
    assert plan.capacity.facts == sum(map(len, answers))  # the sample is the whole corpus
    text = plan_text(plan, config, run_dir="runs/w")
    assert f"capacity   {plan.capacity.facts:,} facts to hold" in text
    few = replace(plan, capacity=replace(plan.capacity, experts=77))
    assert "too few" in plan_text(few, config, run_dir="runs/w")
    assert "experts.num=77 would keep" in plan_text(few, config, run_dir="runs/w")
    assert "capacity" not in plan_text(replace(plan, capacity=None), config, run_dir="runs/w")


def test_questions_that_are_yet_to_be_written_count_as_facts(tmp_path: Path) -> None:
    source = tmp_path / "passages.jsonl"
    source.write_text('{"id": "a", "title": "Ada", "text": "Ada (born 1910 in Oslo)."}\n')
    prepare([str(source)], tmp_path / "corpus", partition_size=1)
    corpus = Corpus.open(str(tmp_path / "corpus"))
    by_model = load_config([], ["augment.backend=hf", "augment.num_qas=7"])
    assert sample_corpus(corpus, by_model, None).facts_per_passage == 7
    by_rules = load_config([], ["augment.num_qas=7"])
    assert 1 <= sample_corpus(corpus, by_rules, None).facts_per_passage < 7
