"""What this worker trains on: its lanes of one epoch, from a cursor on."""

from torch import distributed
from transformers import PreTrainedTokenizerBase

from cluster.plan.steps import EncodePlan
from polyprag.config import Config
from polyprag.method.examples import Example, ExampleMaker, num_examples
from polyprag.method.teacher.targets import AnswerSource
from sharding.corpus.reader import Corpus
from sharding.stream.epoch import WorkerStream
from sharding.stream.plan import Cursor


def open_lanes(
    corpus: Corpus,
    plan: EncodePlan,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cursor: Cursor,
    taught: AnswerSource | None = None,
) -> WorkerStream[Example]:
    """Starts to read this process's lanes; close the stream afterwards.

    Args:
        corpus: of the run.
        plan: of the run.
        config: of the run.
        tokenizer: the base model's.
        cursor: where to go on; the stream ends with its epoch.
        taught: what the teacher says, where the run has one.

    Raises:
        CorpusError: the cursor is of another corpus or config.
    """
    formats = config.data.formats
    return WorkerStream(
        corpus,
        rank=distributed.get_rank(),
        world_size=distributed.get_world_size(),
        num_lanes=plan.num_lanes,
        seed=plan.seed,
        microbatch=plan.microbatch,
        expand=ExampleMaker(
            tokenizer,
            config.data,
            loss_on=config.train.loss_on,
            objective=config.train.objective,
            taught=taught,
            generation=config.generation,
            skip_prefix=config.experts.skip_prefix,
        ),
        num_examples=lambda partition: num_examples(partition.counts, formats),
        cursor=cursor,
        prefetch=config.data.prefetch,
    )
