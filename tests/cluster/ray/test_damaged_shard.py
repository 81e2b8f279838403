"""A shard that is damaged while the workers train: one error for all, and no hang."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.checkpoints.manifest import CheckpointManifest
from cluster.plan.steps import plan_encoding
from polyprag.config.files import load_config
from sharding.corpus.manifest import CorpusManifest

pytestmark = pytest.mark.slow

WORLD_SIZE = 2
DAMAGED_AT = 4  # steps
MAX_SECONDS = 120.0


def train_and_tell(run: Path, overrides: list[str], shard: Path, damage: str) -> None:
    """One worker: when it comes to a step, the first one damages a shard; says how it all ended."""
    from torch import distributed

    import cluster.training.loop as training
    from cluster.training.train_encoding import train_encoding

    real, rank = training.train_step, distributed.get_rank()

    def step_after_damage(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == DAMAGED_AT and rank == 0:
            data = bytearray(shard.read_bytes())
            if damage == "gone":
                shard.unlink()
            elif damage == "cut":
                shard.write_bytes(data[:-700])
            else:
                data[700] ^= 1
                shard.write_bytes(data)
        return real(*args, step=step, **kwargs)

    training.train_step = step_after_damage  # type: ignore[assignment]
    ended = {"how": "trained to the end"}
    started = time.monotonic()
    try:
        train_encoding(str(run), load_config([], overrides))
    except Exception as error:
        ended = {"how": type(error).__name__, "message": str(error)}
    (run / f"ended-{rank}.json").write_text(
        json.dumps(ended | {"seconds": time.monotonic() - started})
    )


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_all_workers_end_with_the_shards_name_and_the_checkpoint_is_whole(
    workplace: Any, spawn: Callable[..., None], damage: str
) -> None:
    run = workplace.run
    overrides = workplace.overrides(
        data__lanes=2, data__microbatch=1, data__prefetch=1, checkpoint__every_steps=2
    )
    corpus = CorpusManifest.load(run / "corpus")
    plan = plan_encoding(corpus, load_config([], overrides), corpus_url="corpus")
    # The partition that one lane, of one worker, reads last.
    last = plan.lane_order(1, epoch=0)[-1]
    shard = run / "corpus" / corpus.partitions[last].file
    spawn(
        *(train_and_tell, run, overrides, shard, damage),
        world_size=WORLD_SIZE,
        within_s=MAX_SECONDS,
    )

    ends = [json.loads((run / f"ended-{rank}.json").read_text()) for rank in range(WORLD_SIZE)]
    assert all(shard.name in end.get("message", "") for end in ends), ends
    assert {end["how"] for end in ends} <= {"CorpusError", "RunError"}
    steps = workplace.metrics()[-1]["step"]
    assert DAMAGED_AT <= steps < plan.total_steps, "it was read before it was damaged, or never"

    checkpoint = CheckpointManifest.load(str(run / "checkpoints"))
    assert checkpoint is not None
    assert checkpoint.step == steps - steps % 2
    files = [checkpoint.experts, *checkpoint.rows.values()]
    for file in files:
        data = (run / "checkpoints" / file.file).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.num_bytes)
