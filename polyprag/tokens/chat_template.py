"""What a chat template writes around messages, asked once and with bounds."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from polyprag.errors import ConfigError

# Given to the template in place of a message, to see what it writes around one. The second has what
# prompts have, and shows whether the template leaves them as they are.
_STAND_IN = "polyprag5f0c1d7e9b"
_LIKE_A_PROMPT = 'Passage: T. "x" & <y>, é.\nQuestion: Who?\nAnswer:'
_VARIABLES = ("PATH", "LD_LIBRARY_PATH")  # and no keys
_SECONDS = 60  # by the clock, where the machine is busy; render_chat.py bounds the processor's time


def chat_markup(
    tokenizer: PreTrainedTokenizerBase,
    *,
    date: str,
    thinking: str = "never",
    instruction: str = "",
) -> tuple[str, ...]:
    """Returns the pieces of text between which a chat template puts the user's message.

    A template is rendered in a process of its own, which ends after a time and can't fill the
    memory: it is a program that came with the model.

    Args:
        tokenizer: has a chat template.
        date: `generation.date`, which is today for the template.
        thinking: `generation.thinking`.
        instruction: `generation.instruction`: the system message where the template shows one, else
            in front of the user's message; empty for none.

    Returns:
        Two or more pieces; the message comes between each and the next. The last one is how the
        assistant's turn begins.

    Raises:
        ConfigError: the template can't be rendered, doesn't end, or doesn't show the message.
    """
    request = _request(tokenizer, date=date, thinking=thinking)
    instruction = instruction.strip()
    if instruction:
        with suppress(_TemplateError):  # several refuse a system message, and some leave it out
            markup = _markup(request, system=instruction)
            if instruction in markup[0]:
                return markup
    try:
        markup = _markup(request)
    except _TemplateError as error:
        raise _unusable(tokenizer, str(error)) from None
    if instruction:
        markup = (*(f"{piece}{instruction}\n\n" for piece in markup[:-1]), markup[-1])
    return markup


def conversation_markup(
    tokenizer: PreTrainedTokenizerBase,
    roles: Sequence[str],
    *,
    date: str,
    thinking: str = "never",
) -> tuple[str, ...]:
    """Returns the pieces of text around the messages of a conversation; see `chat_markup`.

    Args:
        tokenizer: has a chat template.
        roles: who says each message: system, user or assistant.
        date: `generation.date`.
        thinking: `generation.thinking`.

    Returns:
        One piece more than there are messages; each message comes between its piece and the next.

    Raises:
        ConfigError: the template can't be rendered, or doesn't show each message once, in order.
    """
    request = _request(tokenizer, date=date, thinking=thinking)
    shown, like_prompts = (
        [{"role": role, "content": f"{content}x{number}x"} for number, role in enumerate(roles)]
        for content in (_STAND_IN, _LIKE_A_PROMPT)
    )
    try:
        rendered = _rendered(_as_json(request | {"conversations": [shown, like_prompts]}))
        return _around(rendered, shown, like_prompts)
    except _TemplateError as error:
        raise _unusable(tokenizer, str(error)) from None


def _around(
    rendered: Sequence[str], shown: Sequence[dict[str, str]], others: Sequence[dict[str, str]]
) -> tuple[str, ...]:
    """Returns what a template writes before, between and after messages."""
    pieces, rest = [], rendered[0]
    for message in shown:
        piece, found, rest = rest.partition(message["content"])
        if not found or _STAND_IN in piece:
            raise _TemplateError(f"it doesn't show what the {message['role']} says in its place")
        pieces.append(piece)
    pieces.append(rest)
    again = "".join(
        text
        for piece, message in zip(pieces, [*others, {"content": ""}], strict=True)
        for text in (piece, message["content"])
    )
    if _STAND_IN in rest or again != rendered[1]:
        raise _TemplateError("it changes or repeats what is said")
    return tuple(pieces)


def _request(tokenizer: PreTrainedTokenizerBase, *, date: str, thinking: str) -> dict[str, Any]:
    """Returns what a template is rendered with, but for the messages."""
    try:
        template = str(tokenizer.get_chat_template())
    except ValueError as error:  # several named ones, none of them the default
        raise _unusable(tokenizer, str(error)) from error
    variables: dict[str, Any] = dict(tokenizer.special_tokens_map)
    if thinking == "never":  # a template that has to do with it knows one name or the other
        variables |= {"enable_thinking": False, "thinking": False}
    return {"template": template, "variables": variables, "date": date}


def _markup(request: dict[str, Any], *, system: str = "") -> tuple[str, ...]:
    """Returns what a template writes around the user's message."""
    before = [{"role": "system", "content": system}] if system else []
    conversations = [
        [*before, {"role": "user", "content": content}] for content in (_STAND_IN, _LIKE_A_PROMPT)
    ]
    shown, like_a_prompt = _rendered(_as_json(request | {"conversations": conversations}))
    markup = tuple(shown.split(_STAND_IN))
    if len(markup) < 2:
        raise _TemplateError("it doesn't show what the user says")
    if _LIKE_A_PROMPT.join(markup) != like_a_prompt:
        raise _TemplateError("it changes what the user says")
    return markup


def _as_json(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True, default=str)


class _TemplateError(Exception):
    """A template can't be rendered; says why."""


@functools.lru_cache(maxsize=64)
def _rendered(request: str) -> tuple[str, str]:
    """Returns what the template makes of two conversations."""
    # Without the script's own folder in front of the path (-P); jinja2 is found where it is here.
    command = [sys.executable, "-P", str(Path(__file__).with_name("render_chat.py"))]
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        done = subprocess.run(
            command,
            input=request.encode(),
            capture_output=True,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _TemplateError(f"it doesn't end within {_SECONDS} s") from None
    if done.returncode < 0:  # by a signal
        raise _TemplateError("it doesn't end, or fills the memory")
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _TemplateError(said[-1] if said else "it can't be rendered") from None
    if "error" in reply:
        raise _TemplateError(reply["error"])
    first, second = reply["texts"]
    return first, second


def _unusable(tokenizer: PreTrainedTokenizerBase, reason: str) -> ConfigError:
    reason = " ".join("".join(c if c.isprintable() else " " for c in reason).split())[:300]
    return ConfigError(
        f"the chat template of {tokenizer.name_or_path!r} can't be used: {reason}; use "
        "generation.prompt=plain"
    )
