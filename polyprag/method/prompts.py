"""The one text layout that base training, encoding and answering share.

Plain:  `Passage: {title}. {text}\\n` for each passage, `Question: {question}\\nAnswer:`, then
` {answer}` and EOS. Chat: the same prompt as a user message in the tokenizer's own template, with
`generation.instruction` as the system message, then `{answer}` and EOS. What is trained and what is
asked must agree to the token, so nothing else in the project writes prompt text.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple, Protocol

from transformers import PreTrainedTokenizerBase

from polyprag.config import GenerationConfig
from polyprag.errors import ConfigError
from polyprag.tokens.chat_template import chat_markup, conversation_markup
from polyprag.tokens.text_tokens import TextTokenizer

_PROMPT_END = "Answer:"
_BEGINNINGS = ("Question: a", "Passage: b", "c", "7", "(", "é")  # of what a user may say
_DEFAULTS = GenerationConfig()


ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """What somebody says in a conversation; `role` is one of `ROLES`."""

    role: str
    content: str


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


def _plain_conversation(messages: Sequence[Message]) -> str:
    *before, last = messages
    begins = {"user": "Question: ", "assistant": "Answer: "}
    lines = [f"{begins.get(each.role, '')}{one_line(each.content)}\n" for each in before]
    ends = last.content if last.content.endswith(_PROMPT_END) else qa_prompt(last.content)
    return "".join([*lines, ends])


def common_beginning(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Returns the tokens that all sequences begin with."""
    columns = zip(*sequences, strict=False)
    return [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, columns)]


def goes_on_from(prefix: Sequence[int], ids: Sequence[int]) -> bool:
    """Tells whether tokens begin with a prefix, and go on."""
    return len(ids) > len(prefix) and list(ids[: len(prefix)]) == list(prefix)


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

    Attributes:
        chat: whether prompts are chat turns.
        instruction: `generation.instruction`.
        skipped_ids: what all prompts begin with, where experts leave it alone.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: GenerationConfig = _DEFAULTS,
        *,
        skip_prefix: bool = False,
    ) -> None:
        """Asks the chat template, where there is one in use, what it writes around a message.

        Args:
            tokenizer: the base model's.
            config: `prompt`, `date`, `thinking` and `instruction`, as the encoding was trained
                with.
            skip_prefix: `experts.skip_prefix`, likewise.

        Raises:
            ConfigError: there is no chat template where one is asked for, or it can't be used.
        """
        self.chat = uses_chat(tokenizer, config.prompt)
        self._eos_id = int(tokenizer.eos_token_id)
        self.instruction = config.instruction
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
        self._tokenizer, self._config = tokenizer, config
        self._conversing = lru_cache(maxsize=64)(self._tokenizer_of)
        self._prompt_end = _PROMPT_END + (markup[-1] if markup else "")
        self.skipped_ids = self._beginning() if skip_prefix and self.chat else ()

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

    def _beginning(self) -> tuple[int, ...]:
        """Returns the ids that every prompt of a chat layout begins with."""
        return tuple(common_beginning(self._asking.ids(_BEGINNINGS)))

    def conversation_ids(self, messages: Sequence[Message]) -> list[int]:
        """Returns the ids of a conversation up to where the next answer starts.

        With a chat template, what is said stands in its markup; `generation.instruction` is the
        system message where there is none. In the plain layout each message is a line, a user's
        after `Question:`, an assistant's after `Answer:`.

        Args:
            messages: one at least; the last one, a user's, may be a `qa_prompt` with passages.

        Raises:
            ConfigError: the template doesn't take such a conversation.
        """
        if not self.chat:
            return self._plain.ids([_plain_conversation(messages)])[0]
        instruction = self._config.instruction.strip()
        if instruction and all(message.role != "system" for message in messages):
            messages = [Message("system", instruction), *messages]
        try:
            return self._conversation_ids(messages)
        except ConfigError:
            if messages[0].role != "system":
                raise
        # Several templates refuse a system message, and some leave it out.
        system, first, *others = messages
        return self._conversation_ids(
            [Message(first.role, f"{system.content}\n\n{first.content}"), *others]
        )

    def _conversation_ids(self, messages: Sequence[Message]) -> list[int]:
        conversing = self._conversing(tuple(message.role for message in messages))
        return conversing.ids_between([message.content for message in messages])

    def _tokenizer_of(self, roles: tuple[str, ...]) -> TextTokenizer:
        markup = conversation_markup(
            self._tokenizer, roles, date=self._config.date, thinking=self._config.thinking
        )
        return TextTokenizer(self._tokenizer, markup=markup)

    def plain_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of texts without a question, never in a chat turn, and without EOS."""
        return self._plain.ids(texts)

    def completion_ids(self, answers: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each answer as it follows its prompt, ended by EOS."""
        texts = [completion(answer, chat=self.chat) for answer in answers]
        found = self._asking.continuations(texts, after=self._prompt_end)
        return [[*ids, self._eos_id] for ids in found]
