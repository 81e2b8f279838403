"""Keys of a further DeepSpeed config that DeepSpeed does not know are refused, and first of all."""

from pathlib import Path

import pytest

from cluster.parallel.deepspeed_config import deepspeed_config
from polyprag.config.files import load_config
from polyprag.config.shipped import shipped_configs
from polyprag.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zero_optimizaton:\n  stage: 2\n", "zero_optimizaton: did you mean zero_optimization"),
        ("wall_clock_breakdwn: true\n", "did you mean wall_clock_breakdown"),
        ("zero_optimization:\n  overlap_com: true\n", "overlap_com: did you mean overlap_comm"),
        ("zero_optimization:\n  overlap_comm: maybe\n", "overlap_comm: .*boolean"),
        ("zero_optimization:\n  offload_optimizer:\n    devise: cpu\n", "offload_optimizer.devise"),
        ("zero_optimization: 3\n", "must be a section"),
        ("aio:\n  block_siz: 3\n", "aio.block_siz: did you mean aio.block_size"),
        ("checkpoint:\n  tag_validatio: FAIL\n", "did you mean checkpoint.tag_validation"),
        ("amp:\n  enabled: true\n", "has been removed"),
    ],
)
def test_what_deepspeed_does_not_know_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "further.yaml"
    file.write_text(text)
    config = load_config(overrides=[f"deepspeed.config={file}"])
    with pytest.raises(ConfigError, match=f"{file}: .*{message}"):
        deepspeed_config(config, world_size=2)


def test_what_it_knows_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "further.yaml"
    file.write_text(
        "wall_clock_breakdown: true\n"
        "comms_logger:\n  enabled: false\n"
        "flops_profiler:\n  enabled: false\n"
        "activation_checkpointing:\n  partition_activations: false\n"
        "zero_optimization:\n  offload_optimizer:\n    device: cpu\n"
    )
    config = load_config(overrides=[f"deepspeed.config={file}"])
    made = deepspeed_config(config, world_size=2)
    assert made["wall_clock_breakdown"] is True
    assert made["zero_optimization"] == {"stage": 1, "offload_optimizer": {"device": "cpu"}}
    assert made["train_batch_size"] == 2


@pytest.mark.parametrize("name", [n for n in shipped_configs() if n.startswith("deepspeed/")])
def test_shipped_ones_are_known(name: str) -> None:
    overrides = [f"deepspeed.config={name}", f"deepspeed.stage={name[-1]}"]
    assert deepspeed_config(load_config(overrides=overrides), world_size=1)
