"""Many who want one run: processes, each of which takes itself to be on a machine of its own.

Round after round all of them ask for the run's lease. The holder of the round before is stopped
(not killed: it doesn't know) and renews no more, so that its lease ends; woken up, it must find
that another has it.
"""

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sharding.storage.lease
from sharding.storage.lease import LeaseError, check_lease, take


@dataclass(slots=True)
class _Contender:
    process: Any
    pipe: Connection


def contend(directory: Path, *, contenders: int, rounds: int, length_s: float) -> dict[str, Any]:
    """Lets them contend.

    Args:
        directory: of the lease.
        contenders: processes.
        rounds: one winner each; the winner of the last but one round is stopped.
        length_s: of a lease.

    Returns:
        How many won each round, the winners' numbers, in how many rounds the one before was
        refused to write, and the longest time that a round took.
    """
    context = get_context("fork")
    all_of: list[_Contender] = []
    for number in range(contenders):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_contender, args=(str(directory), number, length_s, theirs), daemon=True
        )
        process.start()
        theirs.close()
        all_of.append(_Contender(process, ours))
    winners: list[int] = []
    numbers: list[int] = []
    refused, longest = 0, 0.0
    stopped: _Contender | None = None
    try:
        for _ in range(rounds):
            started = time.monotonic()
            asked = [one for one in all_of if one is not stopped]
            for one in asked:
                one.pipe.send("take")
            answers = [one.pipe.recv() for one in asked]
            longest = max(longest, time.monotonic() - started)
            won = [one for one, answer in zip(asked, answers, strict=True) if answer]
            winners.append(len(won))
            numbers += [answer for answer in answers if answer]
            if stopped is not None:
                os.kill(stopped.process.pid, signal.SIGCONT)
                stopped.pipe.send("check")
                refused += not stopped.pipe.recv()
            stopped = won[0]
            os.kill(stopped.process.pid, signal.SIGSTOP)
    finally:
        for one in all_of:
            one.process.kill()
        for one in all_of:
            one.process.join()
    return {
        "contenders": contenders,
        "winners": winners,
        "numbers": numbers,
        "refused": refused,
        "seconds": longest,
    }


def _contender(directory: str, number: int, length_s: float, pipe: Connection) -> None:
    sharding.storage.lease._machine = lambda: f"machine {number}"
    held = 0
    while True:
        asked = pipe.recv()
        if asked == "take":
            try:
                held = take(directory, purpose="encode", length_s=length_s).number
                pipe.send(held)
            except LeaseError:
                pipe.send(0)
            continue
        try:
            check_lease(directory, held)
            pipe.send(True)
        except LeaseError:
            pipe.send(False)
