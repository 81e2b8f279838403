"""Which texts a tokenizer can't represent, with one that knows a few words."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from polyprag.errors import ConfigError
from polyprag.method.unknown_tokens import check_vocabulary, mostly_unknown


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = {"[UNK]": 0, "[CLS]": 1, "a": 2, "red": 3, "boat": 4}
    model = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        unk_token="[UNK]",
        cls_token="[CLS]",
        clean_up_tokenization_spaces=False,
    )


def test_more_than_half_unknown_or_nothing_at_all(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [[1, 2, 3], [1, 2, 0], [1, 2, 0, 0], [1], []]  # special tokens don't count
    assert mostly_unknown(tokenizer, ids).tolist() == [False, False, True, True, True]


def test_a_tokenizer_that_knows_every_byte_knows_all(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    known = make_byte_tokenizer()
    ids = known(["दिल्ली", "北京"], add_special_tokens=False)["input_ids"]
    assert not mostly_unknown(known, ids).any()


def test_a_few_unreadable_passages_are_told_of_and_nothing_else_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    said: list[str] = []
    texts = {"k0": "a red boat", "k1": "एक लाल नाव"}
    check_vocabulary(tokenizer, texts, where="model.path='m'", say=said.append)
    assert len(said) == 1 and "1 of 2" in said[0] and "'k1' ('एक लाल नाव')" in said[0]
    check_vocabulary(tokenizer, {"k0": "a red boat"}, where="m", say=said.append)
    assert len(said) == 1
    del texts["k0"]
    with pytest.raises(ConfigError, match="its tokenizer knows hardly"):
        check_vocabulary(tokenizer, texts, where="model.path='m'", say=said.append)
