"""The tables of the model on GPUs, with what is assumed."""

import statistics
from dataclasses import asdict
from typing import Any

from harness.reporting import Goal, show
from scaling.forecast import (
    ASSUMED,
    SLOW,
    Row,
    Variant,
    compute_of,
    lengths_of_examples,
    operations,
    predict,
    wikipedia,
)

BATCH_TOKENS = 800  # what the least time of a physical batch is worth: `Compute.floor / token`
VARIANTS = (
    Variant("ZeRO 2, 8,192 a partition"),
    Variant("ZeRO 1", stage=1),
    Variant("ZeRO 1, few batches", stage=1, overhead=BATCH_TOKENS),
    Variant("the same, 8,210 a partition", stage=1, overhead=BATCH_TOKENS, partition_size=8210),
    Variant(
        "the same, 16 examples a lane",
        stage=1,
        overhead=BATCH_TOKENS,
        partition_size=8210,
        microbatch=16,
    ),
    Variant("ZeRO 2, 8,192 a partition, 100 Gb/s", bandwidth=SLOW),
    Variant(
        "ZeRO 1, few batches, 8,210, 100 Gb/s",
        stage=1,
        overhead=BATCH_TOKENS,
        partition_size=8210,
        bandwidth=SLOW,
    ),
    Variant("packed, ZeRO 1", stage=1, packs=True, partition_size=8210),
    Variant("packed, 16 examples a lane", stage=1, packs=True, partition_size=8210, microbatch=16),
    Variant("packed, 64 examples a lane", stage=1, packs=True, partition_size=8210, microbatch=64),
)


def paper(*, quick: bool) -> tuple[dict[str, Any], list[Goal]]:
    """Prints what the model makes of all of Wikipedia on GPUs."""
    config, shape = wikipedia()
    lengths, learnt = lengths_of_examples(config)
    launched = operations(config, packs=False)
    padded = compute_of(shape, launched)
    packed = compute_of(shape, operations(config, packs=True), learnt=learnt)
    workers = (8, 64, 256) if quick else (8, 16, 32, 64, 128, 256)
    print("\nOn paper, nothing of it measured on a GPU. Assumed:")
    for assumption in ASSUMED:
        print(f"- {assumption}")
    print(
        f"- {4 * shape.expert_parameters / 1e6:,.0f} MB of experts; {launched:,} operations a "
        f"physical batch (at least {padded.floor * 1e3:.1f} ms), {padded.token * 1e6:.1f} us a "
        f"token; packed {packed.floor * 1e3:.1f} ms and {packed.token * 1e6:.1f} us; "
        f"{statistics.mean(lengths):.0f} tokens an example ({min(lengths)} to {max(lengths)}), of "
        f"which {learnt:.0%} are learnt"
    )
    made: dict[str, Any] = {}
    for variant in (*VARIANTS[:2], VARIANTS[-1]) if quick else VARIANTS:
        compute = packed if variant.packs else padded
        rows = predict(
            config, shape, lengths, compute, variant, workers=workers, steps=4 if quick else 20
        )
        show(
            f"all of Wikipedia, one epoch: {variant.name}",
            (
                "GPUs",
                "step ms",
                "compute",
                "waiting",
                "communication",
                "batches",
                "tokens/s",
                "efficiency",
                "hours",
            ),
            [
                (
                    row.workers,
                    *(1e3 * x for x in (row.step, row.compute, row.waiting, row.communication)),
                    row.batches,
                    f"{row.tokens_per_second:,.0f}",
                    efficiency(row, rows[0]),
                    row.hours,
                )
                for row in rows
            ],
        )
        made[variant.name] = {
            "variant": asdict(variant),
            "rows": [asdict(row) | {"efficiency": efficiency(row, rows[0])} for row in rows],
        }
    of_workers = {row["workers"]: row["efficiency"] for row in made[VARIANTS[-1].name]["rows"]}
    goals = [
        Goal(
            f"on paper, {VARIANTS[-1].name}: {number} GPUs' efficiency against 8",
            of_workers[number],
            f">= {least}",
            of_workers[number] >= least,
        )
        for number, least in ((64, 0.7), (256, 0.4))
    ]
    found = {
        "assumed": list(ASSUMED),
        "compute": {"padded": asdict(padded), "packed": asdict(packed)},
        "operations": launched,
        "tokens_an_example": statistics.mean(lengths),
        "variants": made,
    }
    return found, goals


def efficiency(row: Row, first: Row) -> float:
    """Tokens a second and GPU, over those of the fewest GPUs."""
    return float(row.tokens_per_second / row.workers / (first.tokens_per_second / first.workers))
