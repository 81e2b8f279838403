"""Texts that a tokenizer can't represent: most of their tokens are unknown, or there is none.

A model gives them a vector nevertheless, and much the same one to all of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


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
