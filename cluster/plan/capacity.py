"""Whether a pool of experts holds a corpus, by the law that benchmarks/capacity.py fitted.

A pool of few experts for the facts of its passages answers worse; this is told before it is
trained. The law was measured with the small base that ships here and questions by rules
(docs/benchmarks.md#examples-and-capacity); what lies outside of what was measured is said.
"""

import math
from dataclasses import dataclass

from cluster.plan.model_shape import ModelShape

GOOD_SHARE = 0.95  # of what a pool with room has
LAW_RATE = 3e-3  # of the experts, at which the law was measured
MOST_ADVISED = 1_000  # experts; far more than were measured


@dataclass(frozen=True, slots=True)
class CapacityLaw:
    """The share of its best F1 that a pool has, on passages' own rows, by what it is made of.

    sigmoid(start + experts ln(K) + facts ln(facts) + size ln(parameters an expert) + sites ln(S)).

    Attributes:
        start: of the log odds.
        experts: for the logarithm of the number of experts.
        facts: for the logarithm of the number of facts; negative.
        size: for the logarithm of an expert's parameters.
        sites: for the logarithm of a routing row's sites.
        most_facts: that it rests on.
        num_experts: least and most that it rests on.
        expert_sizes: parameters of an expert, likewise; larger ones are taken to be no better.
    """

    start: float
    experts: float
    facts: float
    size: float
    sites: float
    most_facts: int
    num_experts: tuple[int, int]
    expert_sizes: tuple[int, int]

    def share(self, shape: ModelShape, facts: int) -> float:
        """Returns the expected share, from 0 to 1."""
        return 1 / (1 + math.exp(-self._odds(shape, facts)))

    def experts_for(self, share: float, shape: ModelShape, facts: int) -> int:
        """Returns how many experts of this size would have a share."""
        missing = math.log(share / (1 - share)) - self._odds(shape, facts)
        return math.ceil(shape.experts * math.exp(missing / self.experts))

    def rests_on(self, shape: ModelShape, facts: int) -> bool:
        """Whether such a pool was among those that were measured."""
        fewest, largest = self.num_experts
        smallest, widest = self.expert_sizes
        return (
            facts <= self.most_facts
            and fewest <= shape.experts <= largest
            and smallest <= shape.expert_parameters / shape.experts <= widest
        )

    def _odds(self, shape: ModelShape, facts: int) -> float:
        return (
            self.start
            + self.experts * math.log(shape.experts)
            + self.facts * math.log(facts)
            + self.size
            * math.log(min(shape.expert_parameters / shape.experts, self.expert_sizes[1]))
            + self.sites * math.log(shape.sites)
        )


MEASURED_LAW = CapacityLaw(  # docs/results/capacity.json
    start=-11.0591,
    experts=1.3585,
    facts=-0.8511,
    size=1.5596,
    sites=0.2697,
    most_facts=60_638,
    num_experts=(8, 128),
    expert_sizes=(16_896, 67_584),
)


@dataclass(frozen=True, slots=True)
class PoolCapacity:
    """What a pool is to hold, and how well one like it did.

    Attributes:
        facts: distinct answers of the passages, estimated from a sample.
        facts_per_passage: mean.
        num_experts: K of the pool.
        share: expected, of the F1 that a pool with room has on what it learnt, from 0 to 1.
        enough: how many experts would come to .95; None where the pool does.
        is_measured: whether what was measured has as many experts, of such a size, and facts.
    """

    facts: int
    facts_per_passage: float
    num_experts: int
    share: float
    enough: int | None
    is_measured: bool

    @property
    def facts_per_expert(self) -> float:
        """How many facts each expert has a part in, were they dealt out."""
        return self.facts / self.num_experts


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
        law: by which the share is expected.

    Returns:
        None where there is nothing to learn.
    """
    facts = round(num_passages * facts_per_passage)
    if facts < 1:
        return None
    share = law.share(shape, facts)
    return PoolCapacity(
        facts=facts,
        facts_per_passage=facts_per_passage,
        num_experts=shape.experts,
        share=share,
        enough=None if share >= GOOD_SHARE else law.experts_for(GOOD_SHARE, shape, facts),
        is_measured=law.rests_on(shape, facts),
    )
