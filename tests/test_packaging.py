"""The package as others get it: the wheel, its dependencies, and the tested pins."""

import ast
import importlib.metadata
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TINY_BASE = ROOT / "examples" / "tiny-base"
PACKAGES = ("polyprag", "sharding", "cluster")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return dict(tomllib.load(file)["project"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("polyprag-*.whl"))


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    """The top-level names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints-cpu.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line.strip() and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_wheel_holds_the_packages_and_configs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"{wheel.name.rsplit('-py3', 1)[0]}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}
    shipped = {
        f"polyprag/configs/{path.relative_to(ROOT / 'configs')}"
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert shipped and shipped <= names
    code = {str(path.relative_to(ROOT)) for path in sources()}
    assert code <= names
    model = {f"polyprag/models/tiny-base/{path.name}" for path in TINY_BASE.glob("*.*")}
    model -= {f"polyprag/models/tiny-base/{name}" for name in ("train.py", "README.md")}
    assert len(model) == 5
    assert {name for name in names if name.startswith("polyprag/models/")} == model
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names


def test_wheel_installs_elsewhere_and_finds_its_configs(wheel: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.run([*pip, str(tmp_path / "site"), str(wheel)], check=True, capture_output=True)
    code = (
        "import polyprag, sys\n"
        "from polyprag.config.files import load_config\n"
        "from polyprag.config.shipped import shipped_configs\n"
        "print(polyprag.__file__)\n"
        "print(len(shipped_configs()), load_config('llama-3-8b').deepspeed.stage)\n"
        "from polyprag.pretrained import located\n"
        "print(located(load_config('quickstart').model.path))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    where, counts, model = run.stdout.splitlines()
    assert model == str(tmp_path / "site" / "polyprag" / "models" / "tiny-base")
    for path in Path(model).iterdir():
        assert path.read_bytes() == (TINY_BASE / path.name).read_bytes()
    assert where.startswith(str(tmp_path / "site"))
    assert counts == f"{len(list((ROOT / 'configs').rglob('*.yaml')))} 3"


def test_console_script_is_the_command_line(project: dict[str, Any]) -> None:
    from polyprag.cli import main

    assert project["scripts"] == {"polyprag": "polyprag.cli:main"}
    assert callable(main)


EXTRAS = ("gguf", "sentence", "serve", "mlflow", "wandb")


def test_every_import_is_a_declared_dependency(project: dict[str, Any]) -> None:
    optional = project["optional-dependencies"]
    extras = [each for name in EXTRAS for each in optional[name]]
    requirements = [*project["dependencies"], *extras]
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    distributions = importlib.metadata.packages_distributions()
    declared.add("vllm")  # which loads our plugin, and is never loaded by us
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        for name in imported_packages(path) - {*PACKAGES, *sys.stdlib_module_names}
        # a name that isn't installed, such as an optional one, must at least be declared as such
        if not declared & {canonicalize_name(d) for d in distributions.get(name, [name])}
    }
    assert not undeclared


def test_pins_cover_the_direct_dependencies_within_their_ranges(project: dict[str, Any]) -> None:
    pinned = pins()
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints-cpu.txt has no pin for {name}"
        assert requirement.specifier.contains(pinned[name]), f"{text} excludes {pinned[name]}"
    assert not {"pip", "setuptools", "wheel"} & set(pinned)


def test_continuous_integration_runs_what_developers_run() -> None:
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in steps and "make lint" in steps
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "make test" in workflow and "make lint" in workflow
