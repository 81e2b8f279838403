"""The text layout, letter by letter: base models are trained on it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from polyprag.config import GenerationConfig
from polyprag.errors import ConfigError
from polyprag.method.prompts import (
    PromptTokenizer,
    completion,
    passage_block,
    qa_prompt,
    uses_chat,
)

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MakeTokenizer = Callable[[], PreTrainedTokenizerBase]


@dataclass
class Text:
    title: str
    text: str


def test_plain_layout_to_the_letter() -> None:
    passages = [Text("Ada  Lovelace", "Ada was\n a  mathematician. "), Text("", "No title.")]
    assert qa_prompt(" Who was\tAda? ", passages) + completion(" a mathematician\n") == (
        "Passage: Ada Lovelace. Ada was a mathematician.\n"
        "Passage: No title.\n"
        "Question: Who was Ada?\n"
        "Answer: a mathematician"
    )
    assert qa_prompt("Who?") == "Question: Who?\nAnswer:"
    assert passage_block("T", "x") == "Passage: T. x\n"


def test_chat_layout_is_the_plain_prompt_as_a_user_message(
    make_byte_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    prompts = PromptTokenizer(tokenizer, GenerationConfig(instruction="Be brief."))
    (ids,) = prompts.prompt_ids([qa_prompt("Who?", [Text("T", "x")])])
    assert (
        tokenizer.decode(ids)
        == "<|system|>Be brief.<|user|>Passage: T. x\nQuestion: Who?\nAnswer:<|assistant|>"
    )
    assert completion("Ada", chat=True) == "Ada"


def test_style_auto_follows_the_template_and_chat_needs_one(
    make_byte_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_byte_tokenizer()
    assert not uses_chat(tokenizer, "auto") and not uses_chat(tokenizer, "plain")
    with pytest.raises(ConfigError, match=r"generation\.prompt"):
        uses_chat(tokenizer, "chat")
    tokenizer.chat_template = CHAT_TEMPLATE
    assert uses_chat(tokenizer, "auto") and uses_chat(tokenizer, "chat")
    assert not uses_chat(tokenizer, "plain")


def test_ids_of_prompt_and_completion_join_to_the_ids_of_the_whole(
    make_byte_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_byte_tokenizer()
    prompts, prompt = PromptTokenizer(tokenizer), qa_prompt("Who?")
    joined = prompts.prompt_ids([prompt])[0] + prompts.completion_ids(["Ada"])[0]
    assert joined == [*tokenizer(f"{prompt} Ada")["input_ids"], tokenizer.eos_token_id]


def test_bos_comes_once_and_a_prompt_never_ends_with_eos(
    make_byte_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_byte_tokenizer()
    eos, bos = tokenizer.eos_token_id, tokenizer.pad_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<pad> $A <eos>", special_tokens=[("<eos>", eos), ("<pad>", bos)]
    )
    prompts = PromptTokenizer(tokenizer)
    for ids in (*prompts.prompt_ids([qa_prompt("Who?")]), *prompts.plain_ids(["A text."])):
        assert ids[0] == bos and ids.count(bos) == 1 and eos not in ids
    (answer,) = prompts.completion_ids(["Ada"])
    assert answer.count(eos) == 1 and bos not in answer
    tokenizer.chat_template = CHAT_TEMPLATE
    chat = PromptTokenizer(tokenizer)
    assert bos not in chat.prompt_ids([qa_prompt("Who?")])[0], "the template writes its own"
    assert bos not in chat.completion_ids(["Ada"])[0]
    assert chat.plain_ids(["A text."])[0][0] == bos


@pytest.mark.parametrize(
    ("template", "beginning"),
    [
        (CHAT_TEMPLATE, "<|system|>Be brief.<|user|>"),
        (  # without system messages
            "<s>{% for m in messages %}{% if m['role'] == 'system' %}"
            "{{ raise_exception('none') }}{% endif %}[{{ m['content'] }}]{% endfor %}",
            "<s>[Be brief.\n\n",
        ),
    ],
)
def test_what_every_prompt_begins_with(
    make_byte_tokenizer: MakeTokenizer, template: str, beginning: str
) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = template
    config = GenerationConfig(instruction="Be brief.")
    prompts = PromptTokenizer(tokenizer, config, skip_prefix=True)
    skipped = prompts.skipped_ids
    assert tokenizer.decode(skipped) == beginning
    for text in (qa_prompt("Who?"), qa_prompt("", [Text("T", "x")]), "zed", "ab"):
        (ids,) = prompts.prompt_ids([text])
        assert tuple(ids[: len(skipped)]) == skipped
    assert PromptTokenizer(tokenizer, config).skipped_ids == (), "where experts act on all"
    plain = PromptTokenizer(tokenizer, GenerationConfig(prompt="plain"), skip_prefix=True)
    assert plain.skipped_ids == ()
