"""How an evaluation is shown: a table of methods, sample answers with their mixtures, a picture.

S sites, K experts.
"""

import io
import shlex
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from polyprag.answering.answerer import Answerer
from polyprag.answering.modes import CONTROLS
from polyprag.config import Config
from polyprag.evaluation.questions import read_questions
from polyprag.evaluation.risk_coverage import curve_table
from polyprag.evaluation.samples import Samples, ShownQuestion, sample_answers, verdict
from sharding.printable import printable, printable_line
from sharding.storage.files import atomic_write, join, read_json

_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN_SITES = 4
_SHOWN_CHARACTERS = 100
_STYLES = {"right": "green", "wrong": "red"}


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown of an evaluation.

    Attributes:
        run_dir: the run that was evaluated.
        results: of results.json, by method.
        samples: questions with their answers.
        picture: the PNG that was saved.
    """

    run_dir: str
    results: Mapping[str, Mapping[str, Any]]
    samples: Samples
    picture: str

    def fields(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        samples = self.samples
        return {
            "results": self.results,
            "num_tried": samples.num_tried,
            "num_right": samples.num_right,
            "samples": [_fields(sample) for sample in samples.shown],
            "to_try": samples.to_try and _fields(samples.to_try),
            "picture": self.picture,
        }


def make_report(
    run_dir: str | Path,
    config: Config,
    *,
    results_dir: str | Path,
    questions_path: str | Path,
    picture: str | Path,
) -> Report:
    """Asks a run three sample questions, and saves an evaluation's picture.

    Args:
        run_dir: the run that was evaluated; it answers the samples.
        config: see `Answerer.open`.
        results_dir: where `polyprag.evaluation.run.evaluate` wrote results.json.
        questions_path: what the samples are chosen from.
        picture: where the PNG goes.

    Raises:
        FileError: there is no results.json.
        RunError: the run has no encoding or index.
    """
    results = read_json(join(results_dir, "results.json"))
    answerer = Answerer.open(run_dir, config, modes=("poly", "closed"))
    samples = sample_answers(answerer, read_questions(questions_path))
    save_picture(picture, results, samples.shown)
    return Report(str(run_dir), results, samples, str(picture))


def print_report(report: Report, console: Console) -> None:
    """Prints an evaluation's table, sample answers and a command to try."""
    samples = report.samples
    console.print(results_table(report.results))
    if curves := curve_table(report.results):
        console.print(curves)
    console.print()
    console.print(
        f"Of {samples.num_tried} questions spread over the file {samples.num_right} are answered "
        f"right. {len(samples.shown)} of them:",
        highlight=False,
    )
    print_samples(samples.shown, console)
    console.print(Text(printable(f"picture: {report.picture}")), soft_wrap=True)
    if tried := samples.to_try:
        words = ["polyprag", "ask", report.run_dir, printable_line(tried.question.question)]
        asked = printable(shlex.join(words))
        console.print(Text(f"try it:  {asked} --mode {tried.answer.mode}"), soft_wrap=True)
        said = printable_line(tried.answer.text) or "(nothing)"
        said = f"it says {said!r}, which is {tried.verdict}"
        if tried.verdict != "right":
            said += f"; expected: {printable_line(tried.question.answers[0])}"
        console.print(Text(f"         {said}"), soft_wrap=True)


def _fields(sample: ShownQuestion) -> dict[str, Any]:
    return {
        "question": sample.question.question,
        "expected": list(sample.question.answers),
        "answer": sample.answer.text,
        "verdict": sample.verdict,
        "closed_book": sample.closed_book,
        "mode": sample.answer.mode,
    }


def results_table(results: Mapping[str, Mapping[str, Any]], *, title: str | None = None) -> Table:
    """Returns results.json as a table: a row a method, scores in percent, latency in ms.

    "has answer" is the share of answers that contain an accepted one, whatever is around it.
    """
    # In 80 columns.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for header in ("F1", "95 %", "has\nanswer", "95 %", "EM", "n", "ms\np50", "ms\np95"):
        table.add_column(header, justify="right", no_wrap=True)
    for method, result in results.items():
        table.add_row(
            Text(printable(method), style="dim" if method in CONTROLS else ""),
            _percent(result["f1"]),
            _interval(result["ci95"]),
            _percent(result["contains"]),
            _interval(result.get("contains_ci95")),  # which earlier versions didn't write
            _percent(result["em"]),
            f"{result['n']:,}",
            _milliseconds(result["latency_ms_p50"]),
            _milliseconds(result["latency_ms_p95"]),
        )
    return table


def mixture_bars(gates_SK: npt.NDArray[np.float32]) -> list[Text]:
    """Returns a line of bars for up to four sites spread over the model: a bar an expert.

    A bar's height is the gate's size, from 0 to the largest of all sites; negative gates are red.
    """
    num_sites = len(gates_SK)
    shown = np.linspace(0, num_sites - 1, num=min(_SHOWN_SITES, num_sites)).round().astype(int)
    largest = max(float(np.abs(gates_SK).max()), 1e-12)
    lines = []
    for site in shown:
        line = Text(f"site {site + 1:>3}/{num_sites} ")
        for gate in gates_SK[site]:
            height = round(abs(float(gate)) / largest * (len(_BARS) - 1))
            line.append(_BARS[height], style="red" if gate < 0 else "cyan")
        lines.append(line)
    return lines


