"""One GPU, one command, some minutes: what has never run on one, checked and timed.

    python benchmarks/gpu.py [--quick] [--json FILE] [--fill] [--device cuda|cpu] [--shape 1B]

Needs the repository and its packages alone; nothing is downloaded. Checks: packed attention by
torch's kernel against blocks, training in bf16 in an NCCL group of one, FAISS on the GPU where it
is installed. Times: a step of a random model of a shape in bf16 (one LoRA of PEFT; polyprag padded,
packed, packed and compiled) with its utilisation, and tokens a second of 64 answers with mixtures
of their own against none. A check that fails is told, and the others run on.
--fill writes what came out into docs/gpu.md. With --device cpu the same runs as far as a CPU can.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.examples import PASSAGES, ROOT
from harness.plain_workers import free_port
from harness.reporting import Goal, finish, machine, options, show
from train_step import sides
from train_step.shapes import SHAPES, llama, quickstart_examples

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- benchmarks/gpu.py --fill: begin -->", "<!-- end -->"
EXPERTS, EXAMPLES = 32, 256
ANSWERS, NEW_TOKENS = 64, 64


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", choices=("tiny", *SHAPES), help="[1B; tiny with --quick]")
    parser.add_argument("--fill", action="store_true", help="write the results into docs/gpu.md")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu runs what a CPU can")
    os.chdir(ROOT)  # models' paths are relative to it
    device = torch.device(args.device)
    shape = args.shape or ("tiny" if args.quick else "1B")
    checks = {name: outcome(check, device) for name, check in CHECKS.items()}
    show("checks", ("check", "outcome"), list(checks.items()))
    steps, goals = timed_steps(shape, device, quick=args.quick)
    said = answers(shape, device, quick=args.quick)
    failed = [name for name, found in checks.items() if found.startswith("FAILED")]
    goals.append(Goal("checks that failed", len(failed), "0", not failed))
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    found = {"device": name, "shape": shape, "checks": checks, "steps": steps, "answers": said}
    finish(found, goals, args.json)
    if args.fill:
        fill(found)
    return 1 if failed else 0


class CannotError(Exception):
    """A check needs what isn't here."""


def outcome(check: Callable[[torch.device], str], device: torch.device) -> str:
    """Runs a check; returns what it found."""
    try:
        return check(device)
    except CannotError as reason:
        return f"not run: {reason}"
    except Exception as error:  # whatever it is: the other checks are wanted, too
        return f"FAILED [{type(error).__name__}: {' '.join(str(error).split())[:300]}]"


def attention(device: torch.device) -> str:
    """Packed rows by torch's kernel, against blocks of like length, in bf16."""
    from polyprag.method.batches import attention as packed
    from polyprag.method.batches.packed import packing_of
    from polyprag.method.batches.prefix import SharedPrefix

    if device.type != "cuda":
        raise CannotError("torch's kernel for sequences of any length is a GPU's")
    lengths = [3, 17, 17, 60, 128]
    generator = torch.Generator(device).manual_seed(0)

    def drawn(tokens: int) -> Tensor:
        shape = (1, 8, tokens, 64)
        return torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)

    parts = [drawn(sum(lengths)) for _ in range(3)]
    before = drawn(24), drawn(24)
    worst = 0.0
    for window, goes_on in product((None, 16), (False, True)):
        found = []
        for dtype in (torch.bfloat16, torch.float32):  # in fp32 it attends in blocks
            kept = before[0].to(dtype), before[1].to(dtype)
            prefix = SharedPrefix((0,) * 24, (kept,), torch.empty(0)) if goes_on else None
            packing = packing_of(lengths, prefix).to(device)
            leaves = [part.to(dtype).requires_grad_() for part in parts]
            module = torch.nn.Module()
            module.is_causal, module.num_key_value_groups = True, 1  # type: ignore[assignment]
            module.layer_idx = 0  # type: ignore[assignment]
            said, _ = packed.packed_attention(
                module, *leaves, None, scaling=0.125, sliding_window=window, packing=packing
            )
            grads = torch.autograd.grad(said.float().square().sum(), leaves)
            found.append([said, *grads])
        for ours, exact in zip(*found, strict=True):
            worst = max(worst, ((ours.float() - exact).norm() / exact.norm()).item())
    if worst > 0.02:
        raise ValueError(f"outputs or gradients are off by {worst:.3f} of their size")
    return (
        f"off by {worst:.4f} of their size at most: outputs and gradients, with and without a "
        "window, after a prefix and without one"
    )


