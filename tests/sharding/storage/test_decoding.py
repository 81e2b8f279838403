"""Decoding: whatever is wrong with bytes is a `ValueError` that says where."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.storage.decoding import convert, decode, line_of, shown_json, strict_json

NOT_WRITTEN = {  # what they make is hashed, compared, or sent to another worker
    "cluster/parallel/collectives.py",
    "polyprag/augment/prompt.py",
    "polyprag/augment/pairs/read.py",
    "polyprag/augment/work/replies.py",  # written, but of strings alone
    "polyprag/augment/writing/completions.py",
    "polyprag/teaching/task.py",
    "polyprag/evaluation/questions.py",
    "polyprag/growth/rows_task.py",
    "polyprag/retrieval/building/segment.py",
    "polyprag/retrieval/building/settings.py",
    "polyprag/retrieval/parts/local_copies.py",
    "polyprag/retrieval/parts/part.py",
    "cluster/checkpoints/recovery.py",
    "polyprag/pretrained/identity.py",
    "polyprag/tokens/chat_template.py",
    "polyprag/tokens/render_chat.py",
    "polyprag/tokens/text_tokens.py",
    "sharding/ingest/pack.py",
    "sharding/ingest/parse_task.py",
    "sharding/storage/decoding.py",  # which refuses it before
}


class Item(msgspec.Struct, forbid_unknown_fields=True):
    size: int
    names: list[str] = []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[{"size": 1}, {"size": "1"}]', r"^\[1\]\.size: Expected `int`, got `str`$"),
        (b'[{"size": 1, "names": ["a", 1]}]', r"^\[0\]\.names\[1\]: Expected `str`"),
        (b"[{}]", r"^\[0\]: Object missing required field `size`$"),
        (b'[{"size": 1, "more": 1}]', r"^\[0\]: Object contains unknown field `more`$"),
        (b"{}", "^Expected `array`, got `object`$"),
        (b'[{"size": 1, "names": ["\xff"]}]', r"UTF-8 \(byte 24\)"),
        (b'[{"size": 1, "\xff": 1}]', r"UTF-8 \(byte 14\)"),
        (b'[{"size": NaN}]', "malformed"),
        (b'[{"size": ' + b"9" * 10_000 + b"}]", "size: Integer value out of range"),
        (b"[", "truncated"),
    ],
)
def test_what_is_wrong_is_told_by_field_or_byte(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(data, list[Item])


def test_nesting_is_told_for_what_it_is() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(b"[" * 100_000, object)


def test_keys_that_are_wrong_are_told_by_their_object() -> None:
    with pytest.raises(ValueError, match=r"^\[\.\.\.\]: Expected `int`, got `str`"):
        decode(b'{"sizes": {"x": 1}}', dict[str, dict[int, int]])


def test_values_are_converted_as_they_are_decoded() -> None:
    assert convert({"size": 1, "names": ["a"]}, Item) == decode(b'{"size":1,"names":["a"]}', Item)
    assert convert({"1": 2}, dict[int, int]) == {1: 2}
    with pytest.raises(ValueError, match=r"^size: Expected `int`, got `str`$"):
        convert({"size": "1"}, Item)


@pytest.mark.parametrize(
    ("data", "line"), [(b'{"a":\n\n1,}', 3), (b'{"a":\n"\xff"}', 2), (b"[", None)]
)
def test_the_line_is_that_of_the_byte(data: bytes, line: int | None) -> None:
    with pytest.raises(ValueError) as error:
        decode(data, object)
    assert line_of(error.value, data) == line


@given(st.binary())
def test_any_bytes_decode_or_raise_a_value_error(data: bytes) -> None:
    try:
        decode(data, list[Item])
    except ValueError as error:
        line_of(error, data)


def test_numbers_that_are_not_finite_are_refused_or_shown_as_null() -> None:
    value = {"losses": [1.5, float("nan")], "none": None, "small": 5e-324, "text": "NaN"}
    with pytest.raises(ValueError, match=r"^losses\[1\] isn't a finite number"):
        strict_json(value)
    assert json.loads(shown_json(value)) == value | {"losses": [1.5, None]}
    sound = {"none": None, "number": -1.5e300, "text": "é"}
    assert decode(strict_json(sound), object) == sound == json.loads(shown_json(sound))


def test_every_writer_of_json_refuses_what_is_not_finite() -> None:
    """`json.dumps` writes NaN, which JSON hasn't, and msgspec null, unless they are told not to."""
    root = Path(__file__).parents[3]
    found = []
    for package in ("sharding", "polyprag", "cluster"):
        for path in (root / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(call, ast.Call):
                    continue
                name = ast.unparse(call.func)
                told = any(keyword.arg == "allow_nan" for keyword in call.keywords)
                is_lax = name in ("json.dumps", "json.dump") and not told
                if is_lax or name == "msgspec.json.encode":
                    found.append(f"{path.relative_to(root).as_posix()}:{call.lineno}")
    names = {place.rpartition(":")[0] for place in found}
    assert names <= NOT_WRITTEN, sorted(names - NOT_WRITTEN)


FIRST_BY_MANY_THREADS = """
import json, sys, threading
from typing import Annotated
import msgspec
from sharding.storage.decoding import convert, decode

sys.setswitchinterval(1e-7)
number = Annotated[int, msgspec.Meta(ge=0)]
value = {f"field{n}": {"a": [1]} for n in range(200)}
data = json.dumps(value).encode()
for n in range(20):
    kind = msgspec.defstruct("Kind", [(name, dict[str, list[number]] | None) for name in value])
    start = threading.Barrier(4)

    def work(n):
        start.wait()
        decode(data, kind) if n % 2 else convert(value, kind)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_may_be_the_first_to_decode_a_struct() -> None:
    """msgspec alone ends the process: one thread reads what another has yet to find out."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_BY_MANY_THREADS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
