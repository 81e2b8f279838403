"""A step that isn't finite is refused by all workers, at every ZeRO stage, and changes nothing."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from cluster.plan.steps import plan_encoding
from polyprag.config.files import load_config
from polyprag.errors import RunError
from polyprag.method.examples import num_examples
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.rows.file import load_rows
from sharding.stream.plan import example_order

pytestmark = pytest.mark.slow
LETTER, PASSAGE = "U", 8  # of all passages and questions only Irene Ulm's have it


def train_failing_base(run: Path, overrides: list[str], expected: str) -> None:
    """Trains on a base whose embedding of one letter isn't finite from the first layer on."""
    import cluster.training.load as load
    from cluster.training.train_encoding import train_encoding

    real = load.load_base

    def failing(*args: Any, **kwargs: Any) -> Any:
        model, tokenizer = real(*args, **kwargs)
        (letter,) = tokenizer(LETTER)["input_ids"]

        def fail(module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
            return torch.where((inputs[0] == letter).unsqueeze(-1), torch.nan, out)

        model.get_input_embeddings().register_forward_hook(fail)
        return model, tokenizer

    load.load_base = failing  # type: ignore[assignment]
    with pytest.raises(RunError, match=expected):
        train_encoding(str(run), load_config([], overrides))


def first_step_and_lane(run: Path, overrides: list[str], passage: int) -> tuple[int, int]:
    """When a passage comes first, from 1, and in which lane; counted from the plan alone."""
    config = load_config([], overrides)
    manifest = CorpusManifest.load(run / "corpus")
    plan = plan_encoding(manifest, config, corpus_url="corpus")
    corpus = Corpus.open(run / "corpus")
    for lane in range(config.data.lanes):
        seen = 0
        for index in plan.lane_order(lane, epoch=0):
            part = manifest.partitions[index]
            owners = [
                record.passage.id
                for record in corpus.records(part)
                for _ in range(num_examples(_counts(record), config.data.formats))
            ]
            order = example_order(config.train.seed, 0, partition=index, num_examples=len(owners))
            for i in order:
                if owners[i] == passage:
                    return seen // config.data.microbatch + 1, lane
                seen += 1
    raise AssertionError("the passage isn't there")


def _counts(record: Any) -> dict[str, int]:
    qas, texts = len(record.augmentation.qas), 1 + len(record.augmentation.rewrites)
    return {"passage_qa": qas * texts, "qa": qas, "passage": texts}


def test_a_loss_that_is_not_finite_names_step_lane_and_passage(
    workplace: Any, spawn: Callable[..., None], train_workers: Callable[..., None]
) -> None:
    settings = workplace.overrides(checkpoint__every_steps=1)
    step, lane = first_step_and_lane(workplace.run, settings, PASSAGE)
    assert step > 1, "there must be a checkpoint before it"
    whole = workplace.copy("whole")
    expected = rf"step {step} isn't taken.*loss isn't finite, in lane {lane}: 'p8' \(passage 8\);"
    spawn(train_failing_base, workplace.run, settings, expected, world_size=2)
    assert len(workplace.metrics()) == step - 1
    assert np.isfinite(workplace.losses()).all()
    manifest = json.loads((workplace.run / "checkpoints" / "manifest.json").read_text())
    assert manifest["step"] == step - 1
    for entry in manifest["rows"].values():
        assert np.isfinite(load_rows(workplace.run / "checkpoints" / entry["file"]).rows).all()
    # What was kept is sound: with a base that doesn't fail, it goes on as if nothing had been.
    for place in (workplace, whole):
        train_workers(place, world_size=2, checkpoint__every_steps=1)
    assert workplace.losses() == whole.losses()


def train_with_one_wrong_gradient(
    run: Path, overrides: list[str], at: str, step: int, expected: str
) -> None:
    """Worker 1's gradient of an expert, or of its rows, is infinite at a step; all else is fine."""
    import cluster.training.loop as loop
    import cluster.training.step as training_step
    from cluster.training.train_encoding import train_encoding

    real, real_gates = loop.train_step, training_step.gates_of
    is_wrong = False
    torch_inf = float("inf")

    def wrong(grad: torch.Tensor) -> torch.Tensor:
        return torch.full_like(grad, torch_inf) if is_wrong else grad

    def gates_of(rows: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        gates = real_gates(rows, *args, **kwargs)
        if at == "rows":
            gates.register_hook(wrong)
        return gates

    def state_of(engine: Any, table: Any) -> dict[str, np.ndarray]:
        tensors = {name: tensor.numpy() for name, tensor in engine.export_state().items()}
        for i, arena in enumerate(table._arenas):
            for name in ("rows", "exp_avg", "exp_avg_sq", "steps"):
                tensors[f"{i}.{name}"] = getattr(arena, name).copy()
        return tensors

    def train_step(engine: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_wrong
        if kwargs["step"] + 1 != step:
            return real(engine, table, *args, **kwargs)
        is_wrong = torch.distributed.get_rank() == 1
        if at == "experts":
            engine._pool.parameters()[2].register_hook(wrong)
        before = state_of(engine, table)
        with pytest.raises(RunError) as refused:
            real(engine, table, *args, **kwargs)
        for name, array in state_of(engine, table).items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
        raise refused.value

    training_step.gates_of = gates_of  # type: ignore[assignment]
    loop.train_step = train_step
    with pytest.raises(RunError, match=expected) as refused:
        train_encoding(str(run), load_config([], overrides))
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(
    ("at", "stage", "expected"),
    [
        ("experts", 1, "step 4 isn't taken.*gradients of the experts"),
        ("experts", 2, "step 4 isn't taken.*gradients of the experts.*train.experts_lr"),
        ("experts", 3, "step 4 isn't taken.*gradients of the experts"),
        ("rows", 2, r"step 4 isn't taken.*gradients of routing rows.*in lane.*: 'p\d+' \(passage"),
    ],
)
def test_a_gradient_that_is_not_finite_stops_all_workers_before_anything_changes(
    workplace: Any, spawn: Callable[..., None], at: str, stage: int, expected: str
) -> None:
    settings = workplace.overrides(deepspeed__stage=stage, checkpoint__every_steps=2)
    spawn(train_with_one_wrong_gradient, workplace.run, settings, at, 4, expected, world_size=2)
    assert len(workplace.metrics()) == 3
    manifest = json.loads((workplace.run / "checkpoints" / "manifest.json").read_text())
    assert manifest["step"] == 2


def fail_on_one_worker(run: Path, overrides: list[str], module: str, name: str, rank: int) -> None:
    """One worker meets a bug in a stage; all hear of it, and none waits for ever."""
    from importlib import import_module

    from cluster.training.train_encoding import train_encoding
    from polyprag.errors import WorkerBugError

    def fail(*args: Any, **kwargs: Any) -> None:
        raise TypeError("an argument too many")

    is_mine = torch.distributed.get_rank() == rank
    if is_mine:
        setattr(import_module(module), name, fail)
    with pytest.raises(Exception, match="an argument too many") as raised:
        train_encoding(str(run), load_config([], overrides))
    assert type(raised.value) is (TypeError if is_mine else WorkerBugError)
    assert is_mine or f"worker {rank}: TypeError" in str(raised.value)


@pytest.mark.parametrize(
    ("module", "name", "rank"),
    [
        ("cluster.training.load", "load_base", 1),
        ("cluster.parallel.engine", "deepspeed_config", 1),
        ("cluster.training.start", "open_row_table", 1),
        ("cluster.training.start", "MetricsLog", 0),
        ("cluster.checkpoints.writer", "remove_unnamed", 0),
        ("cluster.training.loop", "open_lanes", 1),
        ("cluster.training.write_encoding", "save_rows", 1),
        ("cluster.training.write_encoding", "save_encoding", 0),
    ],
)
def test_any_error_of_one_worker_is_heard_by_all(
    workplace: Any, spawn: Callable[..., None], module: str, name: str, rank: int
) -> None:
    settings = workplace.overrides(data__microbatch=20)  # a few steps
    spawn(fail_on_one_worker, workplace.run, settings, module, name, rank, world_size=2)


def test_a_checkpoint_of_a_training_that_diverged_is_refused_when_it_is_loaded(
    workplace: Any, straight_run: Callable[..., Any], train_workers: Callable[..., None]
) -> None:
    place = straight_run(world_size=1).copy_to(workplace.run.with_name("diverged"))
    file = place.run / "checkpoints" / "manifest.json"
    manifest = json.loads(file.read_text())
    experts = file.with_name(manifest["experts"]["file"])
    state = load_file(experts)
    name = sorted(state)[0]
    state[name].flat[3] = np.nan
    save_file(state, experts)
    manifest["experts"]["sha256"] = hashlib.sha256(experts.read_bytes()).hexdigest()
    manifest["experts"]["num_bytes"] = experts.stat().st_size
    file.write_text(json.dumps(manifest))
    with pytest.raises(Exception, match=f"{name}' of the experts isn't finite.*diverged"):
        train_workers(place, world_size=2, train__epochs=1)
