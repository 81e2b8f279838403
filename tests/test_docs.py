"""The documents: links lead somewhere, the pages that describe code agree with it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from polyprag.config import Config
from polyprag.config.files import parse_settings
from polyprag.config.keys import flatten
from polyprag.config.shipped import shipped_configs

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)

FOLDERS = ("sharding", "polyprag", "cluster", "benchmarks", "tests", "docs", "examples")
_FILE = re.compile(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.py\b")
_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
_MADE = {"examples/real-model"}  # by `make real-model`
_DOTTED = re.compile(r"(?<![\w./-])(?:sharding|polyprag|cluster)(?:\.[A-Za-z]\w*)+")
_IMPORTED = re.compile(r"^from ((?:sharding|polyprag|cluster)[\w.]*) import (.+)$", re.MULTILINE)
_WAS = re.compile(r"^\| [^|]+\|", re.MULTILINE)  # the changelog's first columns: earlier names


def is_defined(dotted: str) -> bool:
    """Whether there is such a module, or such a name in one; nothing is imported for it."""
    path, names = ROOT, dotted.split(".")
    while names and (path / names[0]).is_dir():
        path /= names.pop(0)
    is_module = bool(names) and (path / f"{names[0]}.py").exists()
    path /= f"{names.pop(0)}.py" if is_module else "__init__.py"
    if not names:
        return True
    defined = rf"^(?:(?:class |def )?|from .* import .*\b){names[0]}\b"
    return re.search(defined, path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(document: Path) -> None:
    broken = []
    for target in _LINK.findall(_CODE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue  # somewhere else: not checked, tests need no network
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        is_heading = not anchor or file.suffix != ".md"
        if not file.exists() or not (is_heading or anchor in anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_document_names_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    files = [f"/{f.relative_to(ROOT)}" for name in FOLDERS for f in (ROOT / name).rglob("*.py")]
    # They may be named from inside their package or room, as in `training/loop.py`.
    wrong = {name for name in _FILE.findall(text) if not any(f.endswith(f"/{name}") for f in files)}
    paths = set(_PATH.findall(text)) - set(shipped_configs()) - _MADE
    assert wrong | {path for path in paths if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_names_in_a_document_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    if document.name == "CHANGELOG.md":
        text = _WAS.sub("|", text)
    names = {name for name in _DOTTED.findall(text) if not name.endswith((".md", ".idx"))}
    names |= {
        f"{module}.{name}" for module, line in _IMPORTED.findall(text) for name in line.split(", ")
    }
    assert {name for name in names - set(flatten(Config())) if not is_defined(name)} == set()


def test_cli_page_is_what_the_commands_say(tmp_path: Path) -> None:
    # In a process of its own: click keeps a command's help option as it was first asked for.
    written = tmp_path / "cli.md"
    subprocess.run([sys.executable, str(ROOT / "docs" / "cli_page.py"), str(written)], check=True)
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == written.read_text(encoding="utf-8"), "run `make docs`"


def test_configuration_page_lists_every_key_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_0-9]+\.[a-z_0-9]+)` \| `([^`]*)` \|", page, re.MULTILINE))
    defaults = flatten(Config())
    assert list(rows) == list(defaults)
    text = "\n".join(f"{key}: {value}" for key, value in rows.items())
    assert {s.key: s.value for s in parse_settings(text, where="page")} == defaults


def test_configuration_page_names_every_shipped_config() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z][\w./-]*)` \| [A-Z]", page, re.MULTILINE)) == set(
        shipped_configs()
    )
