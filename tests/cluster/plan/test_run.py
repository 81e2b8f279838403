"""A plan's numbers against the run that is then trained."""

import json
import math
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import MixtralConfig

from cluster.plan.feasibility import Limits
from cluster.plan.run import plan_run
from cluster.plan.token_sample import ratio_estimate, spread_ids
from polyprag.config.files import load_config, save_config
from polyprag.errors import RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.ingest.prepare import prepare

HEADER = 1024  # a safetensors header and the manifest's lines on it are smaller


@pytest.mark.slow
def test_plan_says_what_encode_then_does(workplace: Any, train_workers: Any) -> None:
    settings = {"train__epochs": 2, "cluster__workers": 2}
    config = load_config([], workplace.overrides(**settings))
    plan = plan_run(str(workplace.run), config, tokens_per_second=100.0)
    found = plan.forecast
    assert plan.problems == [] and not found.examples_are_estimated
    assert found.tokens is not None and found.time is not None

    train_workers(workplace, world_size=2, **settings)

    metrics = workplace.metrics()
    assert found.total_steps == len(metrics)
    assert found.steps_per_epoch * 2 == found.total_steps
    assert 2 * found.examples.whole == sum(step["examples"] for step in metrics)
    # The sample is the whole corpus here.
    assert 2 * found.tokens.per_epoch == pytest.approx(sum(s["tokens"] for s in metrics), abs=2)
    assert found.examples_per_step == max(step["examples"] for step in metrics)

    files = {p.name: p.stat().st_size for p in (workplace.run / "checkpoints").iterdir()}
    rows = [size for name, size in files.items() if name.startswith("rows-")]
    experts = [size for name, size in files.items() if name.startswith("experts-")]
    assert len(rows) == found.partitions.whole and len(experts) == 1
    assert 0 < sum(rows) - found.checkpoint.rows < HEADER * len(rows)
    pool_tensors = 3 * 2 * 6  # weight and moments, A and B, of six Linears
    assert 0 < experts[0] - found.checkpoint.experts < 100 * pool_tensors + HEADER
    saved = json.loads((workplace.run / "checkpoints" / "manifest.json").read_text())
    assert sum(e["num_bytes"] for e in saved["rows"].values()) == sum(rows)

    stored = [p.stat() for p in (workplace.run / "encoding").rglob("*.safetensors")]
    encoded = sum({s.st_ino: s.st_size for s in stored}.values())  # peft's name is a second link
    assert 0 < encoded - found.encoding < HEADER * (len(rows) + 4)
    shards = sum(p.stat().st_size for p in (workplace.run / "corpus").glob("*.tar"))
    assert found.shards.whole == shards


@pytest.mark.slow
def test_a_trained_run_gives_the_rate_itself(straight_run: Any, tmp_path: Path) -> None:
    workplace = straight_run(world_size=1).copy_to(tmp_path / "run")
    config = load_config([], workplace.overrides(cluster__workers=1))
    other = workplace.copy("other")
    shutil.rmtree(other.run / "logs")
    own = plan_run(str(workplace.run), config).forecast.time
    like = plan_run(str(other.run), config, like=str(workplace.run)).forecast.time
    assert own is not None and like is not None and own.seconds == like.seconds
    trained = sum(step["seconds"] for step in workplace.metrics())
    assert 0.01 < own.seconds / trained < 100  # a busy machine takes its time

    none = plan_run(str(other.run), config)
    assert none.forecast.time is None
    assert any("--like" in note and "--tokens-per-second" in note for note in none.notes)
    with pytest.raises(RunError, match=r"no metrics.*--tokens-per-second"):
        plan_run(str(workplace.run), config, like=str(other.run))


def test_a_corpus_that_is_not_augmented_is_planned_with_estimates(
    workplace: Any, tmp_path: Path
) -> None:
    source = tmp_path / "passages.jsonl"
    lines = [
        {"id": f"p{i}", "title": f"Ada Lind {i}", "text": f"Ada Lind {i} (born 19{i:02} in Oslo)."}
        for i in range(20)
    ]
    source.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    run = tmp_path / "bare"
    prepare([str(source)], run / "corpus", partition_size=6)
    config = load_config([], workplace.overrides(cluster__workers=2))
    plan = plan_run(str(run), config)
    assert plan.forecast.examples_are_estimated
    assert any("4 of 4 partitions aren't augmented" in note for note in plan.notes)
    estimated = plan.forecast.examples.whole

    from polyprag.augment.corpus import augment_corpus

    augment_corpus(run, config)
    exact = plan_run(str(run), config)
    assert not exact.forecast.examples_are_estimated
    # The rules themselves were asked, for every passage of so small a corpus.
    assert abs(exact.forecast.examples.whole - estimated) <= 4

    asks = ["augment.backend=hf", "augment.num_qas=2", "augment.num_rewrites=1"]
    by_model = load_config([], [*workplace.overrides(), *asks])
    prepare([str(source)], tmp_path / "hf" / "corpus", partition_size=6)
    asked = plan_run(str(tmp_path / "hf"), by_model)
    assert asked.forecast.examples.whole == 20 * (2 * 2 + 2)


