"""Texts that a tokenizer can't represent: most of their tokens are unknown, or there is none.

A model gives them a vector nevertheless, and much the same one to all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError


def mostly_unknown(tokenizer: Any, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.bool_]:
    """Returns of which texts more than half of the tokens are unknown (n,), or there is none.

    Args:
        tokenizer: of transformers.
        ids: each text's token ids, with or without special ones, which don't count.
    """
    unknown = tokenizer.unk_token_id
    special = set(tokenizer.all_special_ids) - {unknown}
    if unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        unknown = None  # GPT-2's kind knows every byte, and names another token for form's sake
    found = []
    for each in ids:
        own = [token for token in each if token not in special]
        found.append(not own or 2 * own.count(unknown) > len(own))
    return np.array(found, bool)


def check_vocabulary(
    tokenizer: Any, texts: Mapping[str, str], *, where: str, say: Callable[[str], None]
) -> None:
    """Says which texts a model can't read, and refuses it where there is no other.

    Args:
        tokenizer: of transformers.
        texts: a sample of passages, by their keys.
        where: the config key of the model and its value.
        say: takes a sentence for the user.

    Raises:
        ConfigError: it can't read any of them.
    """
    keys = list(texts)
    if not keys:
        return
    ids = tokenizer(list(texts.values()), add_special_tokens=False, verbose=False)["input_ids"]
    unreadable = np.flatnonzero(mostly_unknown(tokenizer, ids)).tolist()
    if not unreadable:
        return
    key = keys[unreadable[0]]
    example = f"such as passage {key!r} ({texts[key][:40]!r})"
    if len(unreadable) == len(keys):
        raise ConfigError(
            f"{where} can't be used: its tokenizer knows hardly a letter of these passages' "
            f"script, {example}; take a model of their language"
        )
    say(
        f"the tokenizer of {where} knows hardly a letter of {len(unreadable)} of {len(keys)} "
        f"passages that were looked at, {example}: little can be learned of them"
    )