def training(device: torch.device) -> str:
    """The small base in a group of one: NCCL and bf16 on a GPU."""
    from torch import distributed

    from cluster.training.train_encoding import train_encoding
    from polyprag.augment.corpus import augment_corpus
    from polyprag.config.files import load_config
    from sharding.ingest.prepare import prepare

    on_gpu = device.type == "cuda"
    settings = [
        "cluster.workers=1",
        "train.epochs=6",
        f"model.dtype={'bf16' if on_gpu else 'fp32'}",
    ]
    settings += ["cluster.gpus_per_worker=1"] if on_gpu else []
    config = load_config(["quickstart"], settings)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    address = f"tcp://127.0.0.1:{free_port()}"
    backend = "nccl" if on_gpu else "gloo"
    distributed.init_process_group(backend, init_method=address, rank=0, world_size=1)
    with tempfile.TemporaryDirectory(prefix="gpu-") as directory:
        source, run = Path(directory, "passages.jsonl"), Path(directory, "run")
        lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)[:24]
        source.write_text("".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=16)
        augment_corpus(run, config)
        train_encoding(str(run), config)
        metrics = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").open()]
    distributed.destroy_process_group()
    first, last = metrics[0]["loss"], metrics[-1]["loss"]
    if not last < 0.9 * first:
        raise ValueError(f"the loss went from {first:.3f} to {last:.3f}")
    return f"loss {first:.2f} to {last:.2f} in {len(metrics)} steps, {backend}"


def faiss_on_gpu(device: torch.device) -> str:
    """An exact index on the GPU finds what one on the CPU finds."""
    import faiss
    import numpy as np

    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        raise CannotError("FAISS has no GPU here")
    vectors = np.random.default_rng(0).standard_normal((20_000, 128), dtype=np.float32)
    flat = faiss.IndexFlatIP(128)
    flat.add(vectors)
    _, expected = flat.search(vectors[:100], 10)
    on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, flat)
    _, found = on_gpu.search(vectors[:100], 10)
    same = float((found == expected).mean())
    if same < 0.99:
        raise ValueError(f"{same:.1%} of the neighbours are the same")
    return f"{same:.2%} of the neighbours are the same"


CHECKS: dict[str, Callable[[torch.device], str]] = {
    "packed attention, torch's kernel against blocks": attention,
    "training, a group of one": training,
    "FAISS": faiss_on_gpu,
}


