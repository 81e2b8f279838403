"""Whether a pool of experts holds a corpus, by the law that benchmarks/capacity.py fitted.

A pool of few parameters for the facts of its passages answers worse, however long it is trained;
this is told before it is. The law was measured with the small base that ships here and questions
by rules (docs/benchmarks.md#examples-and-capacity); what lies outside of what was measured is said.
"""

import math
from dataclasses import dataclass

from cluster.plan.model_shape import ModelShape

_GOOD = 0.95  # of the F1 that the largest pools had


@dataclass(frozen=True, slots=True)
class CapacityLaw:
    """F1 on a passage's own row = sigmoid(start + pool ln(parameters a fact) + row ln(numbers)).

    Attributes:
        start: of the log odds.
        pool: for the logarithm of the pool's parameters a fact.
        row: for the logarithm of a routing row's numbers.
        best: the F1 of the roomiest pools, which none comes above.
        parameters: a fact, least and most that were measured.
        numbers: of a row, least and most that were measured.
    """

    start: float
    pool: float
    row: float
    best: float
    parameters: tuple[float, float]
    numbers: tuple[int, int]

    def f1(self, parameters_per_fact: float, numbers_per_row: int) -> float:
        """Returns the expected F1, from 0 to `best`."""
        odds = self._odds(parameters_per_fact, numbers_per_row)
        return min(self.best, 1 / (1 + math.exp(-odds)))

    def times_larger(self, parameters_per_fact: float, numbers_per_row: int, f1: float) -> float:
        """Returns how many times the experts, whose rows are as many times longer, have that F1."""
        missing = math.log(f1 / (1 - f1)) - self._odds(parameters_per_fact, numbers_per_row)
        return math.exp(missing / (self.pool + self.row))

    def holds_for(self, parameters_per_fact: float, numbers_per_row: int) -> bool:
        """Whether a pool's numbers are among those that were measured."""
        (least, most), (shortest, longest) = self.parameters, self.numbers
        return least <= parameters_per_fact <= most and shortest <= numbers_per_row <= longest

    def _odds(self, parameters_per_fact: float, numbers_per_row: int) -> float:
        return (
            self.start
            + self.pool * math.log(parameters_per_fact)
            + self.row * math.log(numbers_per_row)
        )


MEASURED_LAW = CapacityLaw(
    start=-1.0, pool=0.3, row=0.1, best=0.89, parameters=(20.0, 3_000.0), numbers=(32, 1_536)
)


@dataclass(frozen=True, slots=True)
class PoolCapacity:
    """What a pool is to hold, and how well one like it did.

    Attributes:
        facts: distinct answers of the passages, estimated from a sample.
        facts_per_passage: mean.
        parameters: of the pool.
        numbers_per_row: S x K.
        f1: expected on questions like those learnt, from 0 to 1.
        best_f1: what a pool with room had.
        experts: how many would come to .95 of that; None where the pool does.
        is_measured: whether a pool with such numbers was measured, so that `f1` isn't a guess.
    """

    facts: int
    facts_per_passage: float
    parameters: int
    numbers_per_row: int
    f1: float
    best_f1: float
    experts: int | None
    is_measured: bool

    @property
    def parameters_per_fact(self) -> float:
        """How much of the pool there is for a fact."""
        return self.parameters / self.facts


def pool_capacity(
    shape: ModelShape,
    *,
    num_passages: int,
    facts_per_passage: float,
    law: CapacityLaw = MEASURED_LAW,
) -> PoolCapacity | None:
    """Compares a pool with what its passages say.

    Args:
        shape: of the pool.
        num_passages: that have a row.
        facts_per_passage: mean number of distinct answers.
        law: by which F1 is expected.

    Returns:
        None where there is nothing to learn.
    """
    facts = round(num_passages * facts_per_passage)
    if facts < 1:
        return None
    numbers = shape.sites * shape.experts
    share = shape.expert_parameters / facts
    times = law.times_larger(share, numbers, _GOOD * law.best)
    return PoolCapacity(
        facts=facts,
        facts_per_passage=facts_per_passage,
        parameters=shape.expert_parameters,
        numbers_per_row=numbers,
        f1=law.f1(share, numbers),
        best_f1=law.best,
        experts=math.ceil(shape.experts * times) if times > 1 else None,
        is_measured=law.holds_for(share, numbers),
    )
