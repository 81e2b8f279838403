"""The tokens of a tokenizer that no text may have."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase


class ControlToken(NamedTuple):
    """A special token, and whether it takes the spaces beside it."""

    id: int
    takes_left: bool
    takes_right: bool


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, ControlToken]:
    """Returns the tokens that text may not have, by how they read.

    They are the special tokens, and those in the chat template that aren't declared special, such
    as `<think>`. Added tokens of nothing but spaces are ordinary, and so is the unknown token: a
    text has it wherever the vocabulary lacks a character.
    """
    template = str(tokenizer.chat_template or "")
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    found = {content: ControlToken(i, False, False) for content, i in special.items()}
    for i, token in tokenizer.added_tokens_decoder.items():
        if token.special or token.content in special or token.content in template:
            found[token.content] = ControlToken(i, token.lstrip, token.rstrip)
    unknown = tokenizer.unk_token_id
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    return {
        content: control
        for content, control in found.items()
        if content.strip() and (control.id != unknown or unknown in ends)
    }
