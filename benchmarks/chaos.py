"""What is left of a training whose machines die: the same weights, to the bit.

    python benchmarks/chaos.py [--quick] [--seed N] [--only SCENARIO,...] [--json FILE]

Encodes passages of examples/popqa with examples/tiny-base, in plain processes and without faults,
and then on a Ray cluster of several nodes on this machine, while

    kills     workers, raylets of nodes and the driver are SIGKILLed at random moments, 25 times
    elastic   nodes die, are drained and join, and training goes on with what there is
    power     every process of the cluster dies at once, the head's too, twice
    disk      the disk is full during a checkpoint
    store     the object store that the run is on can't be reached for half a minute, twice
    damage    files of the newest checkpoint are cut short, after the driver has died

After each: every step is there once, with the same examples; every routing row has had the same
number of updates; experts, rows and moments are the same to the bit (but for `elastic`, whose
number of workers varies: they are at most twice as far from those of two workers as those of one
worker without faults are); the run verifies; no temporary file and no process is left. `--quick`
has two kills.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from chaos.checks import orphans
from chaos.cluster import chaos_environment
from chaos.scenarios import SCENARIOS, Outcome, make_place
from harness.reporting import Goal, finish, options, show

TRAINING_AGAIN_S = 30.0


def run_all(names: Sequence[str], *, seed: int, quick: bool) -> list[Outcome]:
    """Runs scenarios one after another, each on clusters of its own."""
    outcomes = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        stack.enter_context(chaos_environment())
        place = make_place(directory, seed=seed, quick=quick)
        for name in names:
            started = time.monotonic()
            try:
                outcome = SCENARIOS[name](place)
            except (TimeoutError, RuntimeError) as error:
                outcome = Outcome(name, problems=[str(error)])
            outcome.problems += orphans()
            outcome.seconds = time.monotonic() - started
            outcomes.append(outcome)
            print(f"{name}: {outcome.seconds:.0f} s, {outcome.problems or 'all holds'}", flush=True)
    return outcomes


def _goals(outcomes: Sequence[Outcome], *, kills: int) -> list[Goal]:
    wrong = sum(bool(outcome.problems) for outcome in outcomes)
    goals = [Goal("scenarios after which something is wrong", wrong, "0", wrong == 0)]
    for outcome in outcomes:
        if outcome.name == "kills":
            number = outcome.faults.total()
            goals.append(Goal("processes SIGKILLed", number, f">= {kills}", number >= kills))
    if again := [second for outcome in outcomes for second in outcome.again_s]:
        name, middle = "median seconds from a death to the next step", median(again)
        goals.append(Goal(name, middle, f"< {TRAINING_AGAIN_S:.0f}", middle < TRAINING_AGAIN_S))
    return goals


def main() -> None:
    """Runs, shows and writes it down."""
    parser = options(__doc__ or "")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(SCENARIOS)}")
    arguments = parser.parse_args()
    names = list(SCENARIOS) if not arguments.quick else ["kills"]
    if arguments.only:
        names = arguments.only.split(",")
        if unknown := set(names) - set(SCENARIOS):
            sys.exit(f"error: no such scenario: {', '.join(sorted(unknown))}")
    outcomes = run_all(names, seed=arguments.seed, quick=arguments.quick)
    show(
        "faults and outcomes",
        ("scenario", "faults", "restarts", "steps repeated", "s to train again", "s", "outcome"),
        [
            (
                o.name,
                ", ".join(f"{count} {name}" for name, count in o.faults.items()),
                o.restarts,
                o.repeated,
                f"{median(o.again_s):.0f} (most {max(o.again_s):.0f})" if o.again_s else "",
                f"{o.seconds:.0f}",
                "; ".join(o.problems) or "all holds",
            )
            for o in outcomes
        ],
    )
    goals = _goals(outcomes, kills=2 if arguments.quick else 25)
    results = {"seed": arguments.seed, "outcomes": [vars(outcome) for outcome in outcomes]}
    finish(results, goals, arguments.json)
    if not all(goal.met for goal in goals):
        sys.exit(1)


if __name__ == "__main__":
    main()
