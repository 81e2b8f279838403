"""A corpus's coverage as text and as JSON, with what to do next."""

from dataclasses import asdict
from typing import Any

from polyprag.augment.bare import MOST_BARE
from polyprag.augment.report.coverage import Covered
from polyprag.augment.work.partition import Came
from sharding.printable import printable, printable_line

_WORDS = 3  # kinds of failure and samples of dropped items that are shown
_LONG = 100  # characters of a sample
_ENOUGH = 0.5  # of the sentences, beyond which the advice is no other


def coverage_text(run: str, corpus_dir: str, coverage: Covered, came: Came | None) -> str:
    """Returns the lines that `polyprag augment` ends with.

    Args:
        run: RUN, for the commands that are advised.
        corpus_dir: RUN/corpus.
        coverage: what is written.
        came: of this command; None where it only reports.
    """
    lines = [_title(corpus_dir, coverage)]
    if coverage.num_looked_at < coverage.num_passages:
        lines.append(f"averages are of {coverage.num_looked_at:,} passages spread over the corpus")
    lines += [
        f"a passage has {coverage.questions:.1f} questions about {coverage.facts:.1f} distinct "
        f"facts, and {coverage.rewrites:.1f} rewrites",
        f"asked about: {coverage.asked_about:.0%} of the sentences ({coverage.sentences:.1f} a "
        "passage)",
    ]
    if came is not None and came.added:
        lines.append(f"your own pairs: {came.added:,} new")
    if coverage.num_empty:
        lines.append(
            f"nothing is written about {_of(coverage.num_empty, coverage)}: {coverage.why_empty}"
        )
    if coverage.num_open:
        lines.append(f"open, nothing has come yet: {_of(coverage.num_open, coverage)}")
        if came is not None:
            for words, count in came.failures.most_common(_WORDS):
                lines.append(f"  {count:,} x {_short(words)}")
    lines += _dropped_lines(coverage, came)
    lines += [
        f"e.g. [{printable(each.key)}] {_short(each.qa.question)} -> {_short(each.qa.answer)}"
        for each in coverage.samples
    ]
    return "\n".join([*lines, *_advice(run, coverage)])


def coverage_fields(coverage: Covered, came: Came | None) -> dict[str, Any]:
    """Returns the same for programs."""
    fields = asdict(coverage)
    fields["samples"] = [
        {
            "key": each.key,
            "title": each.title,
            "question": each.qa.question,
            "answer": each.qa.answer,
        }
        for each in coverage.samples
    ]
    if came is not None:
        fields |= {
            "asked": came.asked,
            "own_pairs_added": came.added,
            "failures": dict(came.failures.most_common()),
            "dropped_now": dict(came.dropped),
            "dropped_samples": came.samples,
        }
    return fields


def _title(corpus_dir: str, coverage: Covered) -> str:
    written = coverage.num_passages - coverage.num_open
    return (
        f"{corpus_dir}: {written:,} of {coverage.num_passages:,} passages augmented, "
        f"{coverage.num_empty:,} of them without any rewrite or question"
    )


def _of(number: int, coverage: Covered) -> str:
    share = number / max(coverage.num_passages, 1)
    return f"{number:,} of {coverage.num_passages:,} passages ({share:.0%})"


def _dropped_lines(coverage: Covered, came: Came | None) -> list[str]:
    if not coverage.dropped:
        return []
    lines = [f"not kept: {sum(coverage.dropped.values()):,} items"]
    for reason, count in sorted(coverage.dropped.items(), key=lambda each: -each[1]):
        shown = came.samples.get(reason, []) if came is not None else []
        samples = ": " + "; ".join(map(_short, shown[:_WORDS])) if shown else ""
        lines.append(f"  {count:,} {printable(reason)}{samples}")
    return lines


def _advice(run: str, coverage: Covered) -> list[str]:
    """Returns what to do."""
    if coverage.num_open:
        again = f"polyprag augment {run}, with the same options as before"
        return [f"next: {again}: it asks about the open passages alone"]
    lines = []
    more = (
        "a model writes about all of a text (augment.backend=hf or openai, with --overwrite), and "
        f"your own pairs join what is there (polyprag augment {run} --qa FILE)"
    )
    if coverage.num_bare > MOST_BARE * coverage.num_passages:
        lines.append(
            "too much is missing: hardly any question about a passage without questions will be "
            f"answered; {more}. `encode` wants --allow-bare to go on like this"
        )
    elif coverage.asked_about < _ENOUGH:
        lines.append(f"what no question asks about is hardly learnt: {more}")
    return [*lines, f"next: polyprag encode {run}"]


def _short(text: str) -> str:
    return printable_line(text, _LONG)
