"""One measurement of the data plane's benchmark, in a fresh process that prints it as JSON.

    python -m data_plane.case SYSTEM MEASURE ARGUMENTS

It runs on the interpreter that has SYSTEM installed, and imports only that system's module,
`data_plane.<system>`, which has `write(directory, chunks)`, `Reader(directory, shuffled=, seed=,
state=)` with `samples()` and `state()`, and may have `batches(directory)`.
"""

import gc
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from data_plane.corpus import Row, read_tsv, totals

CHUNK = 10_000  # passages handed to a writer at once; where a system cuts by number, its shards
_KEYS = ("passages", "ids", "characters")

Arguments = dict[str, Any]


class Chunks:
    """The corpus file in pieces, with the time that reading and parsing it has taken."""

    def __init__(self, tsv: Path) -> None:
        self._rows = read_tsv(tsv)
        self.seconds = 0.0

    def __iter__(self) -> Iterator[list[Row]]:
        while True:
            started = time.perf_counter()
            chunk = list(islice(self._rows, CHUNK))
            self.seconds += time.perf_counter() - started
            if not chunk:
                return
            yield chunk


def write(system: ModuleType, directory: Path, arguments: Arguments) -> dict[str, Any]:
    """Writes the corpus; the time without that of parsing the file it comes from."""
    chunks = Chunks(Path(arguments["tsv"]))
    started = time.perf_counter()
    system.write(directory, chunks)
    seconds = time.perf_counter() - started - chunks.seconds
    stored = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return {"seconds": seconds, "bytes": stored}


def sequential(system: ModuleType, directory: Path, arguments: Arguments) -> dict[str, Any]:
    """Reads the whole corpus in its order, sample by sample."""
    started = time.perf_counter()
    samples = system.Reader(directory, shuffled=False, seed=arguments["seed"]).samples()
    first = next(samples)
    first_s = time.perf_counter() - started
    found = _sum(totals([first]), totals(samples))
    return {"first_s": first_s, "seconds": time.perf_counter() - started, "totals": found}


def batches(system: ModuleType, directory: Path, arguments: Arguments) -> dict[str, Any]:
    """Reads the whole corpus in its order the way a system has for whole batches."""
    del arguments
    started = time.perf_counter()
    found = totals(system.batches(directory))
    return {"seconds": time.perf_counter() - started, "totals": found}


def shuffled(system: ModuleType, directory: Path, arguments: Arguments) -> dict[str, Any]:
    """Reads an epoch in the system's shuffled order; keeps its state in the middle."""
    half = arguments["half"]
    started = time.perf_counter()
    reader = system.Reader(directory, shuffled=True, seed=arguments["seed"])
    samples = reader.samples()
    first = next(samples)
    first_s = time.perf_counter() - started
    before = _sum(totals([first]), totals(islice(samples, half - 1)))
    paused = time.perf_counter()
    state = reader.state()
    paused = time.perf_counter() - paused
    following = next(samples)
    half_s = time.perf_counter() - started - paused
    after = _sum(totals([following]), totals(samples))
    return {
        "first_s": first_s,
        "replay_s": half_s,
        "seconds": time.perf_counter() - started - paused,
        "totals": _sum(before, after),
        "middle": {"state": state, "following": following[0], "before": before},
    }


def resume(system: ModuleType, directory: Path, arguments: Arguments) -> dict[str, Any]:
    """Opens the epoch again in the middle, up to the first sample; reads on when it is to count."""
    middle = arguments["middle"]
    started = time.perf_counter()
    reader = system.Reader(directory, shuffled=True, seed=arguments["seed"], state=middle["state"])
    samples = reader.samples()
    following = next(samples)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"seconds": seconds, "exact": following[0] == middle["following"]}
    if arguments["finish"]:
        found["totals"] = _sum(middle["before"], totals([following]), totals(samples))
    return found


MEASURES: dict[str, Callable[[ModuleType, Path, Arguments], dict[str, Any]]] = {
    "write": write,
    "sequential": sequential,
    "batches": batches,
    "shuffled": shuffled,
    "resume": resume,
}


def everything(system: ModuleType, directory: Path, arguments: Arguments) -> dict[str, Any]:
    """All of these in one process: a quick look, whose memory and first samples mean little."""
    results: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        if name == "batches" and not hasattr(system, "batches"):
            continue
        if name == "resume":
            arguments |= {"middle": results["shuffled"]["middle"], "finish": True}
        results[name] = measure(system, directory, arguments)
    return results


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now and at its highest, in MB.

    Not `ru_maxrss`: that begins with what the parent held when it forked.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"now": 0.0, "peak": peak / (1e6 if sys.platform == "darwin" else 1e3)}
    fields = dict(line.split(":", 1) for line in lines)
    kib = {"now": fields["VmRSS"], "peak": fields["VmHWM"]}
    return {name: int(text.split()[0]) * 1024 / 1e6 for name, text in kib.items()}


def _sum(*parts: dict[str, int]) -> dict[str, int]:
    return {key: sum(part[key] for part in parts) for key in _KEYS}


def main(arguments: Iterable[str]) -> None:
    """Measures and prints."""
    name, measure, text = arguments
    started = time.perf_counter()
    system = importlib.import_module(f"data_plane.{name}")
    import_s = time.perf_counter() - started
    gc.collect()
    imported = memory_mb()["now"]
    values = json.loads(text)
    run = everything if measure == "everything" else MEASURES[measure]
    result = run(system, Path(values["directory"]), values)
    memory = {"imported_mb": imported, "peak_mb": memory_mb()["peak"]}
    print(json.dumps({"import_s": import_s, **memory, **result}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
