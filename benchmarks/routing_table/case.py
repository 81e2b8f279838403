"""One case of the routing table's benchmark, in a fresh process that prints it as JSON.

    python -m routing_table.case MODULE ARGUMENTS

It imports only `routing_table_<module>`, which has `Table(stream, sites=, experts=, grad=,
directory=)` with `prepare`, `begin`, `step` and `close`, and may have `warm()`.
"""

import gc
import importlib
import json
import resource
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from data_plane.case import memory_mb
from routing_table.stream import ROWS_A_STEP, Step, Stream

MIN_STEPS = 3  # are made whatever they take
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory")


def main(arguments: Iterable[str]) -> None:
    """Measures and prints."""
    module, text = arguments
    values = json.loads(text)
    limit = values["memory_limit"]
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    system = importlib.import_module(f"routing_table.{module}")
    getattr(system, "warm", lambda: None)()
    stream = Stream(
        values["num_rows"], values["partition_size"], seed=1, shuffled=values["shuffled"]
    )
    shape = (ROWS_A_STEP, values["sites"], values["experts"])
    grad = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    gc.collect()
    memory = {"imported_mb": memory_mb()["now"]}
    try:
        result = measure(system.Table, stream, grad, values)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(t in str(error) for t in _NO_MEMORY):
            raise
        result = {"out_of_memory": True}
    memory["peak_mb"] = memory_mb()["peak"]
    stored = (path.stat() for path in Path(values["directory"]).iterdir())
    result["disk_bytes"] = sum(stat.st_blocks * 512 for stat in stored)  # holes take none
    print(json.dumps(memory | result), flush=True)


def measure(
    make: Callable[..., Any], stream: Stream, grad: Any, values: dict[str, Any]
) -> dict[str, Any]:
    """A case's step times.

    Args:
        make: The system's `Table`.
        stream: Which rows each step touches.
        grad: What every step updates with.
        values: The case.
    """
    table = make(
        stream,
        sites=values["sites"],
        experts=values["experts"],
        grad=grad,
        directory=Path(values["directory"]),
    )
    warm_up, steps, beside = values["warm_up"], values["steps"], values["beside"]
    if not values["whole_epoch"]:
        table.prepare(warm_up + steps + beside, cold=values["cold"])
    feed = _Feed(table, stream, epochs=1 if values["whole_epoch"] else None)
    started = time.perf_counter()
    feed.run(warm_up, budget_s=values["budget_s"] / 2)
    result = {"steps": summary(feed.run(steps, budget_s=values["budget_s"]))}
    if beside:
        result["beside"] = summary(
            feed.run(beside, budget_s=values["budget_s"], gap_s=values["gap_s"])
        )
    table.close()
    result["seconds"] = time.perf_counter() - started
    return result


class _Feed:
    """Gives a table the steps of a stream, epoch after epoch."""

    def __init__(self, table: Any, stream: Stream, *, epochs: int | None) -> None:
        self._table, self._stream = table, stream
        self._steps = self._all(epochs)

    def run(
        self, number: int, *, budget_s: float | None = None, gap_s: float = 0.0
    ) -> "array[float]":
        """The seconds of each of the next steps; fewer where they take more than the budget."""
        seconds = array("d")
        started = time.perf_counter()
        while len(seconds) < number:
            step = next(self._steps, None)
            if step is None:
                break
            began = time.perf_counter()
            self._table.step(step)
            seconds.append(time.perf_counter() - began)
            spent = time.perf_counter() - started
            if budget_s is not None and spent > budget_s and len(seconds) >= MIN_STEPS:
                break
            if gap_s:
                time.sleep(gap_s)
        return seconds

    def _all(self, epochs: int | None) -> Iterator[Step]:
        for epoch in count() if epochs is None else range(epochs):
            self._table.begin(self._stream.orders(epoch))
            yield from self._stream.steps(epoch)


def summary(seconds: "array[float]") -> dict[str, float]:
    """Of the seconds that steps took."""
    median, p99 = np.percentile(seconds, [50, 99])
    return {
        "number": len(seconds),
        "median_ms": float(median) * 1e3,
        "mean_ms": float(np.mean(seconds)) * 1e3,
        "p99_ms": float(p99) * 1e3,
        "rows_per_s": ROWS_A_STEP / float(np.mean(seconds)),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
