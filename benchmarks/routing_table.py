"""What the routing table costs a step as it grows, beside five ways to keep such a table.

    python benchmarks/routing_table.py [--quick] [--json FILE] [--picture FILE]

A step gathers 512 rows, and updates them and their moments with a given gradient. They come from 8
lanes that stream partitions of 256 rows, each row 8 times while its partition is read. The steps
are timed one right after the other, and then beside a model: with 10 ms between them, for which a
training step of any model leaves the table alone, and all waiting for files counted.

Each case is a process of its own. Our partitions, or a memory map's rows, are on disk when it
starts, and what we write is synced; of tables larger than the memory that is free they are read
from the disk. Only what the timed steps touch is ever there, except in the whole epochs at the end.
Of repeated cases each figure is the best, and memory the largest.
"""

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.reporting import finish, options
from routing_table.picture import draw
from routing_table.report import Results, best_of, goals, print_epochs, print_width
from routing_table.stream import ROWS_A_STEP
from routing_table.systems import OURS, SYSTEMS, Case, System, measure, memory

EXPERTS = 20
SITES = {20: 1, 320: 16, 960: 48}  # by width: the model; each layer, and each Linear, of a 1B model
PARTITION, LARGE_PARTITION = 256, 4096  # rows; the latter from 1e8 on
MEMORY_SHARE = 0.7  # of what is available that a case may have
_QUICK_WIDTH, _QUICK_SIZES = 320, (10_000, 100_000)
_SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
INSTALL = """\
A rival that this benchmark needs is missing: fbgemm-gpu-cpu. It changes nothing that is installed:
  {python} -m pip install -c constraints-cpu.txt -r benchmarks/requirements-routing-table.txt"""
_LARGEST = (100_000_000, 20)
_EPOCHS = ((10_000_000, 20), (1_000_000, 320), (1_000_000, 960))


def case_of(num_rows: int, width: int, *, quick: bool, whole_epoch: bool = False) -> Case:
    """The case of a table."""
    return Case(
        num_rows=num_rows,
        sites=SITES[width],
        experts=EXPERTS,
        partition_size=PARTITION if num_rows < _LARGEST[0] else LARGE_PARTITION,
        warm_up=20,
        steps=None if whole_epoch else 320 if quick else 2560 if width == 20 else 640,
        beside=0 if whole_epoch else 40 if quick else 160,
        budget_s=1.0 if quick else 4.0,
    )


def cases(args: argparse.Namespace) -> list[Case]:
    """All tables that every system is given."""
    if args.quick:
        return [case_of(size, _QUICK_WIDTH, quick=True) for size in _QUICK_SIZES]
    tables = [(size, width) for width in args.widths for size in args.sizes]
    if args.sizes == list(_SIZES) and _LARGEST[1] in args.widths:
        tables.append(_LARGEST)
    return [case_of(*table, quick=False) for table in tables]


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=_numbers, default=list(_SIZES), help="rows of a table")
    parser.add_argument("--widths", type=_widths, default=list(SITES), help="numbers of a row")
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="of what is near us")
    parser.add_argument("--directory", type=Path, help="for the tables' files, on a real disk")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the picture there")
    args = parser.parse_args()
    if find_spec("fbgemm_gpu") is None:
        print(INSTALL.format(python=sys.executable), file=sys.stderr)
        return 2
    limit = {
        "memory_limit": int(MEMORY_SHARE * memory()["available"]),
        "cold_bytes": memory()["available"],
    }
    repeats = 1 if args.quick else args.repeats
    runs: dict[tuple[Case, System], list[dict[str, Any]]] = {}
    epochs: list[tuple[Case, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(prefix="routing-table-", dir=args.directory) as temporary:
        scratch = Path(temporary)
        for turn in range(repeats):
            for case in cases(args):
                for system in SYSTEMS:
                    if turn and not system.contends:
                        continue
                    if args.quick and system.name == "peft" and case.num_rows > _QUICK_SIZES[0]:
                        continue  # its import alone takes a tenth of a quick run
                    result = measure(system, case, scratch=scratch, **limit)
                    _tell(system, case, result)
                    runs.setdefault((case, system), []).append(result)
        for size, width in () if args.quick else _EPOCHS:
            if size in args.sizes and width in args.widths:
                case = case_of(size, width, quick=False, whole_epoch=True)
                epochs.append((case, measure(SYSTEMS[0], case, scratch=scratch, **limit)))
                _tell(SYSTEMS[0], *epochs[-1])
    results: Results = {}
    for (case, system), of in runs.items():
        results.setdefault((case.width, case.num_rows), {})[system.name] = best_of(of)
    for width in sorted({case.width for case in cases(args)}):
        print_width(width, results)
    if epochs:
        print_epochs(epochs)
    if args.picture is not None:
        draw(args.picture, results, title=f"A step of {ROWS_A_STEP} rows as the table grows")
    whole = {
        "repeats": repeats,
        "quick": args.quick,
        **limit,
        "tables": [
            {"width": width, "rows": num_rows, "systems": of}
            for (width, num_rows), of in sorted(results.items())
        ],
        "epochs": [{"width": c.width, "rows": c.num_rows, OURS: of} for c, of in epochs],
    }
    finish(whole, goals(results, epochs), args.json)
    return 0


def _tell(system: System, case: Case, result: dict[str, Any]) -> None:
    said = result.get("error") or ("out of memory" if "out_of_memory" in result else None)
    if said is None:
        said = f"{result['steps']['median_ms']:.3f} ms"
    print(f"  {case.num_rows:,} x {case.width}, {system.label}: {said}", file=sys.stderr)


def _numbers(text: str) -> list[int]:
    return sorted({int(float(number)) for number in text.split(",")})


def _widths(text: str) -> list[int]:
    widths = _numbers(text)
    if not set(widths) <= set(SITES):
        raise argparse.ArgumentTypeError(f"choose of {', '.join(map(str, SITES))}")
    return widths


if __name__ == "__main__":
    sys.exit(main())
