"""The systems of the data plane's benchmark: where each is installed, and how one is measured."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.examples import ROOT
from harness.processes import in_a_process

RIVALS = ROOT / ".venv-rivals" / "bin" / "python"
LIMIT_S = 3600  # of one measurement: a system that hangs is reported, not waited for


@dataclass(frozen=True)
class System:
    """What is measured.

    Attributes:
        name: Its module is `data_plane.<name>`.
        label: For tables.
        distribution: The package that must be installed.
        has_batches: Whether it can give whole batches faster than samples.
    """

    name: str
    label: str
    distribution: str
    has_batches: bool = False


SYSTEMS = (
    System("polyprag", "polyprag", "polyprag"),
    System("webdataset", "webdataset", "webdataset"),
    System("mosaicml", "mosaicml-streaming", "mosaicml-streaming"),
    System("datasets_arrow", "datasets, Arrow", "datasets", has_batches=True),
    System("datasets_parquet", "datasets, Parquet", "datasets", has_batches=True),
)

INSTALL = """\
Rivals that this benchmark needs are missing: {missing}.
  datasets goes into this environment, and changes nothing that is installed:
    {python} -m pip install -c constraints-cpu.txt -r benchmarks/requirements-data-plane.txt
  mosaicml-streaming wants numpy<2.2 and transformers<5, so it gets one of its own:
    {python} -m venv .venv-rivals
    .venv-rivals/bin/python -m pip install -r benchmarks/requirements-data-plane-mosaicml.txt
Other environments that have them can be named with --python."""

_VERSIONS = """
import importlib.metadata, json, platform
names = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "versions": names}))
"""


@dataclass(frozen=True)
class Place:
    """An interpreter that has a system, and what else it has."""

    python: str
    versions: dict[str, str]


def find(pythons: Sequence[str]) -> dict[str, Place]:
    """The first interpreter with each system: of this one, those given, and `.venv-rivals`."""
    found: dict[str, Place] = {}
    given = [os.path.abspath(python) for python in pythons]
    for python in (sys.executable, *given, *([str(RIVALS)] if RIVALS.exists() else [])):
        told = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
        values = json.loads(told.stdout)
        for system in SYSTEMS:
            if system.distribution in values["versions"] and system.name not in found:
                names = (system.distribution, "numpy", "pyarrow", "torch")
                versions = {n: values["versions"][n] for n in names if n in values["versions"]}
                found[system.name] = Place(python, {"python": values["python"], **versions})
    return found


def measure(
    place: Place, system: System, what: str, arguments: dict[str, Any], *, scratch: Path
) -> dict[str, Any]:
    """One measurement in a process of its own.

    Returns:
        What `data_plane.case` printed, or {"error": the last line that the process wrote}.
    """
    environment = {
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(scratch / "hf-home"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    return in_a_process(
        *("data_plane.case", system.name, what, json.dumps(arguments)),
        python=place.python,
        environment=environment,
        cwd=scratch,
        limit_s=LIMIT_S,
    )
