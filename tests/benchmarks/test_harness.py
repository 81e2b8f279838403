"""What benchmarks share: their folders beside scripts of the same name, cases in processes."""

import importlib
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_folder_is_found_before_the_script_of_its_name() -> None:
    both = [path.stem for path in BENCHMARKS.glob("*.py") if path.with_suffix("").is_dir()]
    assert both
    for name in both:
        found = importlib.import_module(name).__file__
        assert found == str(BENCHMARKS / name / "__init__.py")


def test_a_case_that_fails_gives_the_last_line_that_it_wrote() -> None:
    in_a_process = importlib.import_module("harness.processes").in_a_process
    assert in_a_process("scaling.dry_run", "none", "{}", limit_s=60) == {
        "error": "KeyError: 'partition_size'"
    }
