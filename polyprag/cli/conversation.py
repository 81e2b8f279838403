"""`polyprag ask RUN` without a question: a conversation on the terminal."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polyprag.answering.modes import CONTROLS, MODES, Mode
from polyprag.cli.output import echo
from polyprag.errors import PolypragError
from sharding.printable import printable_line

if TYPE_CHECKING:
    from polyprag.answering.answer import Answer
    from polyprag.answering.engine import Engine
    from polyprag.method.prompts import Message

HELP = """\
Ask, and the answer comes; what was said before counts where the model has a chat template.
/closed /rag /poly /combine /routed   answer in this mode from now on (/combine QUESTION: once)
/top N      use N passages for each question
/new        forget what was said
/help       this
/quit       end; so does Ctrl-D. Ctrl-C ends an answer."""
_SHOWN_CHARACTERS = 76
_MODES = {f"/{mode}": mode for mode in MODES if mode not in CONTROLS}


@dataclass
class Conversation:
    """What was said, and how the next question is answered.

    Attributes:
        engine: who answers.
        mode: of the next question.
        top_k: passages for it; None: `retrieval.top_k`.
        refuses: whether an answer that isn't trusted is kept back.
        history: what was said before it, that counts.
    """

    engine: "Engine"
    mode: Mode = "poly"
    top_k: int | None = None
    refuses: bool = False
    history: "list[Message]" = field(default_factory=list)

    def hold(self, lines: Iterable[str]) -> None:
        """Answers line after line until they end or say so."""
        for line in lines:
            text = line.strip()
            if text == "/quit":
                return
            try:
                self._take(text)
            except PolypragError as error:
                echo(f"error: {error}", err=True)

    def _take(self, text: str) -> None:
        command, _, rest = text.partition(" ")
        if not text:
            return
        if command == "/help":
            echo(HELP)
        elif command == "/new":
            self.history = []
            echo("what was said is forgotten")
        elif command == "/top":
            if not rest.isdecimal() or not int(rest):
                echo("error: /top: give a number of passages, such as /top 3", err=True)
                return
            self.top_k = int(rest)
            echo(f"passages for each question: {self.top_k}")
        elif command in _MODES and rest:
            self._answer(rest, _MODES[command])
        elif command in _MODES:
            self.mode = _MODES[command]
            echo(f"mode: {self.mode}")
        elif text.startswith("/"):
            echo(f"error: {command} isn't known; /help lists what is", err=True)
        else:
            self._answer(text, self.mode)

    def _answer(self, question: str, mode: Mode) -> None:
        from polyprag.answering.request import Request
        from polyprag.method.prompts import Message
        from polyprag.method.window import QuestionTooLongError
        from polyprag.tokens.thinking import ThinkingStream

        top_k = self.top_k if mode in ("rag", "poly", "combine") else None
        while True:
            history = tuple(self.history)
            request = Request(question=question, history=history, mode=mode, top_k=top_k)
            try:
                reply = self.engine.submit(request)
                break
            except QuestionTooLongError:
                if not self.history:
                    raise
                del self.history[:2]  # the oldest question, and its answer
        try:
            has_begun, thinking = False, ThinkingStream()
            for piece in () if self.refuses else reply:  # what isn't judged yet isn't shown then
                _, said = thinking.put(piece)
                shown = said if has_begun else said.lstrip()
                echo(shown, nl=False)
                has_begun |= bool(shown)
            echo(thinking.end()[1], nl=False)
            answer = reply.answer()
        except KeyboardInterrupt:
            reply.cancel()
            answer = reply.answer()
        if self.refuses:
            echo("(no answer is given)" if answer.trusted is False else answer.text, nl=False)
        echo()
        for line in sources_of(answer):
            echo(line)
        if self.engine.has_turns:  # else every question is asked as in training, alone
            self.history += [Message("user", question), Message("assistant", answer.text)]


def sources_of(answer: "Answer") -> Iterator[str]:
    """Yields lines on what an answer came from, and whether to trust it."""
    if answer.reason is not None:
        yield f"  don't trust this answer: {answer.reason}"
    passages = () if answer.hits is None else answer.hits.passages
    for at, passage in enumerate(passages):
        weight = "" if answer.weights is None else f"{answer.weights[at]:5.2f} "
        line = f"{weight}[{passage.key}] {passage.title}: {passage.text}"
        yield f"  {printable_line(line, _SHOWN_CHARACTERS)}"


def typed_lines(ask: Callable[[str], str] = input) -> Iterator[str]:
    """Yields what is typed, a line at a time, until Ctrl-D."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - arrows and earlier lines, in `input`
    while True:
        try:
            yield ask("> ")
        except EOFError:
            return
