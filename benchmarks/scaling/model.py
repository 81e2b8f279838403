"""How long a global step takes: compute of the busiest worker, then what the network moves.

    step = max over workers of sum over its physical batches of max(floor, batch + token x tokens)
         + R all-reduces and one all-gather of the experts + three collectives of a few numbers
    collective = latency x ceil(log2 W) + bytes that a worker sends / bandwidth

R is 1 at ZeRO stage 1; at stage 2 DeepSpeed reduces after every physical batch. Nothing overlaps.
Where workers share cores, what they all compute is divided by the cores, and the network, which is
made of the same cores here, is slower by as much.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from scaling.trace import sent_by_algorithm
from scaling.workers import Ranks, StepRecord

NUMBERS = 40  # bytes that each worker tells all others at a step's beginning, and at its end
_SMALL = 1024  # a collective of fewer bytes takes as long as one of none


@dataclass(frozen=True, slots=True)
class Compute:
    """Seconds of one worker: of a step, of a physical batch, and of a token (padding included).

    Attributes:
        step: whatever is in it.
        batch: whatever is in it.
        token: each.
        floor: the least that a physical batch takes.
    """

    step: float
    batch: float
    token: float
    floor: float = 0.0

    def seconds(self, batches: Sequence[int], *, num_batches: int) -> float:
        """Of a step with physical batches of so many tokens, and empty ones up to a number."""
        empty = num_batches - len(batches)
        taken = sum(max(self.floor, self.batch + self.token * tokens) for tokens in batches)
        return self.step + taken + empty * max(self.floor, self.batch)


@dataclass(frozen=True, slots=True)
class Network:
    """Between workers: seconds of a hop, and bytes a second that one worker sends."""

    latency: float
    bandwidth: float

    def seconds(self, name: str, num_bytes: int, *, workers: int) -> float:
        """Of a collective in which every worker gives so many bytes."""
        if workers == 1:
            return 0.0
        sent = sent_by_algorithm(name, num_bytes, workers=workers)
        return self.latency * math.ceil(math.log2(workers)) + sent / self.bandwidth

    def step_seconds(self, experts: int, *, workers: int, reductions: int) -> float:
        """Of all collectives of a step over so many bytes of experts."""
        small = 2 * self.seconds("all_gather", NUMBERS, workers=workers)
        small += self.seconds("all_reduce", 4, workers=workers)
        reduced = self.seconds("all_reduce", experts, workers=workers)
        gathered = self.seconds("all_gather", -(-experts // workers), workers=workers)
        return small + reductions * reduced + gathered


@dataclass(frozen=True, slots=True)
class Split:
    """Where a step's wall time went; means over workers, medians over steps, in seconds.

    Attributes:
        step: all of it.
        compute: outside of collectives, waits for data and rows included.
        waiting: in collectives that another worker hadn't come to yet.
        communication: in collectives that all had come to.
        data: of compute, what the slowest worker waited for examples and rows.
        cpu: processor seconds of all workers.
        tokens_per_second: of all workers, padding excluded.
    """

    step: float
    compute: float
    waiting: float
    communication: float
    data: float
    cpu: float
    tokens_per_second: float


def split(ranks: Ranks) -> Split:
    """Splits measured steps."""
    rows = []
    for of_step in zip(*ranks, strict=True):
        seconds = max(r.end for r in of_step) - min(r.begin for r in of_step)
        waiting = communication = 0.0
        for calls in zip(*(record.calls for record in of_step), strict=True):
            last = max(call.begin for call in calls)
            waiting += sum(min(last, call.end) - call.begin for call in calls)
            communication += sum(max(0.0, call.end - last) for call in calls)
        waiting, communication = waiting / len(ranks), communication / len(ranks)
        compute = statistics.mean(_compute(record) for record in of_step)
        data = of_step[0].data_wait + of_step[0].rows_wait
        cpu = sum(record.cpu for record in of_step)
        rate = of_step[0].tokens / seconds
        rows.append((seconds, compute, waiting, communication, data, cpu, rate))
    return Split(*(statistics.median(column) for column in zip(*rows, strict=True)))


def fit_compute(alone: Sequence[StepRecord]) -> Compute:
    """The seconds of a step, a batch and a token that fit one worker's steps best, none below 0."""
    known = np.array([(1, record.batches, sum(record.padded)) for record in alone], float)
    taken = np.array([_compute(record) for record in alone])
    # Relative errors: a small step's matters as much as a large one's.
    (step, batch, token), _ = nnls(known / taken[:, None], np.ones(len(taken)))
    return Compute(float(step), float(batch), float(token))


def fit_network(ranks: Ranks) -> Network:
    """The latency and bandwidth of collectives, from the last worker's coming to its going on."""
    workers = len(ranks)
    small: list[float] = []
    large: list[tuple[float, float]] = []
    for of_step in zip(*ranks, strict=True):
        for calls in zip(*(record.calls for record in of_step), strict=True):
            taken = max(call.end for call in calls) - max(call.begin for call in calls)
            if calls[0].num_bytes <= _SMALL:
                small.append(taken)
            else:
                sent = sent_by_algorithm(calls[0].name, calls[0].num_bytes, workers=workers)
                large.append((sent, taken))
    latency = statistics.median(small) / math.ceil(math.log2(workers))
    moved = statistics.median(sent / max(taken - latency, 1e-9) for sent, taken in large)
    return Network(latency, moved)


def predict(
    ranks: Ranks,
    compute: Compute,
    network: Network,
    *,
    cores: int,
    slower: float,
    experts: int,
) -> float:
    """The median step that the model gives for the batches of measured steps.

    Args:
        ranks: steps of each worker, of which nothing but the batches is used.
        compute: of a worker that is alone.
        network: of two workers.
        cores: of this machine.
        slower: by how much a worker computes slower beside another one.
        experts: bytes of their gradients.
    """
    workers = len(ranks)
    shared = max(1.0, workers / cores)
    busy = Network(network.latency * shared, network.bandwidth / shared)
    steps = []
    for of_step in zip(*ranks, strict=True):
        num = of_step[0].batches
        alone = [compute.seconds(record.padded, num_batches=num) for record in of_step]
        computed = slower * max(*alone, sum(alone) / cores) if workers > 1 else alone[0]
        steps.append(computed + busy.step_seconds(experts, workers=workers, reductions=num))
    return statistics.median(steps)


def slowdown(ranks: Ranks, compute: Compute) -> float:
    """By how much workers compute slower beside each other than alone."""
    return statistics.median(
        _compute(record) / compute.seconds(record.padded, num_batches=record.batches)
        for of_rank in ranks
        for record in of_rank
    )


def _compute(record: StepRecord) -> float:
    return record.end - record.begin - sum(call.end - call.begin for call in record.calls)