def timed_steps(
    shape: str, device: torch.device, *, quick: bool
) -> tuple[dict[str, dict[str, float]], list[Goal]]:
    """Returns seconds and utilisation of each way to take a step, and the goals."""
    from cluster.training.utilisation import peak_flops, step_work
    from polyprag.config import ExpertsConfig, RouterConfig
    from polyprag.method.experts import inject

    on_gpu = device.type == "cuda"
    place = sides.Place(device, torch.bfloat16 if on_gpu else torch.float32)
    some = quickstart_examples(24 if quick else EXAMPLES)
    with torch.device("meta"):
        model = llama(shape)
        pool = inject(model, ExpertsConfig(num=EXPERTS, rank=sides.RANK), RouterConfig(), seed=0)
    needed, peak = step_work(model, pool).of(some), peak_flops(device, place.dtype)
    given: dict[str, Any] = {"experts": EXPERTS, "place": place}
    ways: dict[str, Callable[[], sides.Step]] = {
        "PEFT LoRA, one": lambda: sides.lora(shape, some, place=place),
        "padded in groups": lambda: sides.ours(shape, some, packs=False, **given),
        "packed": lambda: sides.ours(shape, some, packs=True, **given),
        "packed, compiled": lambda: sides.ours(shape, some, packs=True, compiled=True, **given),
    }
    tokens = sum(map(len, some))
    rows: dict[str, dict[str, float]] = {}
    for way, make in ways.items():
        if "compiled" in way and not on_gpu:
            continue  # minutes of a C++ compiler
        try:
            seconds = _seconds(make(), device, rounds=3 if quick else 10)
        except Exception as error:  # the others are wanted, too
            print(f"{way}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            continue
        mfu = needed / (seconds * peak)
        rows[way] = {"seconds": seconds, "tokens_per_second": tokens / seconds, "mfu": mfu}
    show(
        f"a step of {shape}, {len(some)} examples, {tokens} tokens; peak {peak / 1e12:.3g} TFLOPS",
        ("step", "ms", "tokens/s", "MFU"),
        [(way, r["seconds"] * 1e3, r["tokens_per_second"], r["mfu"]) for way, r in rows.items()],
    )
    best = max((row["mfu"] for way, row in rows.items() if way.startswith("packed")), default=0.0)
    return rows, [Goal(f"{shape}: MFU", best, ">= .4", best >= 0.4)]


def _seconds(step: sides.Step, device: torch.device, *, rounds: int) -> float:
    """Returns the least of some rounds, after two that warm up."""
    times = []
    for turn in range(rounds + 2):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn >= 2:
            times.append(time.perf_counter() - started)
    return min(times)


def answers(shape: str, device: torch.device, *, quick: bool) -> dict[str, float]:
    """Returns tokens a second of answers with mixtures of their own, and of answers with none."""
    from answering.methods import engine
    from answering.models import requests
    from polyprag.config import ExpertsConfig, RouterConfig
    from polyprag.method.experts import inject

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = llama(shape).to(device, dtype)
    pool = inject(model, ExpertsConfig(num=EXPERTS, rank=sides.RANK), RouterConfig(), seed=0)
    number, new = (8, 8) if quick else (ANSWERS, NEW_TOKENS)
    asked = requests(
        pool,
        number=number,
        mixtures="distinct",
        vocabulary=model.config.vocab_size,
        new_tokens=(new, new),
    )
    said = {}
    for name, routed in (("none", False), ("distinct mixtures", True)):
        method = engine(model, pool, routed=routed)
        method(asked)
        said[name] = number * new / min(method(asked).total for _ in range(3))
    show(
        f"answers of {shape}, {number} at a time, {new} tokens each",
        ("experts", "tokens/s", "/ none"),
        [(name, rate, rate / said["none"]) for name, rate in said.items()],
    )
    return said


def fill(found: dict[str, Any]) -> None:
    """Writes the results between their marks in docs/gpu.md, in place of those of before."""
    of = machine()
    torch_version = of["versions"]["torch"]
    lines = [
        f"`python benchmarks/gpu.py`, {of['date']}, {found['device']}, torch {torch_version}.",
        "",
        "| check | outcome |",
        "| --- | --- |",
        *(f"| {name} | {result} |" for name, result in found["checks"].items()),
        "",
        f"| a step of {found['shape']} | ms | tokens/s | MFU |",
        "| --- | --- | --- | --- |",
        *(
            f"| {way} | {row['seconds'] * 1e3:.1f} | {row['tokens_per_second']:,.0f} "
            f"| {row['mfu']:.2f} |"
            for way, row in found["steps"].items()
        ),
        "",
        "| answers | tokens/s |",
        "| --- | --- |",
        *(f"| {name} | {rate:,.0f} |" for name, rate in found["answers"].items()),
    ]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
