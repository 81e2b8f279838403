"""A public name means one thing: no two modules define the same class, function or constant."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Names that several modules may have, and why.
SHARED = {
    "MANIFEST_NAME": "the same thing everywhere: what a stage's manifest is called",
    "command": "each file of polyprag/cli has one, which main.py finds by this name",
    "main": "where a program begins: `polyprag`, and a Ray job's",
}


def defined(module: ast.Module) -> Iterator[str]:
    """Names that a module defines for others; type variables are for itself."""
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            of_call = node.value.func if isinstance(node.value, ast.Call) else None
            if isinstance(of_call, ast.Name) and of_call.id in ("TypeVar", "ParamSpec"):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def test_no_two_modules_define_the_same_public_name() -> None:
    modules = defaultdict(list)
    for package in ("sharding", "polyprag", "cluster"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in sorted(set(defined(ast.parse(path.read_text(encoding="utf-8"))))):
                if not name.startswith("_"):
                    modules[name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in modules.items() if len(paths) > 1}
    assert {name: paths for name, paths in twice.items() if name not in SHARED} == {}
    assert twice.keys() == SHARED.keys()  # an exception that isn't needed any more goes
