"""Texts and pairs of texts as an encoder or a reranker reads them, special tokens being text."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from polyprag.tokens.control_tokens import control_tokens


class PairTokenizer:
    """An encoder's tokenizer, which puts its special tokens around texts and finds none in them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
        """Tokenises nothing yet.

        Args:
            tokenizer: the encoder's.
            max_length: tokens of a text, or of a pair of texts, all in all.
        """
        self._tokenizer: Any = tokenizer
        self._max_length = max_length
        self._controls = {control.id for control in control_tokens(tokenizer).values()}

    def tokens(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> list[tuple[list[int], list[int]]]:
        """Returns of each text its token ids, and which of a pair's two texts each token is of.

        What reads like a special token is letters, or is left out where the vocabulary gives that
        token to such letters.

        Args:
            texts: from anywhere.
            pairs: a second text for each, put after it as the tokenizer joins two. Of two that are
                too long together, the longer one loses its end.
        """
        encoded = self._tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation="longest_first",
            max_length=self._max_length,
            split_special_tokens=True,
            return_token_type_ids=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            verbose=False,
        )
        names = ("input_ids", "token_type_ids", "special_tokens_mask")
        found = []
        for ids, kinds, own in zip(*(encoded[name] for name in names), strict=True):
            kept = [n for n, i in enumerate(ids) if own[n] or i not in self._controls]
            found.append(([ids[n] for n in kept], [kinds[n] for n in kept]))
        return found