def print_samples(samples: Sequence[ShownQuestion], console: Console) -> None:
    """Prints each question, its answer, the passages behind it, and its mixture of experts."""
    for sample in samples:
        answer = sample.answer
        console.print(Text(printable_line(sample.question.question), style="bold"))
        expected = printable_line(" / ".join(sample.question.answers[:3]))
        for name, text in ((answer.mode, answer.text), ("closed", sample.closed_book)):
            said = Text(f"{name:<9}{printable_line(text) or '(nothing)'}  ")
            worth = verdict(text, sample.question)
            said.append(worth, style=_STYLES.get(worth, "yellow"))
            console.print(_indented(said))
        console.print(_indented(Text(f"{'expected':<9}{expected}", style="dim")))
        if answer.hits is not None:
            for passage, score in zip(answer.hits.passages, answer.hits.scores, strict=True):
                line = printable_line(f"{passage.title}: {passage.text}", _SHOWN_CHARACTERS)
                console.print(_indented(Text(f"{float(score):8.2f}  {line}")))
        if answer.gates is not None:
            for bars in mixture_bars(answer.gates):
                console.print(_indented(bars))
        console.print()


def save_picture(
    path: str | Path,
    results: Mapping[str, Mapping[str, Any]],
    samples: Sequence[ShownQuestion] = (),
) -> None:
    """Saves a PNG: each method's F1 and answer presence, and the samples' mixtures as heat maps.

    Args:
        path: where the PNG goes; written by a rename.
        results: what `polyprag.evaluation.run.evaluate` returned.
        samples: those with gates are drawn, sites by experts, red negative and blue positive.
    """
    from matplotlib.figure import Figure

    mixed = [(sample, gates) for sample in samples if (gates := sample.answer.gates) is not None]
    figure = Figure(figsize=(11, 3.4 + (3.0 if mixed else 0.0)), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2 if mixed else 1, max(1, len(mixed)))
    _draw_bars(figure.add_subplot(grid[0, :]), results)
    largest = max((float(np.abs(gates).max()) for _, gates in mixed), default=1.0) or 1.0
    for column, (sample, gates) in enumerate(mixed):
        axes = figure.add_subplot(grid[1, column])
        image = axes.imshow(
            gates, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest"
        )
        color = _STYLES.get(sample.verdict, "darkgoldenrod")
        axes.set_title(sample_title(sample), fontsize=8, parse_math=False, color=color)
        axes.set_xlabel("expert")
        if column == 0:
            axes.set_ylabel("site")
        if column == len(mixed) - 1:
            figure.colorbar(image, ax=axes, label="gate")
    drawn = io.BytesIO()
    with warnings.catch_warnings():  # a title in a script that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(drawn, format="png")
    with atomic_write(path) as file:
        file.write(drawn.getvalue())


def _draw_bars(axes: Any, results: Mapping[str, Mapping[str, Any]]) -> None:
    scored = {name: result for name, result in results.items() if result["f1"] is not None}
    colors = ["#b0b0b0" if name in CONTROLS else "#3b6ea5" for name in scored]
    top = 1.0
    for place, key, interval in ((-0.2, "f1", "ci95"), (0.2, "contains", "contains_ci95")):
        means = [100 * result[key] for result in scored.values()]
        # Earlier versions wrote no interval of answer presence.
        ends = [result.get(interval) or (result[key], result[key]) for result in scored.values()]
        low, high = ([100 * end[side] for end in ends] for side in (0, 1))
        errors = np.clip([np.subtract(means, low), np.subtract(high, means)], 0, None)
        bars = axes.bar(
            np.arange(len(scored)) + place,
            means,
            width=0.38,
            color=colors,
            alpha=1.0 if key == "f1" else 0.5,
            yerr=errors if scored else None,
            capsize=3,
            ecolor="#303030",
        )
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        top = max([top, *high])
    axes.set_xticks(np.arange(len(scored)), list(scored))
    axes.set_ylabel("F1, and paler: has answer\n(%), 95 % intervals")
    axes.set_ylim(0, top * 1.2 + 1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def sample_title(sample: ShownQuestion) -> str:
    """Returns a sample's question, what was answered and expected, and whether it was right."""
    lines = textwrap.wrap(
        printable_line(sample.question.question), 44, max_lines=2, placeholder=" ..."
    )
    said = f"{sample.verdict}: {printable_line(sample.answer.text) or '(nothing)'}"
    lines += textwrap.wrap(said, 44, max_lines=2, placeholder=" ...")
    if sample.verdict != "right":
        expected = f"expected: {printable_line(sample.question.answers[0])}"
        lines += textwrap.wrap(expected, 44, max_lines=1, placeholder=" ...")
    return "\n".join(lines)


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{_percent(ends[0])}-{_percent(ends[1])}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
