"""Models from a directory or the hub: safetensors weights, and code that transformers ships."""

from polyprag.pretrained.loading import (
    LOAD_ERRORS,
    load_model,
    read_config,
    read_tokenizer,
    source_of,
)
from polyprag.pretrained.unusable import UnusableModelError
from polyprag.pretrained.where import TINY_BASE, located

__all__ = [
    "LOAD_ERRORS",
    "TINY_BASE",
    "UnusableModelError",
    "load_model",
    "located",
    "read_config",
    "read_tokenizer",
    "source_of",
]
