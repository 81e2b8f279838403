"""The one text layout that base training, encoding and answering share.

Plain:  `Passage: {title}. {text}\\n` for each passage, `Question: {question}\\nAnswer:`, then
` {answer}` and EOS. Chat: the same prompt as a user message in the tokenizer's own template, then
`{answer}` and EOS. What is trained and what is asked must agree to the token, so nothing else in
the project writes prompt text.
"""

from collections.abc import Sequence
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from polyprag.errors import ConfigError


class TitledText(Protocol):
    """Anything with a title and a text, such as `sharding.corpus.passages.Passage`."""

    @property
    def title(self) -> str:
        """The title; may be empty."""

    @property
    def text(self) -> str:
        """The text."""


def one_line(text: str) -> str:
    """Returns `text` with every run of whitespace made one space, and none at the ends."""
    return " ".join(text.split())


def passage_block(title: str, text: str) -> str:
    """Returns `Passage: {title}. {text}` and a newline; an empty title is left out."""
    title, text = one_line(title), one_line(text)
    return f"Passage: {title}. {text}\n" if title else f"Passage: {text}\n"


def qa_prompt(question: str, passages: Sequence[TitledText] = ()) -> str:
    """Returns the plain prompt: the passages' blocks, the question, and `Answer:` at the end."""
    blocks = "".join(passage_block(passage.title, passage.text) for passage in passages)
    return f"{blocks}Question: {one_line(question)}\nAnswer:"


def completion(answer: str, *, chat: bool = False) -> str:
    """Returns what follows the prompt, without EOS: ` {answer}`, in a chat turn `{answer}`."""
    return one_line(answer) if chat else f" {one_line(answer)}"


def uses_chat(tokenizer: PreTrainedTokenizerBase, style: str) -> bool:
    """Tells whether `generation.prompt=style` means the chat layout for this tokenizer.

    Args:
        tokenizer: the base model's tokenizer.
        style: `plain`, `chat`, or `auto` (chat where the tokenizer has a template).

    Returns:
        True for chat.

    Raises:
        ConfigError: `chat` was asked for and the tokenizer has no template.
    """
    has_template = bool(tokenizer.chat_template)
    if style == "chat" and not has_template:
        raise ConfigError(
            f"generation.prompt='chat' can't be used: the tokenizer of "
            f"{tokenizer.name_or_path!r} has no chat template; use generation.prompt=plain"
        )
    return style == "chat" or (style == "auto" and has_template)


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    *,
    passages: Sequence[TitledText] = (),
    chat: bool = False,
) -> str:
    """Returns the prompt text up to where the answer starts.

    Args:
        tokenizer: used for its chat template only.
        question: the question.
        passages: shown before the question, in this order.
        chat: put the plain prompt into a user message of the chat template.
    """
    plain = qa_prompt(question, passages)
    if not chat:
        return plain
    message = [{"role": "user", "content": plain}]
    return str(tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, *, chat: bool = False) -> list[int]:
    """Returns the prompt's token ids, with BOS where the tokenizer puts one and never with EOS.

    A chat template writes its own BOS, so special tokens are added to plain prompts only.
    """
    return all_prompt_ids(tokenizer, [prompt], chat=chat)[0]


def all_prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, chat: bool = False
) -> list[list[int]]:
    """Returns `prompt_ids` of each prompt, by one call of the tokenizer."""
    if not prompts:
        return []
    encoded = tokenizer(list(prompts), add_special_tokens=not chat)["input_ids"]
    eos = None if chat else tokenizer.eos_token_id
    return [list(ids[:-1] if ids and ids[-1] == eos else ids) for ids in encoded]


def all_completion_ids(
    tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], *, chat: bool = False
) -> list[list[int]]:
    """Returns the token ids of each answer as it follows its prompt, ended by EOS.

    The tokenizer is called once for all of them.
    """
    if not answers:
        return []
    texts = [completion(answer, chat=chat) for answer in answers]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [[*ids, int(tokenizer.eos_token_id)] for ids in encoded]
