"""Which model it is: by its weights, its tokenizer and the settings that decide what it computes.

Config files are saved anew by each version of transformers, in other words and another order, and
say nothing of the weights. So a model is known by the names, dtypes, shapes and a sample of the
bytes of its tensors, read straight from its files: some 5 MB of a model of 8B.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from polyprag.pretrained.files import (
    CONFIG,
    WEIGHTS_INDEX,
    WHOLE_WEIGHTS,
    shards_in,
    tensors_in,
    weight_files,
)
from polyprag.pretrained.gguf_model import directory_or_name
from polyprag.pretrained.hub import samples_on_hub
from polyprag.pretrained.tensors import TensorEntry, read_sample

# What some versions save though the config decides it.
_COMPUTED = (".rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias", ".attention.masked_bias")
_HEAD = "lm_head.weight"  # saved by some versions where it is the embeddings over again

# Settings that change no output, or that the weights, the tokenizer or a run's settings decide.
_INDIFFERENT = frozenset(
    (
        "architectures",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "decoder_start_token_id",
        "dtype",
        "eos_token_id",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "max_position_embeddings",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_size",
    )
)
_INDIFFERENT_SECTIONS = ("id2label", "label2id", "quantization_config", "task_specific_params")
_LONGEST_SETTING = 4096  # entries of a list

# Together they touch what tokenizers differ in: cases, marks, spaces, digits, scripts, code.
_PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "  two  spaces\tand\n\nlines \r\n",
    "Ünïcödé, naïve café; e\u0301 against \u00e9, \ufb01 \u00bd \u2460",
    "0123456789 3.14159 1,000,000 2024-12-31 50%",
    "don't WON'T I'll iPhone camelCase snake_case",
    "def f(x): return {'a': x**2}  # <b>&amp;</b> https://x.org/?q=1",
    "Привет мир, γεια, שלום, مرحبا, नमस्ते, สวัสดี, 你好世界, こんにちは, 한국어",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2014 \u201cquoted\u201d \u2026",
    "Question: Who?\nAnswer: Nobody",
    "",
)


def weights_digest(path: str, *, revision: str | None = None) -> str | None:
    """Returns a SHA-256 that stands for a model's weights, whatever files they lie in.

    Args:
        path: a directory, the model that comes with polyprag, or a hub name.
        revision: of a hub name.

    Returns:
        None for a hub name whose weights aren't in the hub's cache on this machine, where the hub
        doesn't give parts of them either.

    Raises:
        UnusableModelError: files are missing or damaged.
    """
    directory = _directory_of(path, revision)
    if directory is not None:
        samples: Iterable[tuple[str, TensorEntry, bytes]] | None = _samples_in(directory)
    else:
        name = directory_or_name(path)
        samples = samples_on_hub(name, revision, index=_cached(name, WEIGHTS_INDEX, revision))
    if samples is None:
        return None
    told = {
        name: f"{entry.dtype} {entry.shape} {hashlib.sha256(sample).hexdigest()}"
        for name, entry, sample in samples
    }
    return _digest(sorted(_kept(told)))


def tokenizer_digest(tokenizer: Any) -> str:
    """Returns a SHA-256 that stands for how a tokenizer makes ids of texts.

    Of its vocabulary, merges and special tokens, and of the ids of some texts, in which differences
    of normalisation and splitting show. Padding and truncation aren't in it.
    """
    told = [
        sorted(tokenizer.get_vocab().items()),
        [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id],
        [_ids(tokenizer, text, special=special) for text in _PROBES for special in (True, False)],
        _merges(tokenizer),
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def template_digest(tokenizer: Any) -> str | None:
    """Returns the SHA-256 of a tokenizer's chat template; None where it has none."""
    template = tokenizer.chat_template
    if not template:
        return None
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()


def deciding_settings(config: Any) -> dict[str, Any]:
    """Returns the settings of a model that decide what its weights compute, by dotted key.

    Such as the heads' number, which no shape tells, and the base of rotary positions. A version of
    transformers may know more of them than another: only those that both know can be compared.

    Args:
        config: as transformers read it.
    """
    values = config.get_text_config().to_dict()
    return dict(sorted(_flat(values, prefix="")))


def config_file(path: str, *, revision: str | None = None) -> str:
    """Returns where a model's config.json lies on this machine.

    Raises:
        OSError: it isn't there.
    """
    from transformers.utils.hub import cached_file

    found = directory_or_name(path)
    is_local = os.path.isdir(found)
    file = cached_file(
        found, CONFIG, revision=None if is_local else revision, local_files_only=True
    )
    if file is None:
        raise OSError(f"{found} has no {CONFIG}")
    return str(file)


def _flat(values: dict[str, Any], *, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if not isinstance(key, str) or key in _INDIFFERENT or key in _INDIFFERENT_SECTIONS:
            continue
        if key.startswith("_") or "dropout" in key or "implementation" in key:
            continue
        if isinstance(value, dict):
            yield from _flat(value, prefix=f"{prefix}{key}.")
        elif _is_plain(value) or (
            isinstance(value, list)
            and len(value) <= _LONGEST_SETTING
            and all(map(_is_plain, value))
        ):
            yield f"{prefix}{key}", value


def _is_plain(value: Any) -> bool:
    """Whether a manifest can hold it; JSON has no infinity."""
    is_number = isinstance(value, int) and abs(value) < 2**63
    is_finite = isinstance(value, float) and abs(value) < float("inf")
    return isinstance(value, str | bool) or is_number or is_finite


def _samples_in(directory: Path) -> Iterator[tuple[str, TensorEntry, bytes]]:
    """Yields every tensor of a directory's files with its sampled bytes, file by file."""
    by_file: dict[Path, list[tuple[str, TensorEntry]]] = {}
    for name, (file, entry) in tensors_in(weight_files(directory)).items():
        by_file.setdefault(file, []).append((name, entry))
    for file, entries in by_file.items():
        with open(file, "rb") as opened:
            for name, entry in entries:
                yield name, entry, read_sample(opened, entry)


def _directory_of(path: str, revision: str | None) -> Path | None:
    """Returns the directory with all of a model's weights; None where they have to be fetched."""
    found = directory_or_name(path)
    if os.path.isdir(found):
        return Path(found)
    whole = _cached(found, WHOLE_WEIGHTS, revision)
    if whole is not None:
        return whole.parent
    index = _cached(found, WEIGHTS_INDEX, revision)
    if index is None or not all((index.parent / name).exists() for name in shards_in(index)):
        return None
    return index.parent


def _cached(name: str, file: str, revision: str | None) -> Path | None:
    """Returns a file of a hub name, if it is in the hub's cache on this machine."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(name, file, revision=revision, local_files_only=True)
    except OSError:
        return None
    return None if path is None else Path(path)


def _kept(told: dict[str, str]) -> Iterator[str]:
    """Yields a line a tensor, without those that say nothing more."""
    for name, line in told.items():
        if name.endswith(_COMPUTED):
            continue
        is_head = name == _HEAD or name.endswith(f".{_HEAD}")
        if is_head and any(line == other for n, other in told.items() if n != name):
            continue
        yield f"{name} {line}"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special)["input_ids"])


def _merges(tokenizer: Any) -> Any:
    """Returns what else decides the splitting, in one form: versions write it differently."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    model = json.loads(backend.to_str())["model"]
    if model.get("type") == "Unigram":
        return [[token, round(score, 6)] for token, score in model["vocab"]]
    merges = model.get("merges") or []
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
