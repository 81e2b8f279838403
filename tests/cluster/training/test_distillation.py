"""Training on a teacher in real process groups: workers, stages and stops change nothing."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.teaching.teach import teach_corpus

pytestmark = pytest.mark.slow
Train = Callable[..., None]


@pytest.fixture
def workplace(workplace: Any, tmp_path: Path) -> Any:
    """One whose base model, drawn from a wide distribution, says other things with a passage."""
    base = tmp_path / "base"
    shutil.copytree(workplace.base, base)
    config = LlamaConfig.from_pretrained(base)
    config.initializer_range = 0.3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForCausalLM(config).save_pretrained(base)
    return replace(workplace, base=base)


def taught(place: Any, **changed: Any) -> dict[str, Any]:
    """Has the teacher of a workplace's run speak; returns the settings to train it with."""
    changed = {"train__objective": "both", "train__distill_weight": 0.5} | changed
    teach_corpus(str(place.run), load_config([], place.overrides(**changed)))
    return changed


def rows_of(run: Path) -> np.ndarray:
    encoding = Encoding.load(run)
    return encoding.rows(np.arange(encoding.manifest.num_passages))


@pytest.mark.parametrize("objective", ["distill", "both"])
def test_any_workers_and_stage_learn_the_same_of_a_teacher(
    workplace: Any, train_workers: Train, objective: str
) -> None:
    settings = taught(workplace, train__objective=objective)
    losses = {}
    for world_size, stage in ((1, 2), (2, 1), (3, 2), (2, 3)):
        place = workplace.copy(f"on-{world_size}-at-{stage}")
        train_workers(place, world_size=world_size, deepspeed__stage=stage, **settings)
        losses[world_size, stage] = place.losses()
    alone = losses.pop((1, 2))
    for found in losses.values():
        np.testing.assert_allclose(found[:8], alone[:8], atol=1e-5)
        np.testing.assert_allclose(found, alone, atol=5e-4)
    assert alone[0] > 0.1  # there is something to learn


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_resumed_distillation_is_bit_exact(
    workplace: Any, train_workers: Train, stage: int
) -> None:
    settings = taught(workplace, deepspeed__stage=stage)
    straight = workplace.copy("straight")
    train_workers(straight, world_size=2, **settings)
    train_workers(workplace, world_size=2, die_at=8, **settings)
    train_workers(workplace, world_size=2, **settings)
    assert workplace.losses() == straight.losses()
    assert (rows_of(workplace.run) == rows_of(straight.run)).all()


def test_without_what_the_teacher_says_no_worker_trains(
    workplace: Any, train_workers: Train
) -> None:
    with pytest.raises(Exception, match=r"nothing of a teacher yet.*polyprag teach RUN"):
        train_workers(workplace, world_size=2, train__objective="distill")


def test_a_run_goes_on_with_the_objective_that_it_began_with(
    workplace: Any, train_workers: Train
) -> None:
    settings = taught(workplace)
    train_workers(workplace, world_size=1, die_at=8, **settings)
    with pytest.raises(Exception, match=r"trained with train.objective='both'"):
        train_workers(workplace, world_size=1)
