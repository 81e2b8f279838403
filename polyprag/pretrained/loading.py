"""Loading models and tokenizers: every library's error about them as one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyprag.pretrained.files import (
    ADAPTER,
    CONFIG,
    WEIGHTS_INDEX,
    check_tokenizer_files,
    refuse_adapter,
    settings_in,
    shards_in,
    tensors_in,
    weight_files,
)
from polyprag.pretrained.gguf_model import directory_or_name
from polyprag.pretrained.skeleton import skeleton_of
from polyprag.pretrained.unusable import UnusableModelError, told_in_one_line

_MUCH_LARGER = 16  # numbers of a model for each in its files: 4-bit weights come eight to an int32


def source_of(path: str, *, revision: str | None = None) -> dict[str, Any]:
    """Returns the arguments of any `from_pretrained` that say where from, but for the name itself.

    Args:
        path: a directory, which never makes a call to the hub, or a hub name.
        revision: of a hub name.
    """
    is_local = os.path.isdir(directory_or_name(path))
    return {
        "revision": None if is_local else revision,
        "local_files_only": is_local,
        "trust_remote_code": False,
    }


def read_config(path: str, *, revision: str | None = None) -> Any:
    """Returns a model's config as transformers reads it, once nothing in it is odd.

    Args:
        path: a directory, the model that comes with polyprag, or a hub name.
        revision: of a hub name.

    Raises:
        LOAD_ERRORS: it isn't there, or can't be.
    """
    from transformers import AutoConfig

    found = directory_or_name(path)
    _looked_at(found, revision)
    with told_in_one_line():
        return AutoConfig.from_pretrained(found, **source_of(path, revision=revision))


def read_tokenizer(path: str, *, revision: str | None = None) -> Any:
    """Returns a model's tokenizer as transformers loads it.

    Args:
        path: a directory, the model that comes with polyprag, or a hub name.
        revision: of a hub name.

    Raises:
        LOAD_ERRORS: it isn't there, or can't be.
    """
    from transformers import AutoTokenizer

    found = directory_or_name(path)
    if os.path.isdir(found):
        check_tokenizer_files(_looked_at(found, revision))
    with told_in_one_line():
        return AutoTokenizer.from_pretrained(found, **source_of(path, revision=revision))


def load_model(
    kind: Any, path: str, *, revision: str | None = None, **options: Any
) -> tuple[Any, list[str]]:
    """Loads a model.

    Args:
        kind: a model class, or an AutoModel.
        path: a directory, the model that comes with polyprag, or a hub name.
        revision: of a hub name.
        options: further arguments of `from_pretrained`.

    Returns:
        The model, and the sorted names of the weights that its files lack or have in another shape:
        transformers fills these with random numbers after a mere warning.

    Raises:
        LOAD_ERRORS: it can't be loaded.
    """
    from transformers.utils import logging as hf_logging

    found = directory_or_name(path)
    config = options.pop("config", None) or read_config(path, revision=revision)
    check_size(skeleton_of(kind, config), path)
    if os.path.isdir(found):  # where a bar would go over the tensors of a file or two
        hide_bar: Callable[[], None] = hf_logging.disable_progress_bar
        hide_bar()
    with told_in_one_line():
        model, info = kind.from_pretrained(
            found,
            config=config,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that they are reported
            output_loading_info=True,
            **source_of(path, revision=revision),
            **options,
        )
    mismatched = (str(name[0]) for name in info["mismatched_keys"])
    return model, sorted({*info["missing_keys"], *mismatched})


def check_size(skeleton: Any, path: str) -> None:
    """Refuses a directory whose config makes a model far larger than its files are.

    Args:
        skeleton: see `skeleton_of`.
        path: a directory, the model that comes with polyprag, or a hub name, which passes.

    Raises:
        UnusableModelError: says how large both are.
    """
    directory = Path(directory_or_name(path))
    if not directory.is_dir():
        return
    there = sum(entry.num_elements for _, entry in tensors_in(weight_files(directory)).values())
    wanted = sum(parameter.numel() for parameter in skeleton.parameters())
    if wanted > _MUCH_LARGER * there:
        raise UnusableModelError(
            f"{directory / CONFIG} describes a model of {wanted:,} numbers, and its files hold "
            f"{there:,}; copy the model again, config.json and all of its .safetensors files"
        )


def _looked_at(found: str, revision: str | None) -> Path:
    """Returns the directory of a model's small files, none of which says what can't be.

    Those of a hub name are fetched into the hub's cache, without the weights.
    """
    directory = Path(found)
    if not directory.is_dir():
        from transformers.utils.hub import cached_file

        def fetch(name: str, *, must_be: bool) -> str | None:
            options = {"_raise_exceptions_for_missing_entries": must_be}
            with told_in_one_line():
                return cached_file(found, name, revision=revision, **options)

        adapter = fetch(ADAPTER, must_be=False)
        if adapter is not None:
            refuse_adapter(Path(adapter).parent)
        directory = Path(str(fetch(CONFIG, must_be=True))).parent
        fetch(WEIGHTS_INDEX, must_be=False)
    refuse_adapter(directory)
    settings_in(directory)
    if (directory / WEIGHTS_INDEX).exists():
        shards_in(directory / WEIGHTS_INDEX)
    return directory
