import gc
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.prefetch import Prefetch

NAME = "test-prefetch"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not threads()


class Counting(Iterator[int]):
    """0, 1, 2, ... with the number of items given so far."""

    given = 0

    def __next__(self) -> int:
        self.given += 1
        return self.given - 1


@given(st.lists(st.integers()), st.integers(1, 5))
def test_it_gives_the_sources_items_in_order_and_ends(items: list[int], size: int) -> None:
    with Prefetch(iter(items), size=size, name=NAME) as prefetch:
        assert list(prefetch) == items
        assert list(prefetch) == []


def wait_until_still(source: Counting) -> int:
    while True:
        before = source.given
        time.sleep(0.05)
        if source.given == before:
            return before


def test_it_reads_no_further_ahead_than_its_size() -> None:
    source = Counting()
    with Prefetch(source, size=3, name=NAME) as prefetch:
        assert wait_until_still(source) == 3
        assert next(prefetch) == 0
        assert wait_until_still(source) == 4


def test_close_ends_a_thread_that_waits_for_room_and_the_iteration() -> None:
    prefetch = Prefetch(Counting(), size=1, name=NAME)
    assert next(prefetch) == 0
    prefetch.close()
    prefetch.close()
    assert not threads()
    assert list(prefetch) == []


def test_an_error_comes_after_the_items_before_it_and_again() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    prefetch = Prefetch(source(), size=4, name=NAME)
    assert next(prefetch) == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            next(prefetch)
    prefetch.close()


def test_an_exception_in_the_consumer_ends_the_thread() -> None:
    with pytest.raises(KeyError), Prefetch(Counting(), size=2, name=NAME) as prefetch:
        next(prefetch)
        raise KeyError
    assert not threads()


def test_a_forgotten_one_ends_its_thread() -> None:
    prefetch = Prefetch(Counting(), size=2, name=NAME)
    next(prefetch)
    (thread,) = threads()
    del prefetch
    gc.collect()
    thread.join(timeout=2)
    assert not thread.is_alive()


def test_closing_closes_the_generator_that_it_read() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with Prefetch(source(), size=1, name=NAME) as prefetch:
        next(prefetch)
    assert closed.is_set()
