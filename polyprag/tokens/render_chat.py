"""Renders a chat template in a process of its own, with an end to its time and its memory.

    render_chat.py < request.json > reply.json

A template is a program that came with a model. The sandbox keeps it from files and attributes, but
not from looping without end or filling the memory. What a template finds here is what transformers
gives to one (huggingface.co/docs/transformers/chat_templating_writing), but for the date.

Only the standard library and jinja2 are imported, so that this starts in a tenth of a second.
"""

import datetime
import json
import resource
import sys
from typing import Any, NoReturn

import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

_SECONDS, _BYTES = 3, 1 << 29  # of processor time; of address space
_MAX_CHARACTERS = 100_000  # that a template writes around messages


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what an assistant says; nobody here needs to know."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own type

    def parse(self, parser: jinja2.parser.Parser) -> Any:
        """Returns the nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: object) -> NoReturn:
    raise jinja2.exceptions.TemplateError(str(message))


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _rendered(request: dict[str, Any]) -> list[str]:
    """Renders the template once for each conversation."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    today = datetime.date.fromisoformat(request["date"])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: today.strftime(form)
    environment.globals["dict"] = lambda *pairs, **values: dict(*pairs, **values)
    template = environment.from_string(request["template"])
    texts = []
    for messages in request["conversations"]:
        pieces: list[str] = []
        left = _MAX_CHARACTERS + sum(len(message["content"]) for message in messages)
        for piece in template.generate(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **request["variables"],
        ):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise ValueError(f"it writes more than {_MAX_CHARACTERS:,} characters")
        texts.append("".join(pieces))
    return texts


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        reply: dict[str, Any] = {"texts": _rendered(request)}
    except MemoryError:
        reply = {"error": f"it fills more than {_BYTES >> 20} MiB of memory"}
    except Exception as error:  # a template's own, of any kind
        reply = {"error": f"{type(error).__name__}: {error}"[:500]}
    json.dump(reply, sys.stdout)


if __name__ == "__main__":
    main()
