"""The files of a model, as far as they can be judged without loading it: there, whole and bounded.

Nothing here imports transformers or PyTorch, so that a command can look at a directory at once.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from polyprag.pretrained.gguf_header import read_header
from polyprag.pretrained.settings import check_settings
from polyprag.pretrained.tensors import TensorEntry, tensors_of
from polyprag.pretrained.unusable import UnusableModelError
from polyprag.pretrained.where import is_gguf, located

CONFIG = "config.json"
WHOLE_WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
# Far above what any model has; larger ones take time and memory before they are refused.
_MOST_BYTES = {CONFIG: 8 << 20, WEIGHTS_INDEX: 64 << 20, ADAPTER: 8 << 20}
_MOST_TOKENIZER_BYTES = 256 << 20
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5")


def check_model_files(path: str) -> None:
    """Refuses a directory or GGUF file that can't be a model, without loading it; hub names pass.

    Args:
        path: a directory, a GGUF file, the model that comes with polyprag, or a hub name, which
            isn't asked.

    Raises:
        UnusableModelError: it isn't there, is an adapter, or a file of it is missing or damaged.
    """
    found = located(path)
    if is_gguf(found):
        read_header(Path(found))
    if not os.path.isdir(found):
        return
    directory = Path(found)
    refuse_adapter(directory)
    settings_in(directory)
    check_tokenizer_files(directory)
    for file in weight_files(directory):
        tensors_of(file)


def check_tokenizer_files(directory: Path) -> None:
    """Refuses files of a tokenizer that are no files, or so large that reading them never ends."""
    names = [entry for entry in os.listdir(directory) if not entry.endswith(".safetensors")]
    for name in names:
        file = directory / name
        if file.is_dir():
            continue
        if not file.is_file():  # a pipe, which a reader would wait for
            raise UnusableModelError(f"{file} isn't a file")
        is_read = name.endswith((".json", ".txt", ".model", ".jinja"))
        if is_read and file.stat().st_size > _MOST_TOKENIZER_BYTES:
            raise UnusableModelError(
                f"{file} has {file.stat().st_size:,} bytes, and no tokenizer's file needs more "
                f"than {_MOST_TOKENIZER_BYTES:,}"
            )


def refuse_adapter(directory: Path) -> None:
    """Refuses a directory with PEFT's adapter: transformers would load the base that it names.

    Raises:
        UnusableModelError: says so, and names that base.
    """
    file = directory / ADAPTER
    if not file.exists():
        return
    base = _json_of(file).get("base_model_name_or_path")
    named = f"its base, {base!r}" if isinstance(base, str) and base else "its base model"
    has_model = (directory / CONFIG).is_file()
    remedy = f"delete {ADAPTER} to use the model beside it, or take" if has_model else "take"
    raise UnusableModelError(
        f"it is an adapter ({file}), not a whole model: {remedy} {named}, or merge the two with "
        "PEFT's merge_and_unload and save the result by save_pretrained"
    )


def settings_in(directory: Path) -> dict[str, Any]:
    """Returns what config.json holds, once nothing in it is odd.

    Raises:
        UnusableModelError: it is missing, damaged or too large, or `check_settings` refuses it.
    """
    file = directory / CONFIG
    if not file.exists():
        raise UnusableModelError(
            f"{directory} has no config.json: a model's directory has config.json, the tokenizer's "
            "files and weights as .safetensors"
        )
    settings = _json_of(file)
    check_settings(settings, where=str(file))
    return settings


def weight_files(directory: Path) -> list[Path]:
    """Returns a model's safetensors files, all of which are there.

    Raises:
        UnusableModelError: one is missing, isn't a file, or lies elsewhere; there are none.
    """
    whole, index = directory / WHOLE_WEIGHTS, directory / WEIGHTS_INDEX
    if whole.exists():
        files = [whole]
    elif index.exists():
        files = [directory / name for name in shards_in(index)]
    else:
        raise UnusableModelError(f"{directory} has no weights as .safetensors{_other(directory)}")
    for file in files:
        if not file.exists():
            raise UnusableModelError(f"{file}: no such file; copy all of the model's files again")
        if not file.is_file():
            raise UnusableModelError(f"{file} isn't a file")
    return files


def shards_in(index: Path) -> list[str]:
    """Returns the files that model.safetensors.index.json names, sorted.

    Raises:
        UnusableModelError: it is damaged, or names a file outside of its own directory.
    """
    weight_map = _json_of(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnusableModelError(f"{index}: weight_map must say which file has which tensor")
    names = {name if isinstance(name, str) else repr(name) for name in weight_map.values()}
    for name in sorted(names):
        if not _SHARD.fullmatch(name):
            raise UnusableModelError(
                f"{index}: weight_map names {name!r}, which isn't a .safetensors file beside it"
            )
    return sorted(names)


def tensors_in(files: list[Path]) -> dict[str, tuple[Path, TensorEntry]]:
    """Returns every tensor of a model's files by name, with the file that it is in.

    Raises:
        UnusableModelError: a file's header can't be, or two files have a tensor of one name.
    """
    found: dict[str, tuple[Path, TensorEntry]] = {}
    for file in files:
        for name, entry in tensors_of(file).items():
            if name in found:
                raise UnusableModelError(f"{file} and {found[name][0]} both have {name!r}")
            found[name] = file, entry
    return found


def _other(directory: Path) -> str:
    """Returns what to do with weights of another format; empty where there are none."""
    names = os.listdir(directory)
    gguf = sorted(name for name in names if is_gguf(str(directory / name)))
    if gguf:
        return f", only GGUF: name the file instead, {directory / gguf[0]}"
    if any(name in _PICKLED for name in names):
        return (
            ", only others, which may hold any code: if you trust them, load the model with "
            "transformers once and save it by save_pretrained"
        )
    return ""


def _json_of(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UnusableModelError(f"{file} isn't a file")
    try:
        size, most = file.stat().st_size, _MOST_BYTES[file.name]
        if size > most:
            raise UnusableModelError(f"{file} has {size:,} bytes, more than {most:,}")
        # As transformers reads it: some models' configs hold Infinity, which `decode` refuses.
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise UnusableModelError(f"{file} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnusableModelError):
            raise
        raise UnusableModelError(f"{file} isn't JSON: {error}") from error
    if not isinstance(values, dict):
        raise UnusableModelError(f"{file} must hold one JSON object")
    return values
