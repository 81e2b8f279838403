"""A server under load: what it adds to the engine, and whether anybody is let down.

    python benchmarks/serving.py [--quick] [--json FILE] [--only PARTS]

Encodes a few passages of examples/popqa for one epoch, and asks of them on loopback. `alone`: one
client, by plain HTTP and by OpenAI's package, beside an engine in this process. `many`:
64 clients that stream in all modes at once, with others that read slowly and others that leave in
the middle of an answer; what steady clients get must be what the engine says to the same question
alone. `replicas`: two replicas behind Ray Serve, one of which is killed while clients ask; they
try again as OpenAI's client does by default.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil
from openai import AsyncOpenAI, OpenAI, OpenAIError

from harness.reporting import Goal, add_parts, finish, options, show
from polyprag.answering.engine import Engine
from polyprag.answering.modes import Mode
from serving.runs import Questions, serving, small_run

PARTS = ("alone", "many", "replicas")
CLIENTS, SLOW, LEAVING = 64, 8, 8
MODES: tuple[Mode, ...] = ("closed", "rag", "poly", "combine")
ADDED_MS = 5.0
JSON = {"Content-Type": "application/json"}

Found = dict[str, Any]


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    add_parts(parser, PARTS)
    args = parser.parse_args()
    parts = [part for part in args.only if not (args.quick and part == "replicas")]
    found: Found = {}
    with tempfile.TemporaryDirectory(prefix="serving-") as directory:
        run, config, questions = small_run(Path(directory))
        with Engine.open(run, config, most=CLIENTS) as engine:
            expected = {
                (question, mode): engine.ask(question, mode=mode).text
                for question in questions
                for mode in MODES
            }
            if "alone" in parts:
                found |= alone(engine, run, questions, rounds=40 if args.quick else 200)
        if "many" in parts:
            found |= asyncio.run(many(run, expected, rounds=2 if args.quick else 10))
        if "replicas" in parts:
            found |= asyncio.run(killed(run, expected))
    show("a server", ("what", "found"), list(found.items()))
    finish({"quick": args.quick, "found": found}, goals_of(found), args.json)
    return 0


def alone(engine: Engine, run: Path, questions: Questions, *, rounds: int) -> Found:
    """One client: the median of a question's milliseconds, in turns with the engine's."""
    sides = ("engine", "server", "server, OpenAI's client", "server, that client streaming")
    times: dict[str, list[float]] = {side: [] for side in sides}
    with serving(run) as (url, _), OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        plain = HTTPConnection(url.removeprefix("http://"))
        for at in range(rounds + 5):
            question = questions[at % len(questions)]
            given: Any = {
                "model": "run:poly",
                "messages": [{"role": "user", "content": question}],
            }
            for side, each in times.items():
                started = time.perf_counter()
                if side == "engine":
                    engine.ask(question)
                elif side == "server":
                    plain.request("POST", "/v1/chat/completions", json.dumps(given), JSON)
                    assert json.load(plain.getresponse())["choices"]
                elif side == sides[2]:
                    client.chat.completions.create(**given)
                else:
                    list(client.chat.completions.create(**given, stream=True))
                if at >= 5:
                    each.append((time.perf_counter() - started) * 1000)
        plain.close()
    return {f"{side}, p50 ms": statistics.median(each) for side, each in times.items()}


async def many(run: Path, expected: dict[tuple[str, Mode], str], *, rounds: int) -> Found:
    """Steady clients beside slow ones and ones that leave."""
    failures: list[str] = []
    first: list[float] = []
    whole: list[float] = []
    asked = list(expected.items())
    with serving(run, "--parallel", str(CLIENTS), "--max-waiting", "512") as (url, process):
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)

        async def steady(at: int) -> None:
            for turn in range(rounds):
                (question, mode), text = asked[(at * rounds + turn) % len(asked)]
                started = time.perf_counter()
                said, begun = "", None
                try:
                    async for chunk in await client.chat.completions.create(
                        model=f"run:{mode}",
                        messages=[{"role": "user", "content": question}],
                        stream=True,
                    ):
                        piece = chunk.choices[0].delta.content if chunk.choices else None
                        if piece and begun is None:
                            begun = time.perf_counter()
                        said += piece or ""
                except OpenAIError as error:
                    failures.append(str(error))
                    continue
                if said.strip() != text:
                    failures.append(f"{mode}: {said!r} in place of {text!r}")
                whole.append((time.perf_counter() - started) * 1000)
                if begun is not None:
                    first.append((begun - started) * 1000)

        async def slow_or_leaving(at: int, *, leaves: bool) -> None:
            body = {"model": "run", "prompt": "Once", "max_tokens": 200, "ignore_eos": True}
            async with httpx.AsyncClient(timeout=120) as plain:
                with suppress(httpx.HTTPError):
                    async with plain.stream(
                        "POST", f"{url}/v1/completions", json={**body, "stream": True}
                    ) as told:
                        lines = 0
                        async for _ in told.aiter_lines():
                            lines += 1
                            await asyncio.sleep(0.02)
                            if leaves and lines > 5 + at:
                                return

        started = time.perf_counter()
        async with client:
            await asyncio.gather(
                *map(steady, range(CLIENTS)),
                *(slow_or_leaving(at, leaves=False) for at in range(SLOW)),
                *(slow_or_leaving(at, leaves=True) for at in range(LEAVING)),
            )
        seconds = time.perf_counter() - started
        metrics = httpx.get(f"{url}/metrics").text
        left = [line for line in metrics.splitlines() if line.startswith("polyprag_waiting ")]
        memory = psutil.Process(process.pid).memory_info().rss / 2**20
    return {
        "clients": CLIENTS,
        "answers": len(whole),
        "failures": len(failures),
        "of which, the first": failures[:1],
        "answers/s": len(whole) / seconds,
        "first token, p50 ms": statistics.median(first),
        "answer, p50 ms": statistics.median(whole),
        "answer, p95 ms": statistics.quantiles(whole, n=20)[-1],
        "left waiting": float(left[0].split()[1]),
        "server's MiB": memory,
    }


async def killed(run: Path, expected: dict[tuple[str, Mode], str]) -> Found:
    """Two replicas, one of which dies while 16 clients ask for a while."""
    asked = [(question, text) for (question, mode), text in expected.items() if mode == "poly"]
    failures: list[str] = []
    answered = 0
    with serving(run, "--replicas", "2") as (url, process):
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=120)
        ends = time.monotonic() + 20

        async def keep_asking(at: int) -> None:
            nonlocal answered
            while time.monotonic() < ends:
                question, text = asked[at % len(asked)]
                try:
                    told = await client.chat.completions.create(
                        model="run:poly", messages=[{"role": "user", "content": question}]
                    )
                except OpenAIError as error:
                    failures.append(str(error))
                    continue
                answered += 1
                if told.choices[0].message.content != text:
                    failures.append("another answer")

        async def kill_one() -> None:
            await asyncio.sleep(5)
            children = psutil.Process(process.pid).children(recursive=True)
            next(each for each in children if "ServeReplica" in " ".join(each.cmdline())).kill()

        async with client:
            await asyncio.gather(kill_one(), *map(keep_asking, range(16)))
    return {"answers while a replica died": answered, "failures while it died": len(failures)}


def goals_of(found: Found) -> list[Goal]:
    """What is promised of what was measured."""
    goals = []
    if "server, p50 ms" in found:
        added = found["server, p50 ms"] - found["engine, p50 ms"]
        goals.append(Goal("a server adds, p50 ms", added, f"<= {ADDED_MS:.0f}", added <= ADDED_MS))
    if "failures" in found:
        bad = found["failures"] + found["left waiting"]
        goals.append(Goal(f"{CLIENTS} clients, failures", bad, "0", bad == 0))
    return goals


if __name__ == "__main__":
    sys.exit(main())