def test_what_can_not_be_read_is_said_and_the_rest_planned(workplace: Any, tmp_path: Path) -> None:
    """A manifest and a config.json are enough for all but tokens and time."""
    (tmp_path / "model").mkdir()
    shutil.copy(workplace.base / "config.json", tmp_path / "model")
    run = tmp_path / "manifest-only"
    CorpusManifest.load(workplace.run / "corpus").save(run / "corpus")
    config = load_config([], workplace.overrides(model__path=tmp_path / "model"))
    plan = plan_run(str(run), config, tokens_per_second=10.0)
    assert plan.forecast.tokens is None and plan.forecast.time is None
    notes = "\n".join(plan.notes)
    assert "no tokens are counted" in notes and "no passages are sampled" in notes
    assert f"at most {plan.forecast.examples.whole * 512:,} tokens" in notes
    same = plan_run(str(workplace.run), load_config([], workplace.overrides()))
    assert plan.forecast.checkpoint == same.forecast.checkpoint


def test_lanes_without_data_are_pointed_out(workplace: Any) -> None:
    config = load_config([], workplace.overrides(data__lanes=9))
    plan = plan_run(str(workplace.run), config)
    assert any("3 of 9 lanes have no partition" in note for note in plan.notes)


def test_plan_command_prints_refuses_and_speaks_json(
    workplace: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from click.testing import CliRunner

    from polyprag.cli.main import main

    save_config(load_config([], workplace.overrides()), workplace.run)

    def polyprag(*arguments: object) -> Any:
        return CliRunner().invoke(main, ["plan", str(workplace.run), *map(str, arguments)])

    before = sorted(workplace.run.rglob("*"))
    shown = polyprag("--workers", 3, "--tokens-per-second", 50)
    assert shown.exit_code == 0, shown.output
    assert f"{workplace.run} on 3 workers: 3 lanes of 2 examples, ZeRO 1" in shown.output
    assert "tokens/s a worker (as given)" in shown.output

    told = polyprag("--workers", 3, "--tokens-per-second", 50, "--json")
    plan = plan_run(
        str(workplace.run),
        load_config(run_dir=workplace.run, overrides=["cluster.workers=3"]),
        tokens_per_second=50.0,
        limits=Limits(),
    )
    numbers = json.loads(told.stdout)["forecast"]
    assert numbers["total_steps"] == plan.forecast.total_steps
    assert numbers["memory"]["host_need"] == plan.forecast.memory.host_need
    assert numbers["checkpoint"]["whole"] == plan.forecast.checkpoint.whole
    assert numbers["passages"] == {"whole": 11, "least": 3, "most": 4}

    small = polyprag("--worker-memory", 0.5)
    assert small.exit_code == 2
    assert "this plan can't work" in small.stderr and "has 0.5 GB" in small.stderr
    assert "routing table" in small.stdout, "the numbers show why"
    many = polyprag("--workers", 4)
    assert many.exit_code == 2 and "at most data.lanes=3" in many.stderr
    both = polyprag("--tokens-per-second", 5, "--like", workplace.run)
    assert both.exit_code == 2 and "leave one out" in both.stderr
    host = polyprag("--host-memory", 5)
    assert host.exit_code == 2 and "--worker-memory" in host.stderr
    assert sorted(workplace.run.rglob("*")) == before, "a plan changes nothing"


@given(st.integers(1, 500), st.integers(1, 80))
def test_sampled_passages_are_different_and_spread_evenly(num_passages: int, size: int) -> None:
    ids = spread_ids(num_passages, size)
    assert len(ids) == len(set(ids)) == min(size, num_passages)
    assert ids == sorted(ids) and ids[0] >= 0 and ids[-1] < num_passages
    gaps = [b - a for a, b in pairwise(ids)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_ratio_and_its_margin() -> None:
    assert ratio_estimate([30, 60], [3, 6]) == (10.0, 0.0)
    assert ratio_estimate([30], [3]) == (10.0, None)
    ratio, margin = ratio_estimate([20, 40], [2, 2])
    # Deviations of 10 either way: s = sqrt(2 x 200), over 4, times 1.96, as a share of 15.
    assert ratio == 15.0
    assert margin == pytest.approx(1.96 * math.sqrt(400) / 4 / 15)


def test_a_plan_warns_of_what_cannot_carry_experts(workplace: Any, tmp_path: Path) -> None:
    base = tmp_path / "mixtral"
    shutil.copytree(workplace.base, base)
    MixtralConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
    ).save_pretrained(base)
    settings = workplace.overrides(model__path=base, experts__targets="[q_proj]")
    notes = plan_run(str(workplace.run), load_config([], settings)).notes
    # Of each layer: attention 4 x 16 x 16, router 4 x 16, experts 4 x 3 x 16 x 24, two norms of 16.
    of_layer = 4 * 256 + 64 + 4608 + 32
    share = f"q_proj: {256 / of_layer:.0%} of .*down_proj: {4608 / of_layer:.0%}"
    assert any(re.search(share, note) for note in notes)
    dense = plan_run(str(workplace.run), load_config([], workplace.overrides()))
    assert not any("fused" in note for note in dense.notes)
