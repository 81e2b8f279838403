"""Dense indexes from 10,000 to 3,000,000 vectors: build, memory, speed and recall, beside FAISS.

    python benchmarks/retrieval.py [--sizes N,...] [--quick] [--json FILE]

Vectors of 256 numbers are made with a spectrum and with neighbourhoods as embeddings of texts have
them (retrieval/vectors.py); queries lie near one of them. For each size polyprag builds the index
that its rule chooses, from embeddings on disk, and plain FAISS the same kind of index in the usual
way: all vectors in memory, train, add, write. Each build and each search is a process of its own;
its peak is of anonymous memory, since pages of mapped files can be dropped at any time.
Where the index is lossy both score as many candidates again, FAISS by fp16 vectors in memory.
Recall is held against exact search. At 1,000,000 vectors routing rows of 320 numbers are attached:
what a search of ids, scores, rows and passages costs beyond FAISS's own.

What retrieval finds among real passages is measured by retrieval_text.py.
"""

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.processes import in_a_process
from harness.reporting import Goal, finish, options, show

SIZES = (10_000, 100_000, 1_000_000, 3_000_000)
QUICK_SIZES = (10_000, 120_000)
WITH_ROWS, QUICK_WITH_ROWS = 1_000_000, 120_000  # passages of the search with rows
WIKIPEDIA = 21_015_324  # passages of DPR's split
BOUNDED_FROM = 100_000  # vectors; below that a process without any is most of the memory
OVERHEAD = 1.05  # of a search with rows, goal
LIMIT_S = 3600.0
CUTOFFS = (1, 3, 10, 100)


def case(name: str, directory: Path, **values: Any) -> dict[str, Any]:
    """One case in a process of its own."""
    words = [f"{key}={value}" for key, value in values.items()]
    return in_a_process("retrieval.case", name, str(directory), *words, limit_s=LIMIT_S)


def of_size(directory: Path, size: int, *, num_queries: int) -> dict[str, Any]:
    """All cases of one size."""
    made = case("vectors", directory, size=size, queries=num_queries)
    systems: dict[str, Any] = {}
    for system in ("polyprag", "faiss"):
        built = case(f"build-{system}", directory, size=size)
        searched = case(f"search-{system}", directory, size=size)
        systems[system] = {"build": built, "search": searched}
    return {"exact": made, **systems}


def extrapolated(results: dict[int, dict[str, Any]], key: str) -> tuple[float, str]:
    """A build's figure for Wikipedia, from the largest sizes measured.

    Seconds follow a power law through the last two. A file grows with its vectors, and the last two
    may be indexes of different kinds.
    """
    (small, one), (large, other) = list(results.items())[-2:]
    before, last = (each["polyprag"]["build"][key] for each in (one, other))
    power = math.log(last / before) / math.log(large / small) if key == "seconds" else 1.0
    formula = f"{last:.4g} (N / {large:,})^{power:.2f}"
    return last * (WIKIPEDIA / large) ** power, formula


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--sizes", help="numbers of vectors, separated by commas")
    args = parser.parse_args()
    sizes = QUICK_SIZES if args.quick else SIZES
    if args.sizes:
        sizes = tuple(int(size) for size in args.sizes.split(","))
    num_queries = 200 if args.quick else 1000
    results: dict[int, dict[str, Any]] = {}
    goals: list[Goal] = []
    with_rows: dict[str, Any] | None = None
    for size in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary)
            results[size] = of_size(directory, size, num_queries=num_queries)
            print(json.dumps({size: results[size]}), file=sys.stderr)
            if size == (QUICK_WITH_ROWS if args.quick else WITH_ROWS):
                rounds = {"rounds": 2} if args.quick else {}
                with_rows = case("rows", directory, size=size, **rounds)
    both = [
        (f"{size:,}", system, each[system])
        for size, each in results.items()
        for system in ("polyprag", "faiss")
    ]
    show(
        "builds",
        ("vectors", "system", "index", "seconds", "peak MiB", "file MiB"),
        [
            (size, system, built["factory"], built["seconds"], built["peak_mib"], built["file_mib"])
            for size, system, of in both
            for built in (of["build"],)
        ],
    )
    show(
        "searches for 100 hits",
        ("vectors", "system", "queries/s", "ms for one", *(f"recall@{k}" for k in CUTOFFS)),
        [
            (
                *(size, system, found["queries_per_s"], found["ms_for_one"]),
                *(f"{found[f'recall@{k}']:.4f}" for k in CUTOFFS),
            )
            for size, system, of in both
            for found in (of["search"],)
        ],
    )
    for size, each in results.items():
        recall = each["polyprag"]["search"]["recall@10"]
        goals.append(Goal(f"{size:,}: recall@10", recall, ">= .95", recall >= 0.95))
        ratio = (
            each["polyprag"]["search"]["queries_per_s"] / each["faiss"]["search"]["queries_per_s"]
        )
        goals.append(Goal(f"{size:,}: queries/s / FAISS", ratio, ">= .9", ratio >= 0.9))
        if size >= BOUNDED_FROM:
            memory = each["polyprag"]["build"]["peak_mib"] / each["faiss"]["build"]["peak_mib"]
            goals.append(Goal(f"{size:,}: peak of the build / FAISS", memory, "< 1", memory < 1))
    if with_rows is not None:
        show(
            f"{with_rows['vectors']:,} passages with rows of {with_rows['numbers']} numbers",
            ("search", "FAISS ms", "ids ms", "rows ms", "rows / FAISS", "passages, too / FAISS"),
            [
                (
                    f"{batch} queries, {with_rows['k']} hits", one["faiss_ms"], one["ids_ms"],
                    one["rows_ms"], one["ratio"], one["ratio_with_passages"],
                )
                for batch, one in with_rows["batches"].items()
            ],
        )  # fmt: skip
        for batch, one in with_rows["batches"].items():
            for rival, key in (("FAISS", "ratio"), ("without rows", "ratio_to_ids")):
                name = f"rows attached, {batch} queries: time / {rival}"
                goals.append(Goal(name, one[key], f"<= {OVERHEAD}", one[key] <= OVERHEAD))
    extra: dict[str, Any] = {}
    if len(results) > 1 and not args.quick:
        for key in ("seconds", "file_mib"):
            value, formula = extrapolated(results, key)
            extra[key] = {"value": value, "formula": formula}
            print(f"{WIKIPEDIA:,} vectors, {key}: {value:,.0f} = {formula}")
    finish({"sizes": results, "with_rows": with_rows, "extrapolated": extra}, goals, args.json)


if __name__ == "__main__":
    main()
