"""What DeepSpeed is configured with: polyprag's own settings and further keys of the user's."""

from typing import Any

from cluster.parallel.deepspeed_keys import check_deepspeed_keys
from polyprag.config import Config
from polyprag.config.files import read_yaml
from polyprag.errors import ConfigError

# Keys that the training loop depends on; a further DeepSpeed config may not set them.
_OURS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "fp16",
    "bf16",
)


def deepspeed_config(config: Config, *, world_size: int) -> dict[str, Any]:
    """Returns the DeepSpeed config of a run: ours, with the keys of `deepspeed.config` merged in.

    Raises:
        ConfigError: that file sets a key that the training loop decides, or that DeepSpeed doesn't
            know.
    """
    further = read_yaml(config.deepspeed.config) if config.deepspeed.config else {}
    for key in _OURS:
        if key in further:
            raise ConfigError(
                f"{config.deepspeed.config}: {key} is decided by polyprag's own settings "
                "(train.*, data.*, model.dtype); remove it"
            )
    section = further.pop("zero_optimization", None) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{config.deepspeed.config}: zero_optimization must be a section")
    zero = {"stage": config.deepspeed.stage, **section}
    if zero["stage"] != config.deepspeed.stage:
        raise ConfigError(
            f"{config.deepspeed.config}: zero_optimization.stage={zero['stage']} contradicts "
            f"deepspeed.stage={config.deepspeed.stage}; set deepspeed.stage"
        )
    if not zero.get("compute_grad_norm", True):
        raise ConfigError(
            f"{config.deepspeed.config}: zero_optimization.compute_grad_norm can't be off: by the "
            "norm polyprag sees gradients that aren't finite; remove it"
        )
    made = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world_size,
        "gradient_clipping": config.train.grad_clip,
        "zero_optimization": zero,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.train.experts_lr,
                "betas": [config.train.beta1, config.train.beta2],
                "weight_decay": config.train.weight_decay,
                "torch_adam": True,
            },
        },
        "steps_per_print": 2**31,
        **further,
    }
    if config.deepspeed.config:
        check_deepspeed_keys(made, where=config.deepspeed.config)
    return made
