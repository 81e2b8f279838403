"""The lanes of one worker, read side by side: what it trains on in each global step."""

from dataclasses import dataclass
from typing import Self

from torch import distributed
from transformers import PreTrainedTokenizerBase

from cluster.plan import EncodePlan
from polyprag.config import Config
from polyprag.examples import Example, expand, num_examples
from sharding.files import join
from sharding.manifest import CorpusManifest
from sharding.passages import Record
from sharding.plan import lanes_of_worker
from sharding.stream import LaneStream


@dataclass(frozen=True, slots=True)
class LaneExamples:
    """What one lane adds to a step."""

    lane: int
    examples: tuple[Example, ...]


class LaneReader:
    """This worker's lanes of one epoch, from a step on."""

    def __init__(
        self,
        run_dir: str,
        manifest: CorpusManifest,
        plan: EncodePlan,
        config: Config,
        tokenizer: PreTrainedTokenizerBase,
        *,
        step: int,
    ) -> None:
        """Opens the lanes' streams at a global step; close it afterwards."""

        def examples_of(record: Record) -> list[Example]:
            return expand(
                record,
                tokenizer,
                config.data,
                loss_on=config.train.loss_on,
                prompt_style=config.generation.prompt,
            )

        cursor = plan.cursor_at(step)
        lanes = lanes_of_worker(
            distributed.get_rank(),
            world_size=distributed.get_world_size(),
            num_lanes=plan.num_lanes,
        )
        self._streams = {
            lane: LaneStream(
                join(run_dir, "corpus"),
                manifest,
                lane,
                num_lanes=plan.num_lanes,
                seed=plan.seed,
                epoch=cursor.epoch,
                microbatch=plan.microbatch,
                expand=examples_of,
                num_examples=lambda part: num_examples(part.counts, config.data.formats),
                cursor=cursor.lanes[lane],
                prefetch=config.data.prefetch,
            )
            for lane in lanes
        }

    def next_step(self) -> list[LaneExamples]:
        """Every lane's next microbatch; a lane that has ended gives none."""
        taken = []
        for lane, stream in self._streams.items():
            batch = next(stream, None)
            if batch is not None:
                taken.append(LaneExamples(lane, batch.items))
        return taken

    def close(self) -> None:
        """Stops reading ahead."""
        for stream in self._streams.values():
            stream.close()

    def __enter__(self) -> Self:
        """Nothing to do: reading began when it was made."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Closes."""
        self.close()
