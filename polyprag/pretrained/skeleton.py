"""A model without its weights, which says what a config makes before anything is read for it."""

from collections.abc import Callable
from typing import Any

from polyprag.pretrained.unusable import told_in_one_line


def skeleton_of(kind: Any, config: Any) -> Any:
    """Returns a model without weights, on PyTorch's `meta` device: shapes and names alone.

    Args:
        kind: a model class, or an AutoModel.
        config: of the model.

    Raises:
        UnusableModelError: no such model can be made of that config.
    """
    import torch

    make: Callable[..., Any] = getattr(kind, "from_config", None) or kind._from_config
    options = {"trust_remote_code": False} if hasattr(kind, "from_config") else {}
    with told_in_one_line(), torch.device("meta"):
        return make(config, **options)
