"""Whether a pool is large enough for its passages: the law, and what a plan says by it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.plan.capacity import GOOD_SHARE, LAW_RATE, MEASURED_LAW, PoolCapacity, pool_capacity
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
    for name in ("start", "experts", "facts", "size", "sites"):
        assert getattr(MEASURED_LAW, name) == law[name]
    assert {cell["rate"] for cell in cells} == {LAW_RATE}
    assert MEASURED_LAW.most_facts == max(cell["facts"] for cell in cells)
    numbers = [cell["experts"] for cell in cells]
    assert MEASURED_LAW.num_experts == (min(numbers), max(numbers))
    sizes = [cell["parameters"] // cell["experts"] for cell in cells]
    assert MEASURED_LAW.expert_sizes == (min(sizes), max(sizes))
    errors = []
    for cell in cells:
        shape = replace(
            SHAPE,
            experts=cell["experts"],
            expert_parameters=cell["parameters"],
            sites=cell["numbers a row"] // cell["experts"],
        )
        errors.append(abs(law["ceiling"] * MEASURED_LAW.share(shape, cell["facts"]) - cell["f1"]))
    assert sum(errors) / len(errors) == pytest.approx(law["error"], abs=0.001)


def test_more_passages_are_answered_worse_and_more_experts_better() -> None:
    by_size = [held(num).share for num in (200, 2_000, 20_000, 21_000_000)]
    assert by_size == sorted(by_size, reverse=True) and by_size[0] > by_size[1] + 0.05
    assert held(2_000, times(SHAPE, 4)).share > held(2_000).share


def test_what_is_advised_comes_near_the_best() -> None:
    small = held(2_000)
    assert small.enough is not None and small.enough > SHAPE.experts
    larger = held(2_000, times(SHAPE, small.enough / SHAPE.experts))
    assert larger.enough is None and larger.share == pytest.approx(GOOD_SHARE, abs=0.002)
    assert held(20).enough is None


def test_what_was_never_measured_is_said() -> None:
    assert held(500).is_measured
    assert not held(21_000_000).is_measured
    assert not held(500, times(SHAPE, 100)).is_measured
    larger = replace(SHAPE, expert_parameters=SHAPE.expert_parameters * 1000)
    assert not held(500, larger).is_measured
    assert held(500, larger).share == held(500, replace(SHAPE, expert_parameters=67_584 * 32)).share
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
    few = replace(plan, capacity=replace(plan.capacity, enough=77))
    assert "too few experts" in plan_text(few, config, run_dir="runs/w")
    assert "experts.num=77 would come to 95%" in plan_text(few, config, run_dir="runs/w")
    assert "at train.experts_lr=0.003, by which this was measured" in plan_text(
        few, config, run_dir="runs/w"
    )
    none = replace(plan, capacity=replace(plan.capacity, enough=7_777_777, is_measured=False))
    said = plan_text(none, config, run_dir="runs/w")
    assert "no number of experts that anybody has tried" in said and "7,777,777" not in said
    assert "beyond what was measured" in said
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
