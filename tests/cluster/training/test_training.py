"""Training in real process groups: what must not depend on workers, stages or interruptions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import OPTConfig, OPTForCausalLM

from cluster.plan.steps import plan_encoding
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.method.base_model import load_base
from polyprag.method.batches.padded import pad_batch
from polyprag.method.examples import Example, examples_of
from polyprag.method.experts import inject
from polyprag.method.loss import causal_loss_sum
from polyprag.method.router import gates
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.rows.part import init_rows
from sharding.stream.plan import example_order

pytestmark = pytest.mark.slow
Train = Callable[..., None]
Straight = Callable[..., Any]


def encoded(run: Path) -> dict[str, np.ndarray]:
    """Every tensor of an encoding: experts and rows."""
    encoding = Encoding.load(run)
    tensors = {name: tensor.numpy() for name, tensor in encoding.expert_state().items()}
    return tensors | {"rows": encoding.rows(np.arange(encoding.manifest.num_passages))}


def assert_equal(left: Path, right: Path) -> None:
    ours, theirs = encoded(left), encoded(right)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def assert_close(left: Path, right: Path) -> None:
    """Equal to float tolerance; where a gradient is near zero, Adam turns its sign into a step."""
    ours, theirs = encoded(left), encoded(right)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.quantile(abs(ours[name] - theirs[name]), 0.95) < 5e-3, name


def assert_same_losses(left: list[float], right: list[float]) -> None:
    """Equal to float tolerance, which grows as Adam amplifies the last bits."""
    np.testing.assert_allclose(left[:8], right[:8], atol=1e-5)
    np.testing.assert_allclose(left, right, atol=5e-4)


def reference_losses(run: Path, config: Config, *, steps: int) -> list[float]:
    """Plain PyTorch: one process, one batch a step, Adam over the whole table, no lanes' code.

    Dense Adam moves a row that rests by its momentum, so each row keeps an optimiser of its own.
    """
    manifest = CorpusManifest.load(run / "corpus")
    model, tokenizer = load_base(config.model)
    pool = inject(model, config.experts, config.router, seed=config.train.seed)
    experts = torch.optim.AdamW(
        pool.parameters(), lr=config.train.experts_lr, betas=(0.9, 0.999), weight_decay=0.0
    )
    rows: list[torch.Tensor] = []
    for part in manifest.partitions:
        made = init_rows(part, sites=pool.num_sites, experts=4, std=1.0, seed=config.train.seed)
        rows += [torch.from_numpy(row.copy()).requires_grad_() for row in made.rows]
    row_adams = [torch.optim.Adam([row], lr=config.train.rows_lr) for row in rows]

    plan = plan_encoding(manifest, config, corpus_url="corpus")
    lanes: list[list[Example]] = []
    for lane in range(config.data.lanes):
        stream: list[Example] = []
        for index in plan.lane_order(lane, epoch=0):
            records = Corpus.open(run / "corpus").records(manifest.partitions[index])
            examples = [e for r in records for e in examples_of(r, tokenizer, config.data)]
            order = example_order(config.train.seed, 0, partition=index, num_examples=len(examples))
            stream += [examples[i] for i in order]
        lanes.append(stream)
    losses = []
    for step in range(steps):
        size = config.data.microbatch
        batch = [e for lane in lanes for e in lane[step * size : (step + 1) * size]]
        padded = pad_batch(batch, 256)
        stacked = torch.stack([rows[example.passage_id] for example in batch])
        with pool.gated(gates(stacked, config.router)):
            logits = model(padded.input_ids, attention_mask=padded.attention_mask).logits
        total, count = causal_loss_sum(logits, padded.labels)
        loss = total / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pool.parameters(), config.train.grad_clip)
        experts.step()
        experts.zero_grad()
        for passage_id in {example.passage_id for example in batch}:
            row_adams[passage_id].step()
            row_adams[passage_id].zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_losses_equal_those_of_a_plain_pytorch_loop(straight_run: Straight) -> None:
    alone = straight_run(world_size=1)
    config = load_config([], alone.overrides())
    expected = reference_losses(alone.run, config, steps=8)
    np.testing.assert_allclose(alone.losses()[:8], expected, atol=2e-5)


@pytest.mark.parametrize(("world_size", "stage"), [(2, 2), (3, 1), (2, 3)])
def test_any_workers_and_stage_give_the_losses_and_weights_of_one_worker(
    workplace: Any, train_workers: Train, straight_run: Straight, world_size: int, stage: int
) -> None:
    alone = straight_run(world_size=1)
    train_workers(workplace, world_size=world_size, deepspeed__stage=stage)
    assert_same_losses(workplace.losses(), alone.losses())
    assert_close(workplace.run, alone.run)
    for line in workplace.metrics():
        assert line["world_size"] == world_size


def test_a_bf16_base_trains_alike_at_stages_2_and_3(workplace: Any, train_workers: Train) -> None:
    sharded = workplace.copy("sharded")
    train_workers(workplace, world_size=2, model__dtype="bf16", deepspeed__stage=2)
    train_workers(sharded, world_size=2, model__dtype="bf16", deepspeed__stage=3)
    np.testing.assert_allclose(workplace.losses(), sharded.losses(), atol=0.02)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_resume_on_the_same_workers_is_bit_exact(
    workplace: Any, train_workers: Train, straight_run: Straight, stage: int
) -> None:
    settings = {"world_size": 2, "train__epochs": 2, "deepspeed__stage": stage}
    straight = straight_run(**settings)
    train_workers(workplace, die_at=13, **settings)
    saved = json.loads((workplace.run / "checkpoints" / "manifest.json").read_text())
    assert saved["step"] == 10
    train_workers(workplace, **settings)
    assert workplace.losses() == straight.losses()
    assert_equal(workplace.run, straight.run)


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_a_base_whose_config_has_dropout_trains_as_the_same_base_without(
    workplace: Any, train_workers: Train, tmp_path: Path, kind: str
) -> None:
    settings: dict[str, Any] = {"world_size": 1}
    with_dropout: dict[str, float] = {"attention_dropout": 0.5}
    plain, noisy = tmp_path / "plain", tmp_path / "noisy"
    shutil.copytree(workplace.base, plain)
    if kind == "opt":
        settings["experts__targets"] = "[fc1,fc2]"
        with_dropout |= {"dropout": 0.5, "layerdrop": 0.5}
        sizes = dict(hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2)
        special = dict(pad_token_id=256, bos_token_id=None, eos_token_id=257)
        opt = OPTConfig(vocab_size=258, word_embed_proj_dim=16, **sizes, **special, dropout=0.0)
        OPTForCausalLM(opt).save_pretrained(plain)
    shutil.copytree(plain, noisy)
    config = json.loads((noisy / "config.json").read_text())
    (noisy / "config.json").write_text(json.dumps(config | with_dropout))
    other = workplace.copy("other")
    train_workers(workplace, model__path=plain, **settings)
    train_workers(other, model__path=noisy, **settings)
    assert other.losses() == workplace.losses()
    assert_equal(other.run, workplace.run)


def test_resume_with_other_workers_and_stage_sees_each_step_once(
    workplace: Any, train_workers: Train, straight_run: Straight
) -> None:
    straight = straight_run(world_size=1)
    train_workers(workplace, world_size=3, die_at=8, deepspeed__stage=3)
    train_workers(workplace, world_size=2, deepspeed__stage=1)
    steps = [line["step"] for line in workplace.metrics()]
    assert steps == list(range(1, len(straight.losses()) + 1))
    assert_same_losses(workplace.losses(), straight.losses())
    sizes = [line["world_size"] for line in workplace.metrics()]
    assert sizes == [3] * 5 + [2] * (len(steps) - 5)


def test_checkpoint_keeps_unchanged_partitions_and_no_stray_files(straight_run: Straight) -> None:
    directory = straight_run(world_size=2).run / "checkpoints"
    manifest = json.loads((directory / "manifest.json").read_text())
    named = {entry["file"] for entry in manifest["rows"].values()} | {manifest["experts"]["file"]}
    assert {path.name for path in directory.iterdir()} == named | {"manifest.json"}
    steps = {name.partition("-step-")[2].partition("-")[0] for name in named}
    assert len(steps) > 1  # partitions that were done early were not written again
    for entry in manifest["rows"].values():
        assert load_file(directory / entry["file"])["steps"].min() >= 1


def test_an_example_counts_once_an_epoch_in_every_row(straight_run: Straight) -> None:
    trained = straight_run(world_size=2, train__epochs=2, deepspeed__stage=2)
    manifest = CorpusManifest.load(trained.run / "corpus")
    total = sum(line["examples"] for line in trained.metrics())
    expected = sum(p.counts["passage_qa"] + p.counts["qa"] for p in manifest.partitions)
    assert total == 2 * expected


def test_damaged_shard_is_one_error_on_all_workers_and_no_hang(
    workplace: Any, train_workers: Train
) -> None:
    shard = sorted((workplace.run / "corpus").glob("part-00004-*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[700] ^= 0xFF
    shard.write_bytes(bytes(data))
    with pytest.raises(Exception, match=shard.name):
        train_workers(workplace, world_size=3)


def test_relaxed_bernoulli_noise_does_not_depend_on_workers(
    workplace: Any, train_workers: Train
) -> None:
    noisy = {"router__gate": "sigmoid", "router__relaxed_bernoulli": True}
    alone = workplace.copy("alone")
    train_workers(alone, world_size=1, **noisy)
    train_workers(workplace, world_size=3, **noisy)
    assert_same_losses(workplace.losses(), alone.losses())
