"""Docstrings speak one dialect: functions in the third person, arguments in lower case.

ruff holds the rest of Google's style; it can demand the imperative mood, but not forbid it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# First words that keep their capital in the middle of a sentence.
NAMES = re.compile(
    r"[A-Z]{2,}|[B-Z]\b|[A-Z][a-z]*[A-Z0-9_]|Adam|FAISS|Linear|Lucene|Parquet|Python|Ray|"
    r"Shannon|True|False|None|English|Generator"
)
ARGUMENT = re.compile(r"^\s+\*{0,2}\w+: ([A-Z]\S*)")


def functions() -> Iterator[tuple[str, str]]:
    """Where each documented function stands, and its docstring."""
    for package in ("sharding", "polyprag", "cluster"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                    is_command = any(
                        word in ast.dump(d)
                        for d in node.decorator_list
                        for word in ("command", "group")
                    )
                    if not is_command:  # a command's is its --help
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def first_words() -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for where, text in functions():
        words.setdefault(text.split()[0].rstrip(".,;:"), []).append(where)
    return words


def test_functions_are_described_in_the_third_person() -> None:
    words = first_words()
    assert len(words["Returns"]) > 100
    imperative = {
        word.removesuffix(ending) + without
        for word in words
        for ending, without in (("s", ""), ("es", ""), ("ies", "y"))
        if word.endswith(ending) and len(word) > 3
    }
    assert {word: places for word, places in words.items() if word in imperative} == {}


@pytest.mark.parametrize("section", ["Args", "Raises", "Attributes"])
def test_arguments_are_described_in_lower_case(section: str) -> None:
    odd = []
    for where, text in functions():
        body = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
        for line in body[1].splitlines() if body else ():
            found = ARGUMENT.match(line)
            if found and not line.startswith("     ") and not NAMES.match(found[1]):
                odd.append(f"{where}: {line.strip()}")
    assert odd == []
