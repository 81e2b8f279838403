"""The forecast of Wikipedia's 21 M passages on an 8B model, against arithmetic done by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaConfig

from cluster.parallel.deepspeed_config import deepspeed_config
from cluster.plan.feasibility import Limits, improvements, problems
from cluster.plan.forecast import Amount, Forecast, forecast
from cluster.plan.measured_speed import WorkerSpeed
from cluster.plan.model_shape import ModelShape, model_shape
from cluster.plan.run import RunPlan
from cluster.plan.steps import EncodePlan, plan_encoding
from cluster.plan.token_sample import TokenSample
from cluster.report.plan_text import plan_text
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.errors import ConfigError
from sharding.corpus.manifest import CorpusManifest, Partition

N = 21_015_324  # passages of psgs_w100.tsv
GB = 1e9


def manifest_of(num_passages: int, size: int, *, per_passage: int = 9) -> CorpusManifest:
    parts = []
    for index, first_id in enumerate(range(0, num_passages, size)):
        count, sha256 = min(size, num_passages - first_id), f"{index:064x}"
        parts.append(
            Partition(
                index=index,
                first_id=first_id,
                num_passages=count,
                file=f"part-{index:05d}-{sha256[:12]}.tar",
                num_bytes=2048 * count + 10240,
                sha256=sha256,
                augmented=True,
                counts={"qa": per_passage * count},
            )
        )
    return CorpusManifest(["psgs"], num_passages, size, tuple(parts))


@pytest.fixture(scope="module")
def llama_8b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama-8b")
    LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    ).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def config(llama_8b: Path) -> Config:
    stage = ["deepspeed.stage=2", "deepspeed.config=deepspeed/zero2"]
    return load_config(["wikipedia-21m"], [f"model.path={llama_8b}", *stage])


@pytest.fixture(scope="module")
def manifest() -> CorpusManifest:
    return manifest_of(N, 8192)


@pytest.fixture(scope="module")
def shape(config: Config) -> ModelShape:
    return model_shape(config)


@pytest.fixture(scope="module")
def plan(manifest: CorpusManifest, config: Config) -> EncodePlan:
    return plan_encoding(manifest, config, corpus_url="corpus")


def forecast_of(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape, **more: object
) -> Forecast:
    zero = deepspeed_config(config, world_size=config.cluster.workers)["zero_optimization"]
    return forecast(manifest, config, plan, shape, zero=zero, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape
) -> Forecast:
    return forecast_of(manifest, config, plan, shape)


def test_shape_of_an_8b_model_comes_from_its_config_alone(
    shape: ModelShape, llama_8b: Path
) -> None:
    assert [path.name for path in llama_8b.iterdir()] == ["config.json"]
    attention = 4096 * (4096 + 1024 + 1024) + 4096 * 4096
    layer = attention + 3 * 4096 * 14336 + 2 * 4096
    assert shape.base_parameters == 2 * 128256 * 4096 + 32 * layer + 4096 == 8_030_261_248
    assert shape.base_dtype_bytes == 2
    assert (shape.sites, shape.experts, shape.expert_linears) == (32, 64, 96)
    assert shape.expert_parameters == 96 * (64 * 4) * (4096 + 14336)
    assert shape.row_bytes == 32 * 64 * 4
    assert shape.row_state_bytes == 3 * 32 * 64 * 4 + 4


def test_rows_partitions_and_lanes_of_the_busiest_and_the_idlest_worker(found: Forecast) -> None:
    # 2,566 = 256 x 10 + 6 partitions: six lanes have an eleventh, on six different workers.
    assert found.partitions == Amount(2566, 40, 41)
    assert found.lanes == Amount(256, 4, 4)
    last = N - 2565 * 8192
    assert last < 8192
    assert found.passages == Amount(N, 40 * 8192, 41 * 8192)
    assert found.table == Amount(N * 8192, 40 * 8192 * 8192, 41 * 8192 * 8192)
    assert found.optimizer.whole == N * (2 * 8192 + 4)
    assert found.shards.whole == 2048 * N + 2566 * 10240
    assert found.examples.whole == 9 * N


def test_steps_and_empty_slots(found: Forecast) -> None:
    assert found.steps_per_epoch == found.total_steps == 11 * 8192 * 9 // 4 == 202_752
    assert found.examples_per_step == 1024
    assert found.balance.empty_slots == pytest.approx(1 - 9 * N / (202_752 * 1024))
    # All lanes are full for ten partitions; then six workers have one lane each.
    full, tail = 10 * 8192 * 9 // 4, 8192 * 9 // 4
    busy = 64 * (full * 16 + tail * 4)
    assert found.balance.idle_workers == pytest.approx(1 - 9 * N / busy)


def test_checkpoint_and_encoding(found: Forecast) -> None:
    experts = 96 * 256 * 18432
    assert found.checkpoint.experts == 12 * experts
    assert found.checkpoint.rows == N * 24580
    assert found.checkpoint.number == 203
    assert found.encoding == 4 * experts + N * 8192
    # A lane takes 4,000 examples between checkpoints: one partition, seldom two.
    touched = found.checkpoint.rewritten_rows / (8192 * 24580)
    assert 0.9 * 256 < touched < 1.2 * 256
    written = found.checkpoint.experts + found.checkpoint.rewritten_rows
    assert found.checkpoint.incremental_share == pytest.approx(written / found.checkpoint.whole)


def test_memory_by_zero_stage(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape
) -> None:
    experts = 4 * 96 * 256 * 18432  # bytes, float32
    base = 2 * 8_030_261_248
    by_stage = {}
    for stage in (1, 2, 3):
        changed = replace(config, deepspeed=replace(config.deepspeed, stage=stage, config=None))
        by_stage[stage] = forecast_of(manifest, changed, plan, shape).memory
    for stage in (1, 2):
        assert by_stage[stage].device["base model"] == base
        assert by_stage[stage].device["experts"] == experts
        assert by_stage[stage].device["experts' optimiser"] == 3 * experts // 64
    assert by_stage[1].device["experts' gradients"] == experts + experts // 64
    assert by_stage[2].device["experts' gradients"] == 2 * experts // 64
    third = by_stage[3].device
    assert third["base model"] == base // 64
    assert third["experts"] == experts // 64
    assert third["gathered layers"] == 2 * 1_050_000_000
    assert by_stage[3].device_loading > base, "the base is whole until ZeRO 3 has sharded it"
    for memory in by_stage.values():
        # Of 41: read, next and copied for each of 4 lanes, 8 on their way to the disk, 4 from it.
        assert memory.host["rows and moments"] == 24 * 8192 * 24580


def test_time_is_that_of_the_busiest_worker(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape, found: Forecast
) -> None:
    sample = TokenSample(64, 9.0, 150.0, 0.02)
    timed = forecast_of(
        manifest, config, plan, shape, sample=sample, speed=WorkerSpeed(20_000.0, "as given")
    )
    assert found.tokens is None and found.time is None
    assert timed.tokens is not None and timed.time is not None
    assert timed.tokens.per_epoch == 9 * N * 150
    ideal = 9 * N * 150 / (64 * 20_000)
    assert timed.time.seconds == pytest.approx(ideal / (1 - timed.balance.idle_workers))


def said(
    found: Forecast, parts: tuple[CorpusManifest, Config, EncodePlan, ModelShape], **more: object
) -> str:
    options: dict[str, object] = {"limits": Limits(), "local_gpus": None} | more
    return " ".join(problems(found, *parts, **options))  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused_with_what_would(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape, found: Forecast
) -> None:
    parts = (manifest, config, plan, shape)
    assert said(found, parts, limits=Limits(device=round(100 * GB), host=round(30 * GB))) == ""

    limit = round(80 * GB)
    text = said(found, parts, limits=Limits(device=limit))
    assert "needs 83.1 GB of its accelerator's memory and has 80.0 GB" in text
    assert "train.max_tokens=4096" in text
    smaller = replace(config, train=replace(config.train, max_tokens=4096))
    assert forecast_of(manifest, smaller, plan, shape).memory.device_need <= limit
    larger = replace(config, train=replace(config.train, max_tokens=8192))
    assert forecast_of(manifest, larger, plan, shape).memory.device_need > limit

    assert "no single change" in said(found, parts, limits=Limits(device=round(5 * GB)))
    row = said(found, parts, limits=Limits(host=20_000))
    assert "32 sites x 64 experts" in row and "granularity" in row


def test_gpus_that_can_not_be_had_are_refused(
    manifest: CorpusManifest, config: Config, plan: EncodePlan, shape: ModelShape, found: Forecast
) -> None:
    def with_gpus(gpus: float, local: int | None) -> str:
        changed = replace(config, cluster=replace(config.cluster, gpus_per_worker=gpus))
        return said(found, (manifest, changed, plan, shape), local_gpus=local)

    assert with_gpus(1, None) == ""
    assert "this machine has 8" in with_gpus(1, 8) and "--workers 8" in with_gpus(1, 8)
    assert "NCCL" in with_gpus(0.5, None)
    assert "up to 128 workers" in with_gpus(2, None)


def test_improvements_do_what_they_say(manifest: CorpusManifest, plan: EncodePlan) -> None:
    assert improvements(manifest, plan, workers=64) == [
        "data.partition_size=7463 when preparing anew: 0.0% idle"
    ]
    better = plan_encoding(
        manifest_of(N, 7463), load_config(["wikipedia-21m"]), corpus_url="corpus"
    )
    assert improvements(manifest, better, workers=64) == []
    # 60 workers can't share 256 lanes evenly: those with five make those with four wait.
    uneven = improvements(manifest, plan, workers=60)
    assert uneven[0].startswith("--workers 52, which take no longer")
    assert uneven[1].startswith("data.lanes=")
    assert int(uneven[1].split("=")[1].split()[0]) % 60 == 0


def test_text_has_units_that_people_read(found: Forecast, config: Config) -> None:
    text = plan_text(RunPlan(found, [], ["data.lanes=9"], ["a note"]), config, run_dir="runs/w")
    lines = text.splitlines()
    assert lines[0] == "runs/w on 64 workers: 256 lanes of 4 examples, ZeRO 2"
    assert any("routing table" in line and "172 GB" in line for line in lines)
    assert any("40 to 41" in line for line in lines)
    assert "202,752 in all (1 epoch)" in text
    assert lines[-1] == "note: a note"
    assert max(map(len, lines)) <= 100


def test_more_workers_than_lanes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at most data\.lanes=256.*fewer workers"):
        load_config(["wikipedia-21m"], ["cluster.workers=300"])


@pytest.mark.parametrize("content", ["{}", '{"model_type": "nonsense"}', "not json"])
def test_a_model_without_a_usable_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"model\.path=.*config\.json"):
        model_shape(load_config([], [f"model.path={tmp_path}"]))
