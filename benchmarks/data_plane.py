"""How fast passages are written, read, shuffled, resumed and prepared, beside three rivals.

    python benchmarks/data_plane.py [--quick] [--json FILE] [--sizes 10000,100000,1000000]

A synthetic corpus in the format and sizes of psgs_w100 is written and read by polyprag, webdataset,
mosaicml-streaming and Hugging Face datasets. Each figure is the median of several fresh processes,
one at a time, the systems in turn. Every reader gives the same Python strings (id, title, text),
and is checked to have given each passage once.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_plane.corpus import read_tsv, totals, write_tsv
from data_plane.prepare import measure_prepare
from data_plane.report import OURS, goals, medians, print_prepare, print_size
from data_plane.systems import INSTALL, SYSTEMS, Place, System, find, measure
from harness.reporting import finish, options

SEED = 1
_MEASURES = ("write", "sequential", "batches", "shuffled", "resume")
_STEP = 64  # the middle of an epoch lies between two batches of whatever size
# A quick run has all systems at a size where they take no time, which shows nothing of resuming,
# memory and preparing: those it measures of polyprag alone, at sizes where they do show.
_QUICK_SIZE, _QUICK_OWN_SIZES = 2_000, (20_000, 200_000)


def measure_size(
    num_passages: int,
    places: dict[str, Place],
    *,
    systems: Sequence[System] = SYSTEMS,
    repeats: int,
    at_once: bool = False,
    scratch: Path,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All measurements at one size: by system and measure, one entry for each repetition.

    With `at_once` one process makes all of a system's.
    """
    tsv = scratch / "corpus.tsv"
    write_tsv(tsv, num_passages, seed=SEED)
    expected = totals(read_tsv(tsv))
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {system.name: {} for system in systems}
    middles: dict[str, Any] = {}
    for turn in range(repeats):
        for what in ("everything",) if at_once else _MEASURES:
            for system in systems:
                if what == "batches" and not system.has_batches:
                    continue
                result = _measure(
                    system,
                    what,
                    places[system.name],
                    scratch=scratch,
                    arguments={
                        "directory": str(scratch / system.name),
                        "tsv": str(tsv),
                        "seed": SEED,
                        "half": num_passages // 2 // _STEP * _STEP,
                        "middle": middles.get(system.name),
                        "finish": turn == 0,
                    },
                )
                for name, part in _parts(what, result):
                    _check(name, part, expected)
                    if "middle" in part:
                        middles[system.name] = part.pop("middle")
                    runs[system.name].setdefault(name, []).append(part)
        print(f"  {num_passages:,} passages: round {turn + 1} of {repeats}", file=sys.stderr)
    for system in systems:
        shutil.rmtree(scratch / system.name, ignore_errors=True)
    tsv.unlink()
    return runs


def _ours_alone(size: int, places: dict[str, Place], scratch: Path) -> dict[str, Any]:
    systems = [system for system in SYSTEMS if system.name == OURS]
    runs = measure_size(size, places, systems=systems, repeats=1, scratch=scratch)
    return medians(runs, num_passages=size)[OURS]


def _measure(
    system: System, what: str, place: Place, *, scratch: Path, arguments: dict[str, Any]
) -> dict[str, Any]:
    if what in ("write", "everything"):
        shutil.rmtree(arguments["directory"], ignore_errors=True)
    if what == "resume" and arguments["middle"] is None:
        return {"error": "there is no state to resume from"}
    result = measure(place, system, what, arguments, scratch=scratch)
    if "error" in result:
        print(f"  {system.label}, {what}: failed: {result['error']}", file=sys.stderr)
    return result


def _parts(what: str, result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A result by measure; that of `everything` has several, which share their memory."""
    if what != "everything":
        return [(what, result)]
    if "error" in result:
        return [(name, dict(result)) for name in _MEASURES]
    shared = {key: result[key] for key in ("import_s", "imported_mb", "peak_mb")}
    return [(name, shared | result[name]) for name in _MEASURES if name in result]


def _check(what: str, result: dict[str, Any], expected: dict[str, int]) -> None:
    """Marks what hasn't read every passage once: failed, or how many a resumed epoch lost."""
    found = result.pop("totals", None)
    if found is None:
        return
    if what == "resume":
        result["lost"] = expected["passages"] - found["passages"]
        result["exact"] = result["exact"] and found == expected
    elif found != expected:
        result["error"] = f"read {found} of {expected}"


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=_sizes, help="passages (default: 10000,100000,1000000)")
    parser.add_argument("--repeats", type=int, metavar="N", help="of each measurement (default: 3)")
    parser.add_argument(
        "--python", action="append", default=[], help="another interpreter that has rivals"
    )
    args = parser.parse_args()
    for python in args.python:
        if shutil.which(python) is None:
            parser.error(f"--python {python}: no such program")
    places = find(args.python)
    missing = sorted({s.distribution for s in SYSTEMS if s.name not in places})
    if missing:
        print(INSTALL.format(missing=", ".join(missing), python=sys.executable), file=sys.stderr)
        return 2
    sizes = args.sizes or ([_QUICK_SIZE] if args.quick else [10_000, 100_000, 1_000_000])
    repeats = args.repeats or (1 if args.quick else 3)
    results: dict[int, Any] = {}
    with tempfile.TemporaryDirectory(prefix="data-plane-") as temporary:
        scratch = Path(temporary)
        for size in sizes:
            runs = measure_size(size, places, repeats=repeats, at_once=args.quick, scratch=scratch)
            results[size] = medians(runs, num_passages=size)
            print_size(size, results[size])
        ours = {size: result[OURS] for size, result in results.items()}
        if args.quick:
            ours = {size: _ours_alone(size, places, scratch) for size in _QUICK_OWN_SIZES}
        prepared = measure_prepare(
            scratch,
            max(_QUICK_OWN_SIZES if args.quick else sizes),
            seed=SEED,
            cores=1 if args.quick else os.cpu_count() or 1,
            repeats=repeats,
        )
    print_prepare(prepared)
    whole = {
        "repeats": repeats,
        "quick": args.quick,
        "systems": {name: place.versions for name, place in places.items()},
        "sizes": {str(size): result for size, result in results.items()},
        "alone": {str(size): result for size, result in ours.items()} if args.quick else {},
        "prepare": prepared,
    }
    finish(whole, goals(results, ours, prepared), args.json)
    failed = [name for result in results.values() for name, of in result.items() if of["failures"]]
    return 1 if failed else 0


def _sizes(text: str) -> list[int]:
    sizes = sorted(int(part) for part in text.split(","))
    if sizes[0] < 4 * _STEP:
        raise argparse.ArgumentTypeError(f"at least {4 * _STEP} passages")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
