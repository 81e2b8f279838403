"""A training step in bf16 on a CPU: as polyprag's workers do it, and as torch and glibc do alone.

    python benchmarks/cpu_step.py [--quick] [--json FILE] [--model DIR]

One process with one thread for each way, in turn, several times over: forward and backward of 16
sequences through the base model with its experts. What changes is who attends to short sequences
(torch's fused attention, or plain products), and whether freed memory is kept for the next step.
DIR is a causal LM; `make real-model` makes the default, SmolLM2-135M-Instruct.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from harness.examples import ROOT, TINY_BASE
from harness.reporting import Goal, finish, options, show

MODEL = ROOT / "examples" / "real-model" / "SmolLM2-135M-Instruct.Q4_1.gguf"
SEQUENCES, TOKENS = 16, 60
WAYS = {
    "fused, memory given back": (False, False),
    "plain, memory given back": (True, False),
    "fused, memory kept": (False, True),
    "plain, memory kept": (True, True),
}


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, metavar="DIR")
    parser.add_argument("--step", choices=("plain", "fused"), help="measure one way, here")
    args = parser.parse_args()
    model = TINY_BASE if args.quick else args.model
    if args.step is not None:
        print(json.dumps(seconds_a_step(args.model, is_plain=args.step == "plain")))
        return 0
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(1 if args.quick else 3):
        for name, (is_plain, is_kept) in WAYS.items():
            found[name] += in_a_process(model, is_plain=is_plain, is_kept=is_kept)
    medians = {name: float(np.median(seconds)) for name, seconds in found.items()}
    first = medians["fused, memory given back"]
    rows = [
        [name, median, min(found[name]), max(found[name]), first / median]
        for name, median in medians.items()
    ]
    shown = ("way", "s a step", "least", "most", "times as fast")
    show(f"{SEQUENCES} sequences of {TOKENS} tokens, bf16, one thread", shown, rows)
    gain = first / medians["plain, memory kept"]
    least = 1.0 if args.quick else 1.3  # the small base spends its time elsewhere
    goals = [Goal("as the workers do it / as torch does alone", gain, f">= {least}", gain >= least)]
    finish({"quick": args.quick, "seconds": found}, goals, args.json)
    return 0


def in_a_process(model: Path, *, is_plain: bool, is_kept: bool) -> list[float]:
    """Returns the seconds of some steps in a process of their own, whose malloc is set anew."""
    from cluster.ray.session import worker_environment
    from polyprag.config.cluster import ClusterConfig

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if is_kept:
        environment |= worker_environment(ClusterConfig(cpus_per_worker=1, gpus_per_worker=0))
    step = "plain" if is_plain else "fused"
    command = [sys.executable, __file__, "--model", str(model), "--step", step]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def seconds_a_step(model: Path, *, is_plain: bool) -> list[float]:
    """Returns the seconds of four steps after a first one."""
    import torch

    from polyprag.config.files import load_config
    from polyprag.method import loss
    from polyprag.method.base_model import load_base
    from polyprag.method.experts import inject

    torch.set_num_threads(1)
    config = load_config(["smollm2"], [f"model.path={model}", "model.dtype=bf16"])
    base, _ = load_base(config.model, device="cpu")
    base.requires_grad_(requires_grad=False)
    pool = inject(base, config.experts, config.router, seed=0)
    chance = torch.Generator().manual_seed(0)
    vocabulary = int(base.config.vocab_size)
    ids_BT = torch.randint(0, vocabulary, (SEQUENCES, TOKENS), generator=chance)
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[SEQUENCES // 2 :, TOKENS * 3 // 4 :] = 0  # as where lengths differ
    labels_BT = torch.where(torch.arange(TOKENS) < TOKENS - 12, -100, ids_BT)
    gates_BSK = torch.randn(SEQUENCES, pool.num_sites, pool.num_experts, generator=chance)
    gates_BSK.requires_grad_()
    if not is_plain:
        loss.SHORT_SEQUENCE = 0
    seconds: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        with pool.gated(gates_BSK):
            logits_BTV = loss.logits_at(base, ids_BT, mask_BT)
            total, _ = loss.causal_loss_sum(logits_BTV, labels_BT)
        torch.autograd.backward(total)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


if __name__ == "__main__":
    sys.exit(main())
