"""`polyprag ask`: answers with the passages behind them and their mixture of experts."""

import sys
from typing import TYPE_CHECKING, Any

import click

from polyprag.answering.modes import CONTROLS, MODES, Mode
from polyprag.cli.arguments import config_option, run_argument, settings_of, split_overrides
from polyprag.cli.output import echo, echo_json
from sharding.printable import printable_line

if TYPE_CHECKING:
    from polyprag.answering.answer import Answer
    from polyprag.config import Config

_SHOWN_CHARACTERS = 76
_LEGEND = (
    "mixture: a bar for each expert's weight, in some of the sites where experts are; red is < 0"
)


@click.command("ask")
@run_argument
@click.argument("arguments", nargs=-1, metavar='"QUESTION"... [KEY=VALUE]...')
@click.option(
    "--mode",
    type=click.Choice([mode for mode in MODES if mode not in CONTROLS]),
    default="poly",
    show_default=True,
    help="closed: the base model alone. rag: passages in the prompt. poly: passages in the "
    "weights. combine: both. routed: the mixture that the map of `polyprag distill` gives to the "
    "question; nothing is retrieved.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=None,
    help="Passages for each question.  [default: retrieval.top_k]",
)
@click.option(
    "--verbose",
    is_flag=True,
    help="Draw the mixture of experts behind each answer, too.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a question, a line each.")
@config_option
def command(
    run: str,
    arguments: tuple[str, ...],
    mode: Mode,
    top_k: int | None,
    verbose: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Answer questions from RUN.

    \b
    Examples:
      polyprag ask runs/wiki
      polyprag ask runs/wiki "Where was Ada Lovelace born?"
      polyprag ask runs/wiki "Where was Ada Lovelace born?" --mode rag --top-k 5
      polyprag ask runs/wiki "Where was Ada Lovelace born?" --mode routed
      polyprag ask runs/wiki "Who directed Alien?" --json retrieval.method=hybrid
      polyprag ask runs/wiki "Who directed Alien?" answering.abstain=refuse

    An answer that isn't to be trusted comes with a note that says why; with
    answering.abstain=refuse the note stands in its place, and with never nothing is judged
    (docs/abstention.md).

    Without a question, on a terminal, it is a conversation: answers come as they are said, with
    their sources, and /help says how to change the mode.
    """
    questions, overrides = split_overrides(arguments)
    config = settings_of(run, configs, overrides)
    if not questions and sys.stdin.isatty() and not as_json:
        _converse(run, config, mode, top_k)
        return
    if not questions:
        raise click.UsageError('name at least one question after RUN, in quotes: "..."')
    if any(not question.strip() for question in questions):
        raise click.UsageError("a question is empty")
    from polyprag.answering.answerer import Answerer

    answerer = Answerer.open(run, config, modes=[mode])
    if answerer.index is not None and answerer.index.freshness.note:
        echo(f"note: {run}: {answerer.index.freshness.note}", err=True)
    answers = answerer.answer(questions, mode=mode, k=top_k)
    if config.answering.abstain != "never" and (note := answerer.judge.note(mode, top_k=top_k)):
        echo(f"note: {run}: {note}", err=True)
    refuses = config.answering.abstain == "refuse"
    for question, answer in zip(questions, answers, strict=True):
        if answer.hits is not None and not len(answer.hits.ids) and answerer.index is not None:
            reason = answerer.index.why_nothing(question, method=config.retrieval.method)
            echo(f"note: no passage was found for {question!r}: {reason}", err=True)
        if as_json:
            echo_json(as_record(question, answer, refuses=refuses))
        else:
            print_answer(question, answer, refuses=refuses, verbose=verbose)


def _converse(run: str, config: "Config", mode: Mode, top_k: int | None) -> None:
    """Holds a conversation on the terminal."""
    from polyprag.answering.engine import Engine
    from polyprag.cli.conversation import Conversation, typed_lines

    with Engine.open(run, config) as engine:
        if engine.stale_index:
            echo(f"note: {run}: {engine.stale_index}", err=True)
        echo(f"{engine!r}\nask, or /help; Ctrl-D ends", err=True)
        refuses = config.answering.abstain == "refuse"
        Conversation(engine, mode=mode, top_k=top_k, refuses=refuses).hold(typed_lines())


def expert_shares(answer: "Answer") -> list[float]:
    """Returns each expert's share of the mixture, (K,) summing to 1: mean |gate| over the sites."""
    if answer.gates is None:
        return []
    weights = abs(answer.gates).mean(axis=0)
    return [float(weight) for weight in weights / max(float(weights.sum()), 1e-12)]


def as_record(question: str, answer: "Answer", *, refuses: bool = False) -> dict[str, Any]:
    """Returns what --json prints for one question; `refuses`: no answer that isn't trusted."""
    from msgspec import structs

    hits = answer.hits
    found = [] if hits is None else zip(hits.passages, hits.scores, strict=True)
    return {
        "question": question,
        "answer": None if refuses and answer.trusted is False else answer.text,
        "mode": answer.mode,
        "passages": [
            {"id": p.id, "key": p.key, "title": p.title, "text": p.text, "score": float(score)}
            for p, score in found
        ],
        "confidence": answer.confidence,
        "calibrated": None if answer.trust is None else answer.trust.is_calibrated,
        "trusted": answer.trusted,
        "reason": answer.reason,
        "evidence": None if answer.evidence is None else structs.asdict(answer.evidence),
        "experts": [round(share, 6) for share in expert_shares(answer)],
        "latency_ms": round(answer.latency.total_ms, 3),
    }


def print_answer(
    question: str, answer: "Answer", *, refuses: bool = False, verbose: bool = False
) -> None:
    """Prints what is shown for one question without --json.

    Args:
        question: that was asked.
        answer: to it.
        refuses: as in `as_record`.
        verbose: whether its mixture is drawn.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    lines = [Text(printable_line(question), style="bold")]
    if not (refuses and answer.trusted is False):
        lines.append(Text(f"  {printable_line(answer.text) or '(nothing)'}"))
    if answer.reason is not None:
        what = "no answer is given" if refuses else "don't trust this answer"
        lines.append(Text(f"  {what}: {answer.reason}", style="yellow"))
    if answer.hits is not None:
        for passage, score in zip(answer.hits.passages, answer.hits.scores, strict=True):
            line = printable_line(f"{passage.title}: {passage.text}", _SHOWN_CHARACTERS)
            lines.append(Text(f"  {float(score):9.3f}  {line}"))
        if not answer.hits.passages:
            lines.append(Text("  no passage was found"))
    if verbose and answer.gates is not None:
        from polyprag.evaluation.report import mixture_bars  # with scipy, half a second

        lines.append(Text(f"  {_LEGEND}", style="dim"))
        lines += [Text("  ") + bars for bars in mixture_bars(answer.gates)]
    about = f"{answer.mode}, {answer.latency.total_ms:.0f} ms"
    if answer.confidence is not None:
        about += f", confidence {answer.confidence:.2f}"
    lines.append(Text(f"  {about}\n", style="dim"))
    for each in lines:
        console.print(each, soft_wrap=True)
