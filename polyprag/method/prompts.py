"""The one text layout that base training, encoding and answering share.

Plain:  `Passage: {title}. {text}\\n` for each passage, `Question: {question}\\nAnswer:`, then
` {answer}` and EOS. Chat: the same prompt as a user message in the tokenizer's own template, with
`generation.instruction` as the system message, then `{answer}` and EOS. What is trained and what is
asked must agree to the token, so nothing else in the project writes prompt text.
"""

from collections.abc import Sequence
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from polyprag.config import GenerationConfig
from polyprag.errors import ConfigError
from polyprag.tokens.chat_template import chat_markup
from polyprag.tokens.text_tokens import TextTokenizer

_PROMPT_END = "Answer:"
_DEFAULTS = GenerationConfig()


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
    return f"{blocks}Question: {one_line(question)}\n{_PROMPT_END}"


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


class PromptTokenizer:
    """Prompts, plain passages and completions as token ids, in the layout of one base model.

    Special tokens in questions, passages and answers are text. Several threads may use it at once.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: GenerationConfig = _DEFAULTS
    ) -> None:
        """Asks the chat template, where there is one in use, what it writes around a message.

        Args:
            tokenizer: the base model's.
            config: `prompt`, `date`, `thinking` and `instruction`, as the encoding was trained
                with.

        Raises:
            ConfigError: there is no chat template where one is asked for, or it can't be used.
        """
        self.chat = uses_chat(tokenizer, config.prompt)
        self._eos_id = int(tokenizer.eos_token_id)
        self._plain = TextTokenizer(tokenizer)
        markup: tuple[str, ...] = ()
        if self.chat:
            self._refuse_special_tokens(config.instruction)
            markup = chat_markup(
                tokenizer,
                date=config.date,
                thinking=config.thinking,
                instruction=config.instruction,
            )
        self._asking = TextTokenizer(tokenizer, markup=markup) if markup else self._plain
        self._prompt_end = _PROMPT_END + (markup[-1] if markup else "")

    def _refuse_special_tokens(self, instruction: str) -> None:
        """Refuses an instruction that would end its turn or begin another."""
        if self._plain.has_control(instruction):
            raise ConfigError(
                "generation.instruction can't hold what this model's tokenizer takes for a special "
                f"token: {instruction[:100]!r}"
            )

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each `qa_prompt` up to where the answer starts.

        In the plain layout they begin with BOS where the tokenizer puts one, and never end with
        EOS. A chat template writes its own BOS.
        """
        return self._asking.ids(prompts)

    def plain_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of texts without a question, never in a chat turn, and without EOS."""
        return self._plain.ids(texts)

    def completion_ids(self, answers: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each answer as it follows its prompt, ended by EOS."""
        texts = [completion(answer, chat=self.chat) for answer in answers]
        found = self._asking.continuations(texts, after=self._prompt_end)
        return [[*ids, self._eos_id] for ids in found]
