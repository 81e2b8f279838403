"""Turning the trained state into the encoding that everything after it reads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import distributed
from transformers import PreTrainedModel

from cluster.parallel.collectives import gather_json, together
from cluster.parallel.engine import ExpertEngine
from cluster.plan.encode_plan import EncodePlan
from polyprag.config import Config
from polyprag.encoding.manifest import RowsPart, Trained, describe_base
from polyprag.encoding.reader import encoding_dir, save_encoding
from sharding.corpus.manifest import CorpusManifest
from sharding.rows.file import save_rows
from sharding.rows.part import RowPartition
from sharding.storage.files import join, list_names, remove
from sharding.stream.plan import partitions_of_worker

_THREADS = 4  # that read and write rows; one partition each is in memory


def write_encoding(
    run_dir: str | Path,
    *,
    config: Config,
    manifest: CorpusManifest,
    plan: EncodePlan,
    engine: ExpertEngine,
    model: PreTrainedModel,
    num_sites: int,
    rows_of: Callable[[int], RowPartition],
    step: int,
    beat: Callable[[str], None] = lambda doing: None,
) -> None:
    """Writes `RUN/encoding`; every worker must call it and writes the rows that it owns.

    Rows get names with the step in them (hexadecimal), so an encoding that is there stays whole
    until the new manifest replaces the old.
    """
    directory = encoding_dir(run_dir)
    mine = partitions_of_worker(
        distributed.get_rank(),
        world_size=distributed.get_world_size(),
        num_partitions=len(manifest.partitions),
        num_lanes=plan.num_lanes,
    )

    def write(index: int) -> dict[str, Any]:
        partition = manifest.partitions[index]
        name = f"rows/part-{index:05d}-{step:012x}.safetensors"
        beat(f"partition {index} of the encoding")
        sha256, _ = save_rows(join(directory, name), rows_of(index), moments=False)
        return asdict(RowsPart(index, partition.first_id, partition.num_passages, name, sha256))

    def write_all() -> list[dict[str, Any]]:
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(write, mine))

    written = together(write_all)
    state = engine.export_state()
    gathered = [entry for worker in gather_json(written) for entry in worker]
    if distributed.get_rank() == 0:
        parts = sorted((RowsPart(**entry) for entry in gathered), key=lambda part: part.index)
        save_encoding(
            directory,
            config=config,
            expert_state={n: t for n, t in state.items() if ".exp_avg" not in n},
            base_model=describe_base(model, config.model),
            num_sites=num_sites,
            parts=parts,
            trained=Trained(steps=step, epochs=plan.first_epoch + plan.epochs),
        )
        keep = {part.file for part in parts}
        for name in list_names(join(directory, "rows")):
            if f"rows/{name}" not in keep:
                remove(join(directory, "rows", name))
    distributed.barrier()
