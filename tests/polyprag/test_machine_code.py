import threading

import pytest

from polyprag.machine_code import in_threads


@pytest.mark.parametrize(("limit", "threads"), [("3", 3), ("1", 1), ("", 4), ("9", 4), ("2,1", 4)])
def test_ranges_cover_everything_once_in_as_many_threads_as_allowed(
    monkeypatch: pytest.MonkeyPatch, limit: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setattr("polyprag.machine_code.num_cores", lambda: 4)
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
    monkeypatch.setattr("polyprag.machine_code.num_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def run(first: int, _end: int) -> None:
        if first == 0:
            raise IndexError("the first half")

    with pytest.raises(IndexError, match="the first half"):
        in_threads(run, 10, at_least=1)
