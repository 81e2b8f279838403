"""Every number among the settings at its extremes: used as it is, or refused by name."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from polyprag.config import Config, ExpertsConfig, RouterConfig, TrainConfig
from polyprag.config.files import load_config
from polyprag.errors import ConfigError


def numbers() -> Iterator[tuple[str, str, type[Any], bool]]:
    """Section, name, type and whether it may be null, of every number."""
    for section in dataclasses.fields(Config):
        cls = typing.cast(Any, section.type)
        for field in dataclasses.fields(cls):
            optional = isinstance(field.type, types.UnionType)
            kinds = typing.get_args(field.type) if optional else (field.type,)
            for kind in (int, float):
                if kind in kinds:
                    yield section.name, field.name, kind, optional


NUMBERS = list(numbers())


def made(section: str, name: str, value: object) -> object:
    cls = type(getattr(Config(), section))
    return dataclasses.replace(cls(), **{name: value})


def test_all_numbers_are_found() -> None:
    found = {f"{section}.{name}" for section, name, _, _ in NUMBERS}
    assert {"train.seed", "cluster.min_workers", "router.init_std", "deepspeed.stage"} <= found
    assert len(found) > 50


@pytest.mark.parametrize(
    ("section", "name", "kind"), [pytest.param(*n[:3], id=f"{n[0]}.{n[1]}") for n in NUMBERS]
)
def test_what_is_no_number_of_its_kind_is_refused(section: str, name: str, kind: type) -> None:
    odd: list[object] = [math.nan, math.inf, -math.inf, True, "3", [3], 10**30, -(10**30), -2]
    if kind is int:
        odd += [1.5, 2.0]
    for value in odd:
        with pytest.raises(ConfigError, match=rf"{section}\.{name}="):
            made(section, name, value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed=-1", r"train\.seed=-1.*0 or more"),
        ("train.seed=18446744073709551616", r"train\.seed="),
        ("train.beta2=0.99999999", r"train\.beta2="),  # 1 in float32: a division by zero
        ("cluster.gpus_per_worker=1.5", r"cluster\.gpus_per_worker=1\.5.*whole number"),
        ("experts.num=100000000000", r"experts\.num="),
        ("experts.rank=1000000", r"experts\.rank="),
        ("retrieval.temperature=1e-300", r"retrieval\.temperature="),
        ("data.lanes=1e9", r"data\.lanes="),
        ("checkpoint.every_steps=-5", r"checkpoint\.every_steps=-5.*at least 1"),
    ],
)
def test_extremes_are_refused_on_the_command_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])


def test_what_can_be_is_taken() -> None:
    overrides = ["train.seed=9223372036854775807", "train.grad_clip=0", "cluster.max_failures=-1"]
    config = load_config(overrides=[*overrides, "cluster.gpus_per_worker=0.25", "train.beta1=0"])
    assert config.train.seed == 2**63 - 1
    assert config.cluster.gpus_per_worker == 0.25


def test_experts_with_too_many_columns_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"experts\.num=100000.*10,000,000 columns"):
        ExpertsConfig(num=100_000, rank=100)


@pytest.mark.parametrize("gate", ["linear", "tanh"])
def test_signed_gates_that_begin_at_zero_are_refused(gate: str) -> None:
    for std in (0, 0.0, 1e-30):
        with pytest.raises(ConfigError, match=r"router\.init_std=.*begin at 0"):
            RouterConfig(gate=gate, init_std=std)
    assert RouterConfig(gate=gate, init_std=1e-6).init_std == 1e-6


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_gates_that_are_never_zero_may_begin_alike(gate: str) -> None:
    assert RouterConfig(gate=gate, init_std=0.0).init_std == 0


def test_to_train_neither_experts_nor_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is trained"):
        TrainConfig(experts_lr=0, rows_lr=0)
    assert TrainConfig(rows_lr=0).rows_lr == 0
