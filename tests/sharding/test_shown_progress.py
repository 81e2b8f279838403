"""Tasks tell how far they are to whoever listens, and are counted once."""

from collections.abc import Iterator

from sharding.shown_progress import PartCount, tell_part


def work(shares: list[float]) -> Iterator[None]:
    for share in shares:
        tell_part(share)
    yield


def test_units_are_counted_while_a_task_is_at_work_and_once_in_all() -> None:
    told: list[tuple[int, str]] = []
    count = PartCount(lambda number, note="": told.append((number, note)), [10, 3, 4])
    tell_part(0.5)  # nobody listens yet
    with count.listening():
        for shares in ([0.25, 0.5, 0.5, 1.0], [], [0.3]):
            for _ in work(shares):
                count.finish("done")
    tell_part(1.0)  # nobody does any more
    # 2.5, 5, 5 and 10 of ten passages in whole ones; then three at once; then 1.2 of four.
    assert told == [(2, ""), (3, ""), (5, ""), (0, "done"), (3, "done"), (1, ""), (3, "done")]
