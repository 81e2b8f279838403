"""A GGUF file as a directory with config.json, tokenizer and safetensors weights, made once.

transformers takes GGUF by dequantising it, at every load anew and for the config and the tokenizer
again: 19 s for a model of 135M, in every worker, against 1 s for what was converted. So a file is
converted when it is first used, into a cache of this machine, and is a model's directory like any
other from then on. The numbers are those of transformers, in fp32.
"""

import functools
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

from polyprag.pretrained.files import settings_in, weight_files
from polyprag.pretrained.gguf_header import GGUFHeader, read_header
from polyprag.pretrained.settings import check_settings
from polyprag.pretrained.skeleton import skeleton_of
from polyprag.pretrained.tensors import tensors_of
from polyprag.pretrained.unusable import UnusableModelError, in_one_line
from polyprag.pretrained.where import is_gguf, located
from sharding.storage.cache import LocalCache, default_cache_dir

_LOG = logging.getLogger(__name__)

_FORM = 1  # of what is converted; raised when that changes
_MAX_BYTES = 100 * 10**9  # of all conversions that aren't in use
_BLOCK, _NUM_BLOCKS = (
    1 << 16,
    64,
)  # bytes that tell a file from others: the ends, and evenly between
_FP32 = 4  # bytes of a number
_FAR_MORE = 2  # numbers of a model for each in its file


def directory_or_name(path: str) -> str:
    """Returns the directory that a model's path means, or the hub name that it is.

    Args:
        path: a directory, a GGUF file, which is converted where that wasn't done yet, the model
            that comes with polyprag, or a hub name.

    Raises:
        UnusableModelError: as of `located` and `converted`.
    """
    found = located(path)
    return str(converted(Path(found))) if is_gguf(found) else found


def converted(file: Path) -> Path:
    """Returns the directory that a GGUF file is converted to, which is made where it isn't there.

    Processes that ask at the same time wait for the first of them.

    Args:
        file: the GGUF file.

    Raises:
        UnusableModelError: it isn't a whole GGUF file, is of an architecture or a quantisation that
            transformers can't read, or finds no room in the cache.
    """
    status = os.stat(file)
    return _converted(file.absolute(), status.st_size, status.st_mtime_ns, default_cache_dir())


@functools.lru_cache(maxsize=16)
def _converted(file: Path, size: int, changed: int, cache_dir: str) -> Path:
    """Returns the directory; a file that changes is looked at again."""
    header = read_header(file)
    try:
        return _cache(cache_dir).use_directory(
            _key(file, size, changed),
            is_sound=_is_sound,
            fill=functools.partial(_convert, file, header),
        )
    except OSError as error:
        raise UnusableModelError(
            f"what it is converted to can't be kept in {cache_dir} ({error.strerror or error}); "
            "make room, or set XDG_CACHE_HOME to a directory with room"
        ) from error


@functools.cache
def _cache(cache_dir: str) -> LocalCache:
    """Returns the cache of conversions, which holds what this process uses."""
    return LocalCache(Path(cache_dir) / "models", max_bytes=_MAX_BYTES)


def _key(file: Path, size: int, changed: int) -> str:
    """Returns what a file and the code that converts it are known by."""
    told = hashlib.sha256(
        f"{_FORM} {size} {changed} {version('transformers')} {version('gguf')}".encode()
    )
    with open(file, "rb") as opened:
        for number in range(_NUM_BLOCKS):
            opened.seek(max(0, size - _BLOCK) * number // (_NUM_BLOCKS - 1))
            told.update(opened.read(_BLOCK))
    return told.hexdigest()[:32]


def _is_sound(directory: Path) -> bool:
    try:
        settings_in(directory)
        for file in weight_files(directory):
            tensors_of(file)
    except UnusableModelError:
        return False
    return True


def _convert(file: Path, header: GGUFHeader, directory: Path) -> None:
    """Fills a directory with what a GGUF file holds."""
    from transformers.utils import logging as hf_logging

    num_bytes = _FP32 * header.num_elements
    free = shutil.disk_usage(directory).free
    if num_bytes > free:
        raise UnusableModelError(
            f"it is converted to {num_bytes:,} bytes once, and {directory.parent} has {free:,} "
            "left; make room, or set XDG_CACHE_HOME to a directory with room"
        )
    _LOG.info("converting %s to safetensors of %.1f GB, once", file, num_bytes / 1e9)
    hide_bars: Callable[[], None] = hf_logging.disable_progress_bar
    show_bars: Callable[[], None] = hf_logging.enable_progress_bar
    shows_bars = hf_logging.is_progress_bar_enabled()
    hide_bars()
    try:
        with redirect_stderr(io.StringIO()):  # where a bar goes that can't be hidden
            _save_as_safetensors(file, header, directory)
    except (MemoryError, UnusableModelError):
        raise
    except Exception as error:  # transformers and gguf raise what they happen to
        raise UnusableModelError(
            f"transformers can't read this GGUF file [{in_one_line(error)}]; take the model that "
            "it was made from (its name without -GGUF), or another quantisation, such as Q8_0"
        ) from error
    finally:
        if shows_bars:
            show_bars()
    for path in directory.iterdir():  # what a power cut left in part would be used
        with open(path, "rb") as opened:
            os.fsync(opened.fileno())


def _save_as_safetensors(file: Path, header: GGUFHeader, directory: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = str(file.parent)
    place: Any = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(source, **place)
    _check_config(file, config, header)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, **place)
    kind: Any = AutoModelForCausalLM  # which doesn't say that it may return two things
    model, info = kind.from_pretrained(
        source,
        config=config,
        dtype="float32",
        ignore_mismatched_sizes=True,  # so that they are reported
        output_loading_info=True,
        **place,
    )
    wrong = sorted({*info["missing_keys"], *(str(name[0]) for name in info["mismatched_keys"])})
    if wrong:
        raise UnusableModelError(
            f"{len(wrong)} of its weights are missing or of another shape than its metadata says, "
            f"such as {wrong[0]!r}; copy it again, or take another file of the model"
        )
    model.hf_quantizer = None  # which refuses to save, though the weights are plain numbers now
    del model.config.quantization_config
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _check_config(file: Path, config: Any, header: GGUFHeader) -> None:
    """Refuses what takes all memory before it is compared with the weights."""
    from transformers import AutoModelForCausalLM

    check_settings(json.loads(config.to_json_string(use_diff=False)), where=str(file))
    skeleton = skeleton_of(AutoModelForCausalLM, config)
    wanted = sum(parameter.numel() for parameter in skeleton.parameters())
    if wanted > _FAR_MORE * header.num_elements:
        raise UnusableModelError(
            f"its metadata describes a model of {wanted:,} numbers, and it holds "
            f"{header.num_elements:,}; copy it again"
        )
