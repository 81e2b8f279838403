"""What benchmarks and examples import of the packages is there, inside functions too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted([*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("examples/**/*.py")])


def names_of(module: Path) -> set[str]:
    """Names that a module defines or imports at its top."""
    names: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                each.id for to in targets for each in ast.walk(to) if isinstance(each, ast.Name)
            }
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imported_names_are_defined(script: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.split(".")[0] not in ("sharding", "polyprag", "cluster"):
            continue
        path = ROOT / node.module.replace(".", "/")
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        known = names_of(module) if module.is_file() else set()
        for alias in node.names:
            if alias.name not in known and not (path / f"{alias.name}.py").is_file():
                missing.append(f"{node.module}.{alias.name}")
    assert missing == []
