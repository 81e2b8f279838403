import subprocess
import sys
import threading

import pytest

from polyprag.numba_kernels import in_threads

FORKED = """
import os
from polyprag import numba_kernels as machine_code

machine_code.num_cores = lambda: 2
os.environ.pop("OMP_NUM_THREADS", None)
seen = []
in_parent = lambda first, end: seen.extend(range(first, end))
machine_code.in_threads(in_parent, 10, at_least=1)
print(len(seen), flush=True)
child = os.fork()
if child == 0:
    machine_code.in_threads(in_parent, 10, at_least=1)
    os._exit(0 if len(seen) == 20 else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.parametrize(("limit", "threads"), [("3", 3), ("1", 1), ("", 4), ("9", 4), ("2,1", 4)])
def test_ranges_cover_everything_once_in_as_many_threads_as_allowed(
    monkeypatch: pytest.MonkeyPatch, limit: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setattr("polyprag.numba_kernels.num_cores", lambda: 4)
    ranges = []
    together = threading.Barrier(threads, timeout=10)  # which only that many at once pass

    def run(first: int, end: int) -> None:
        ranges.append((first, end))
        together.wait()

    in_threads(run, 10, at_least=2)
    assert sorted(i for first, end in ranges for i in range(first, end)) == list(range(10))
    assert len(ranges) == threads


@pytest.mark.parametrize("count", [0, 1, 7])
def test_little_is_done_by_the_caller_itself(count: int) -> None:
    seen = []

    def run(first: int, end: int) -> None:
        seen.append((threading.get_ident(), first, end))

    in_threads(run, count, at_least=4)
    assert seen == [(threading.get_ident(), 0, count)]


def test_an_error_in_a_thread_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyprag.numba_kernels.num_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def run(first: int, _end: int) -> None:
        if first == 0:
            raise IndexError("the first half")

    with pytest.raises(IndexError, match="the first half"):
        in_threads(run, 10, at_least=1)


def test_a_forked_process_has_threads_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout.split() == ["10", "0"], done.stderr
