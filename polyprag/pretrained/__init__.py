"""Models from a directory, a GGUF file or the hub, with code that transformers ships."""

from polyprag.pretrained.loading import (
    load_model,
    read_config,
    read_tokenizer,
    source_of,
)
from polyprag.pretrained.unusable import LOAD_ERRORS, UnusableModelError
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
