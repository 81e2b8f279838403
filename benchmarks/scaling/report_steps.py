"""Where a step's time goes on this machine, and how well the model of a step fits it."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cluster.plan.model_shape import model_shape
from harness.reporting import Goal, show
from scaling.model import fit_compute, fit_network, predict, slowdown, split
from scaling.runs import Run
from scaling.workers import Ranks


def steps(run: Run, measured: dict[str, list[Ranks]]) -> tuple[dict[str, Any], list[Goal]]:
    """Prints where a step's time goes, and how well the model fits it."""
    cores = os.cpu_count() or 1
    repeats = len(measured["1"])
    rates = {
        key: [split(ranks).tokens_per_second for ranks in measured[key]] for key in ("1", "2", "4")
    }
    splits = {key: split(_joined(measured[key])) for key in rates}
    speed = {
        key: statistics.median(of / alone for of, alone in zip(rates[key], rates["1"], strict=True))
        for key in rates
    }
    experts = 4 * model_shape(run.config).expert_parameters
    alone = [r for key, of in measured.items() if key.startswith("1") for r in _joined(of)[0]]
    compute = fit_compute(alone)
    two, four = _joined(measured["2"]), _joined(measured["4"])
    network, slower = fit_network(two), slowdown(two, compute)
    given = {"compute": compute, "network": network, "cores": cores, "experts": experts}
    modelled = {
        "1": predict(_joined(measured["1"]), slower=1.0, **given),  # type: ignore[arg-type]
        "2": predict(two, slower=slower, **given),  # type: ignore[arg-type]
        "4": predict(four, slower=slower, **given),  # type: ignore[arg-type]
    }
    error = {key: modelled[key] / splits[key].step - 1 for key in modelled}
    show(
        f"a step of 64 examples, ZeRO {run.config.deepspeed.stage}, {cores} cores: medians of "
        f"{len(two[0])} steps, {repeats} groups each in turns; 4 workers share {cores} cores",
        (
            "workers",
            "step s",
            "compute",
            "waiting",
            "communication",
            "for data",
            "processor s",
            "tokens/s",
            "x one",
            "model s",
            "off",
        ),
        [
            (
                key,
                of.step,
                of.compute,
                of.waiting,
                of.communication,
                of.data,
                of.cpu,
                f"{of.tokens_per_second:,.0f}",
                speed[key],
                modelled[key],
                f"{error[key]:+.1%}",
            )
            for key, of in splits.items()
        ],
    )
    print(
        f"fitted to 1 and 2 workers: {compute.step * 1e3:.1f} ms a step, {compute.batch * 1e3:.1f} "
        f"ms a physical batch, {compute.token * 1e6:.1f} us a token; {slower:.2f} times slower "
        f"beside another; {network.latency * 1e3:.2f} ms a collective, "
        f"{network.bandwidth / 1e6:,.0f} MB/s"
    )
    extra = splits["2"].cpu / splits["1"].cpu
    goals = [
        Goal("processor seconds of 2 workers / of 1", extra, "<= 1.25", extra <= 1.25),
        Goal("tokens/s of 2 workers / of 1", speed["2"], ">= 1.5", speed["2"] >= 1.5),
        Goal(
            "step of 4 workers, predicted from 1 and 2: off by",
            abs(error["4"]),
            "<= 0.25",
            abs(error["4"]) <= 0.25,
        ),
    ]
    results = {
        "splits": {key: asdict(of) for key, of in splits.items()},
        "speed": speed,
        "rates": rates,
        "modelled": modelled,
        "error": error,
        "compute": asdict(compute),
        "network": asdict(network),
        "slower": slower,
    }
    return results, goals


def _joined(groups: Sequence[Ranks]) -> Ranks:
    """The steps of several groups of as many workers, one group after the other."""
    return [[r for ranks in groups for r in ranks[rank]] for rank in range(len(groups[0]))]
