"""The documents: links lead somewhere, the pages that describe code agree with it."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from polyprag.config import Config
from polyprag.config.files import flatten, parse_settings, shipped_configs

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_cli_page_is_what_the_commands_say() -> None:
    script = load_script(ROOT / "docs" / "cli_page.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run `make docs`"


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
