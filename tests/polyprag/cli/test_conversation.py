"""A conversation on the terminal: what is said, in which mode, from which passages."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyprag.answering.answerer import Answerer
from polyprag.answering.engine import Engine
from polyprag.answering.reply import Reply
from polyprag.answering.request import Request
from polyprag.cli.conversation import Conversation, typed_lines
from polyprag.config import Config
from polyprag.method.window import QuestionTooLongError
from sharding.printable import printable

ASKED = "Where was Anna Smith born?"


@pytest.fixture(scope="module")
def engine(encoded_run: tuple[Path, Config]) -> Iterator[Engine]:
    run, config = encoded_run
    with Engine(Answerer.open(run, config), run_dir=run) as made:
        yield made


def held(
    engine: Engine, capsys: pytest.CaptureFixture[str], *lines: str, refuses: bool = False
) -> tuple[str, str]:
    Conversation(engine, refuses=refuses).hold(lines)
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_answers_come_with_their_sources_in_the_mode_that_was_chosen(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = held(engine, capsys, ASKED, "/top 2", ASKED, "/closed", ASKED, f"/rag {ASKED}")
    assert err == ""
    assert out.count("[p0] Anna: Anna Smith was born in Oslo in 1900.") == 3
    for top_k in (3, 2):  # the setting's, and the one that was asked for
        weights = engine.ask(ASKED, top_k=top_k).weights
        assert weights is not None and f"  {weights[0]:.2f} [p0]" in out
    assert "passages for each question: 2\n" in out and "mode: closed\n" in out
    asked: list[dict[str, Any]] = [
        {},
        {"top_k": 2},
        {"mode": "closed"},
        {"mode": "rag", "top_k": 2},
    ]
    for fields in asked:
        text = engine.ask(ASKED, **fields).text
        assert printable(text, lines=True) in out
    assert "don't trust this answer: " in out


def test_what_is_no_command_is_named_and_the_conversation_goes_on(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = held(engine, capsys, "/fly", "/top x", "/routed", ASKED, "", "/quit", "/help")
    assert "/fly isn't known; /help" in err and "/top: give a number" in err
    assert "polyprag distill" in err
    assert out == "mode: routed\n"


def test_an_answer_that_is_kept_back_is_never_shown(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    said = engine.ask(ASKED)
    assert said.trusted is False
    out, _ = held(engine, capsys, ASKED, refuses=True)
    assert out.startswith("(no answer is given)\n  don't trust this answer: ")
    assert said.text not in out


class Remembering:
    """An engine whose model has turns, and room for one question and answer before another."""

    has_turns = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[Request] = []

    def submit(self, request: Request) -> Reply:
        self.asked.append(request)
        if len(request.history) > 2:
            raise QuestionTooLongError("too long")
        return self.engine.submit(replace(request, history=()))


def test_what_was_said_counts_where_there_are_turns_until_it_is_too_long(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    made: Any = Remembering(engine)
    Conversation(made).hold([ASKED, "And Boris?", "And Carla?", "/new", "And Edith?"])
    histories = [[message.content for message in each.history] for each in made.asked]
    first, second = (engine.ask(question).text for question in (ASKED, "And Boris?"))
    assert histories == [
        [],
        [ASKED, first],
        [ASKED, first, "And Boris?", second],
        ["And Boris?", second],
        [],
    ]
    assert "forgotten" in capsys.readouterr().out


def test_lines_end_with_the_input() -> None:
    def ask(prompt: str) -> str:
        assert prompt == "> "
        if not lines:
            raise EOFError
        return lines.pop(0)

    lines = ["a", "b"]
    assert list(typed_lines(ask)) == ["a", "b"]


@pytest.mark.slow
def test_a_terminal_gets_a_conversation(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "polyprag", "ask", str(run), f"model.path={config.model.path}"]
    running = subprocess.Popen(
        command, stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(inner)
    os.write(outer, f"{ASKED}\n/quit\n".encode())
    out, err = running.communicate(timeout=240)
    os.close(outer)
    assert running.returncode == 0, err
    assert "10 passages" in err and "[p0] Anna" in out
