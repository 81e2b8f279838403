"""What a file of further DeepSpeed keys may say, and what it may not."""

from pathlib import Path

import pytest

from cluster.parallel.deepspeed_config import deepspeed_config
from polyprag.config import Config, DeepSpeedConfig
from polyprag.errors import ConfigError


def with_file(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return Config(deepspeed=DeepSpeedConfig(config=str(file)))


def test_further_keys_are_merged(tmp_path: Path) -> None:
    config = with_file(
        tmp_path, "zero_optimization: {overlap_comm: true}\nprescale_gradients: true"
    )
    merged = deepspeed_config(config, world_size=3)
    assert merged["zero_optimization"] == {"stage": 1, "overlap_comm": True}
    assert merged["prescale_gradients"] and merged["train_batch_size"] == 3


def test_the_norm_that_shows_what_is_not_finite_stays_on(tmp_path: Path) -> None:
    config = with_file(tmp_path, "zero_optimization: {compute_grad_norm: false}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: zero_optimization\.compute_grad_norm"):
        deepspeed_config(config, world_size=1)
