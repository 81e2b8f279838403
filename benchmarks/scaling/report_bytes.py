"""What a worker sends in a step: counted in two ways, and by formula."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.plan.model_shape import model_shape
from harness.reporting import Goal, show
from polyprag.config.files import load_config
from scaling.model import NUMBERS
from scaling.runs import Run
from scaling.trace import sent_by_algorithm
from scaling.workers import Ranks
from sharding.corpus.manifest import CorpusManifest


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a worker sends in a step.

    Attributes:
        workers: of the group.
        passages: of the corpus.
        width: numbers of a row.
        stage: of ZeRO.
        batches: physical batches, the least and the most of a step.
        experts: bytes of the experts' gradients.
        given: bytes that are given to collectives, the least and the most of a step and worker.
        sent: bytes on the sockets, the least and the most.
        formula: bytes that should be sent, the least and the most.
        error: of the formula against the sockets, the largest as a share.
    """

    workers: int
    passages: int
    width: int
    stage: int
    batches: tuple[int, int]
    experts: int
    given: tuple[int, int]
    sent: tuple[int, int]
    formula: tuple[int, int]
    error: float


def traffic_of(run: Run, overrides: Sequence[str], ranks: Ranks) -> Traffic:
    """Sums a case's collectives and sockets up."""
    config = load_config([], list(overrides))
    shape = model_shape(config)
    experts, stage = 4 * shape.expert_parameters, config.deepspeed.stage
    records = [record for of_rank in ranks for record in of_rank]
    formula = [
        expected_bytes(experts, workers=len(ranks), reductions=r.batches if stage == 2 else 1)
        for r in records
    ]
    errors = [abs(r.sent / of - 1) for r, of in zip(records, formula, strict=True)]
    return Traffic(
        workers=len(ranks),
        passages=CorpusManifest.load(run.directory / "corpus").num_passages,
        width=shape.sites * shape.experts,
        stage=stage,
        batches=_range([r.batches for r in records]),
        experts=experts,
        given=_range([sum(call.num_bytes for call in r.calls) for r in records]),
        sent=_range([r.sent for r in records]),
        formula=_range([round(of) for of in formula]),
        error=max(errors),
    )


def expected_bytes(experts: int, *, workers: int, reductions: int) -> float:
    """What a worker sends in a step: the experts' gradients and weights, and a few numbers."""
    reduced = sent_by_algorithm("all_reduce", experts, workers=workers)
    gathered = sent_by_algorithm("all_gather", -(-experts // workers), workers=workers)
    numbers = 2 * sent_by_algorithm("all_gather", NUMBERS, workers=workers)
    return (
        reductions * reduced
        + gathered
        + numbers
        + sent_by_algorithm("all_reduce", 4, workers=workers)
    )


def _range(values: Sequence[int]) -> tuple[int, int]:
    return min(values), max(values)


def traffic(cases: Sequence[Traffic]) -> tuple[list[dict[str, Any]], list[Goal]]:
    """Prints what a worker sends."""
    show(
        "bytes that a worker sends in a step (the least and the most, where they differ)",
        (
            "workers",
            "passages",
            "numbers a row",
            "ZeRO",
            "physical batches",
            "experts",
            "given to collectives",
            "sent on sockets",
            "formula",
            "off",
        ),
        [
            (
                of.workers,
                f"{of.passages:,}",
                of.width,
                of.stage,
                *map(
                    _shown,
                    (
                        of.batches,
                        (of.experts, of.experts),
                        of.given,
                        of.sent,
                        of.formula,
                    ),
                ),
                f"{of.error:.2%}",
            )
            for of in cases
        ],
    )
    uniform = [of for of in cases if of.workers == 2 and of.batches == (1, 1)]
    least = min(of.passages for of in uniform)
    by_size = [of for of in uniform if of.width == uniform[0].width]
    by_width = [of for of in uniform if of.passages == least]
    sizes, widths = _most(by_size), _most(by_width)
    error = max(of.error for of in cases)
    goals = [
        Goal(
            f"bytes: {max(of.passages for of in by_size):,} passages / {least:,}, sent and given",
            sizes,
            "<= 1.001",
            sizes <= 1.001,
        ),
        Goal(
            f"bytes: rows of {max(of.width for of in by_width):,} numbers / of "
            f"{min(of.width for of in by_width)}",
            widths,
            "<= 1.001",
            widths <= 1.001,
        ),
        Goal("bytes on the sockets against the formula: off by", error, "<= 0.01", error <= 0.01),
    ]
    return [asdict(of) for of in cases], goals


def _most(cases: Sequence[Traffic]) -> float:
    """The largest of these cases' bytes over the smallest."""
    return max(
        max(of.sent[1] for of in cases) / min(of.sent[0] for of in cases),
        max(of.given[1] for of in cases) / min(of.given[0] for of in cases),
    )


def _shown(values: tuple[int, int]) -> str:
    least, most = values
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
