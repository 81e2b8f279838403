"""RUN/encoding as a directory that peft loads: its experts' names, and the two files it looks for.

The pool is a PEFT method of its own (`polyprag.export.peft_method`). Experts are stored under the
names that peft gives them, so that its adapter is the experts' file itself, under a second name.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from polyprag.config import Config
from polyprag.pretrained.where import located
from sharding.storage.files import atomic_write, join
from sharding.storage.urls import local_path

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
METHOD = "POLYPRAG"  # the PEFT type
_PREFIX = "base_model.model."  # peft's, before a module's name
_LETTERS = {"A": "polyprag_A.weight", "B": "polyprag_B.weight"}


def peft_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns an `ExpertPool.state_dict()` under the names that peft has for its tensors."""
    return {_peft_name(name): tensor for name, tensor in state.items()}


def pool_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns stored tensors under an `ExpertPool`'s names, which version 3 stored them under."""
    return {pool_name(name): tensor for name, tensor in state.items()}


def pool_name(name: str) -> str:
    """Returns a stored tensor's name in an `ExpertPool`."""
    for letter, end in _LETTERS.items():
        if name.startswith(_PREFIX) and name.endswith(f".{end}"):
            return f"{name.removeprefix(_PREFIX).removesuffix(end)}{letter}"
    return name


def write_adapter_files(
    directory: str | Path, config: Config, *, experts_file: str, experts_sha256: str
) -> None:
    """Writes what peft looks for in an encoding that is on this machine's disks.

    Args:
        directory: `RUN/encoding`, with the experts in it.
        config: that it was trained with.
        experts_file: name of the experts' file.
        experts_sha256: of that file; tells rows of another training from those of these experts.
    """
    place = local_path(str(directory))
    if place is None:
        return  # peft reads directories and hubs
    fields = {
        "peft_type": METHOD,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": located(config.model.path),
        "inference_mode": True,
        "num_experts": config.experts.num,
        "rank": config.experts.rank,
        "alpha": config.experts.alpha,
        "target_modules": list(config.experts.targets),
        "granularity": config.router.granularity,
        "experts_sha256": experts_sha256,
    }
    with atomic_write(join(directory, ADAPTER_CONFIG), "w") as file:
        json.dump(fields, file, indent=2, allow_nan=False)
    experts, weights = os.path.join(place, experts_file), os.path.join(place, ADAPTER_WEIGHTS)
    temporary = os.path.join(place, f".{ADAPTER_WEIGHTS}.{experts_sha256[:8]}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        os.link(experts, temporary)  # no second copy of what may be gigabytes
    except OSError:  # a file system without hard links
        shutil.copyfile(experts, temporary)
    os.replace(temporary, weights)


def _peft_name(name: str) -> str:
    module, _, letter = name.rpartition(".")
    return f"{_PREFIX}{module}.{_LETTERS[letter]}"
