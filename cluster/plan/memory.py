"""What a worker needs in memory, item by item.

DeepSpeed's part is what its ZeRO optimisers allocate (0.19, float32 experts): stages 1 and 2 keep
the experts whole and a float32 copy of this worker's share of them; stage 3 keeps shares only, of
the base too, and gathers layers as they run. Rows and streams are always in the host's memory.
E stands for the experts' bytes in float32, W for the workers.
"""

from dataclasses import dataclass
from typing import Any

from cluster.parallel.exact_engine import BUCKET_NUMBERS
from cluster.plan.model_shape import ModelShape
from polyprag.config import Config
from sharding.rows.table import LOOKAHEAD, MAX_WRITES
from sharding.rows.traffic import THREADS

# Python with torch, transformers and DeepSpeed; a CUDA context with its libraries' workspaces.
_RUNTIME_BYTES = 1_000_000_000
# A record as Python objects takes about this many times its bytes in the shard.
_PARSED = 3
_EXAMPLE_BYTES_PER_TOKEN = 8  # ids and labels, int32


@dataclass(frozen=True, slots=True)
class RowLoad:
    """The largest worker's share of the routing table and of the stream.

    Attributes:
        held: bytes of rows with moments that are in memory at one time; see `held_partitions`.
        partition: bytes of the largest partition's rows with moments.
        lanes: the most lanes that a worker has.
        shard: bytes of the largest shard.
    """

    held: int
    partition: int
    lanes: int
    shard: int


def held_partitions(*, lanes: int) -> int:
    """Returns the partitions whose rows a worker has in memory at most.

    For each lane the one being read, the next, and a copy while a checkpoint is written; and those
    on their way to a file or from one.
    """
    return lanes * (2 + LOOKAHEAD) + MAX_WRITES + THREADS


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """Bytes by item.

    Attributes:
        device: on the accelerator; empty where there is none.
        host: in the machine's memory; everything where there is no accelerator.
        device_loading: the peak on the accelerator before ZeRO 3 has sharded the base.
        host_loading: the peak in the machine's memory while the base is being read.
    """

    device: dict[str, int]
    host: dict[str, int]
    device_loading: int
    host_loading: int

    @property
    def device_need(self) -> int:
        """The accelerator memory that a worker needs; 0 without one."""
        return max(sum(self.device.values()), self.device_loading)

    @property
    def host_need(self) -> int:
        """The machine's memory that a worker needs."""
        return max(sum(self.host.values()), self.host_loading)


def worker_memory(
    shape: ModelShape, config: Config, *, zero: dict[str, Any], rows: RowLoad
) -> WorkerMemory:
    """Returns the memory of the worker that needs most.

    Args:
        shape: of the base model and its experts.
        config: of the run; `cluster.workers` and `deepspeed.stage` decide the shares.
        zero: DeepSpeed's `zero_optimization` section.
        rows: of that worker.
    """
    workers, stage = config.cluster.workers, config.deepspeed.stage
    base = shape.base_parameters * shape.base_dtype_bytes
    experts = 4 * shape.expert_parameters
    share = -(-experts // workers)
    on_gpu = config.cluster.gpus_per_worker > 0
    model = {
        "base model": -(-base // workers) if stage == 3 else base,
        "experts": share if stage == 3 else experts,
        "experts' optimiser": _optimizer_bytes(share, stage=stage),
        "experts' gradients": share + (experts if stage == 1 else share),
        "reduction buckets": _bucket_bytes(experts, zero, stage=stage, on_gpu=on_gpu),
    }
    if config.train.exact:  # every worker has all of it, and its lanes' gradients one by one
        model |= {
            "experts' optimiser": 2 * experts,
            "experts' gradients": (2 + rows.lanes) * experts,
            "reduction buckets": min(4 * BUCKET_NUMBERS, workers * experts),
        }
    model |= {
        "gathered layers": _gathered_bytes(shape, zero) if stage == 3 else 0,
        "activations": activation_bytes(shape, config, lanes=rows.lanes),
        "runtime": _RUNTIME_BYTES if on_gpu else 0,
    }
    host = {
        "rows and moments": rows.held,
        # Gathered on every worker to be saved, and serialised on one.
        "checkpoint staging": 6 * experts,
        "stream buffers": stream_bytes(config, rows),
        "runtime": _RUNTIME_BYTES,
    }
    loading = base + experts + _RUNTIME_BYTES
    if on_gpu:
        return WorkerMemory(model, host, loading, loading)
    together = {name: num_bytes for name, num_bytes in model.items() if num_bytes} | host
    return WorkerMemory({}, together, 0, loading)


def _optimizer_bytes(share: int, *, stage: int) -> int:
    """Returns both moments and, at stages 1 and 2, a copy of the updated weights (E / W each)."""
    return 2 * share if stage == 3 else 3 * share


def _bucket_bytes(experts: int, zero: dict[str, Any], *, stage: int, on_gpu: bool) -> int:
    """DeepSpeed's reduction buffers: whole buckets, whatever the experts' size.

    Memory of the machine counts when it is written, so there they are no larger than the experts.
    """
    bucket = 4 * int(zero.get("reduce_bucket_size", 500_000_000))
    overlap = zero.get("overlap_comm")
    doubled = stage == 3 if overlap is None else bool(overlap)
    size = bucket if on_gpu else min(bucket, experts)
    return size * (2 if doubled and stage != 3 else 1)


def _gathered_bytes(shape: ModelShape, zero: dict[str, Any]) -> int:
    """Returns the layers that ZeRO 3 holds whole at one time, at most."""
    live = int(zero.get("stage3_max_live_parameters", 1_000_000_000))
    prefetched = int(zero.get("stage3_prefetch_bucket_size", 50_000_000))
    whole = shape.base_parameters + shape.expert_parameters
    return min(live + prefetched, whole) * shape.base_dtype_bytes


def batch_tokens(config: Config, *, lanes: int) -> int:
    """Returns the most tokens, padding included, that a worker puts into one physical batch."""
    of_step = lanes * config.data.microbatch * config.data.max_length
    return max(min(config.train.max_tokens, of_step), config.data.max_length)


def activation_bytes(shape: ModelShape, config: Config, *, lanes: int) -> int:
    """Returns a rough figure for what a forward pass keeps for the backward pass.

    Bytes a token, with b those of the base's dtype: 0.75 b for each input and output of a Linear
    in the decoder layers, 2 b K r for each Linear with experts, 16 for each layer's hidden unit
    (norms in float32, residuals), and 2 b + 8 for each logit. No term for attention scores: SDPA
    keeps none. Where the base isn't float32, a copy of the experts in its dtype is kept too.

    Args:
        shape: of the model.
        config: of the run.
        lanes: the most lanes that a worker has.
    """
    size = shape.base_dtype_bytes
    per_token = (
        3 * size * shape.linear_features // 4
        + 2 * size * config.experts.num * config.experts.rank * shape.expert_linears
        + 16 * shape.hidden * shape.layers
        + (2 * size + 8) * shape.vocabulary
    )
    cast = size * shape.expert_parameters if size != 4 else 0
    return batch_tokens(config, lanes=lanes) * per_token + cast


def stream_bytes(config: Config, rows: RowLoad) -> int:
    """Returns a rough figure for reading ahead.

    Each lane has two shards, as bytes and as records, and `data.prefetch` microbatches of tokens.
    """
    shards = 2 * (1 + _PARSED) * rows.shard
    ahead = config.data.prefetch * config.data.microbatch * config.data.max_length
    return rows.lanes * (shards + ahead * _EXAMPLE_BYTES_PER_TOKEN)
