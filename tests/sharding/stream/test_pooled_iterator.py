import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from sharding.stream.pooled_iterator import PooledIterator


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("squares")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threads():
        thread.join(timeout=5)
    assert not threads()


class Squares(PooledIterator[int]):
    """The squares of 0, 1, ..., four of them ordered ahead."""

    def __init__(self, stop: int, square: Callable[[int], int] = lambda i: i * i) -> None:
        super().__init__(threads=2, name="squares")
        self._next, self._stop, self._square = 4, stop, square
        self._coming: list[Future[int]] = [self._pool.submit(square, i) for i in range(4)]

    def _take(self) -> int | None:
        if self._next - 4 == self._stop:
            return None
        self._coming.append(self._pool.submit(self._square, self._next))
        self._next += 1
        return self._coming.pop(0).result()


def test_it_gives_the_items_in_order_and_ends_its_threads_at_the_end() -> None:
    squares = Squares(10)
    assert list(squares) == [i * i for i in range(10)]
    assert list(squares) == []


def test_close_ends_the_iteration() -> None:
    with Squares(10) as squares:
        assert next(squares) == 0
    assert list(squares) == []
    assert not threads()
    squares.close()


def test_a_forgotten_one_ends_its_threads() -> None:
    squares = Squares(10)
    next(squares)
    assert threads()
    del squares
    gc.collect()


def test_an_error_comes_in_its_turn_and_again_and_ends_the_threads() -> None:
    def fails_at_two(i: int) -> int:
        return 10 // (2 - i)

    squares = Squares(10, fails_at_two)
    assert [next(squares), next(squares)] == [5, 10]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            next(squares)


def test_a_stray_stop_iteration_is_no_end() -> None:
    def stray(i: int) -> int:
        raise StopIteration

    squares = Squares(10, stray)
    with pytest.raises(RuntimeError, match="in the midst"):
        list(squares)


def test_an_exception_in_the_consumer_ends_the_threads() -> None:
    with pytest.raises(KeyError), Squares(10) as squares:
        next(squares)
        raise KeyError
    assert not threads()
