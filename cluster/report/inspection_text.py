"""What `polyprag inspect` found, as text for people."""

from cluster.report.inspection import CheckpointFacts, EncodingFacts, Inspection
from cluster.report.plan_text import size_text
from sharding.counted import counted
from sharding.printable import printable

_MAX_SHOWN = 10


def inspection_text(found: Inspection, run_dir: str) -> str:
    """Returns the findings as lines of at most about 100 characters.

    Args:
        found: of a run.
        run_dir: named in the first line.
    """
    lines = [printable(run_dir)]
    lines += _checkpoint(found.checkpoint) if found.checkpoint else ["checkpoint    none"]
    lines += _encoding(found.encoding) if found.encoding else ["encoding      none yet"]
    return "\n".join(lines)


def _checkpoint(facts: CheckpointFacts) -> list[str]:
    state = "finished" if facts.is_finished else "unfinished"
    trained, whole = facts.partitions
    lines = [
        f"checkpoint    step {facts.step:,}, {state}, by {counted(facts.world_size, 'worker')}; "
        f"experts {size_text(facts.expert_bytes)}, rows {size_text(facts.row_bytes)}, with moments"
    ]
    for number, (first, last, epochs, partitions) in enumerate(facts.phases, start=1):
        lines.append(
            f"  phase {number}     steps {first:,} to {last:,}: {counted(epochs, 'epoch')} over "
            f"{counted(partitions, 'partition')}"
        )
    lines += [
        f"  partitions  {trained:,} of {whole:,} have trained rows; {facts.dirty:,} were dirty and "
        "written by this checkpoint",
        f"  updates     {facts.updates:.1f} a row on average; {facts.untrained:,} rows of these "
        "were never trained",
    ]
    if facts.rows_without_file:
        lines.append(
            f"              {facts.rows_without_file:,} rows are of partitions that joint training "
            "hasn't read"
        )
    if facts.untrained_ids:
        shown = ", ".join(map(str, facts.untrained_ids[:_MAX_SHOWN]))
        more = " ..." if len(facts.untrained_ids) > _MAX_SHOWN else ""
        lines.append(f"              never trained: {shown}{more}")
    return lines


def _encoding(facts: EncodingFacts) -> list[str]:
    low, middle, high = facts.norms
    least, mean, most = facts.usage_entropy
    extra = [f"{facts.added:,} added with frozen experts"] if facts.added else []
    extra += [f"{facts.removed:,} removed"] if facts.removed else []
    lines = [
        f"encoding      {facts.passages:,} rows of {facts.sites} sites x {facts.experts} experts, "
        f"trained for {facts.steps:,} steps" + "".join(f"; {text}" for text in extra),
        f"  row norms   {middle:.2f} (5 % below {low:.2f}, 5 % above {high:.2f}; "
        f"{facts.sampled:,} rows read)",
        f"  experts     usage entropy {mean:.3f} of 1 (sites from {least:.3f} to {most:.3f}); "
        f"within a row {facts.row_entropy:.3f}",
        "  a passage takes",
    ]
    prag = max(facts.bytes_per_passage.values())
    for name, num_bytes in facts.bytes_per_passage.items():
        ratio = "" if num_bytes == prag else f"   1/{prag / num_bytes:,.0f} of PRAG's"
        lines.append(f"    {name:34}{num_bytes:>12,} B{ratio}")
    return lines
