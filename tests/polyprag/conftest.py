"""A random Llama, a byte-level tokenizer, and small runs with a corpus and an encoding."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from cluster.checkpoints.files import save_row_partition
from cluster.checkpoints.manifest import CheckpointManifest, StateFile, identity_of
from cluster.plan.phases import Phase
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config, ExpertsConfig, GenerationConfig, ModelConfig
from polyprag.encoding.base import BaseModel, describe_base
from polyprag.encoding.manifest import RowsPart, Trained
from polyprag.encoding.reader import encoding_dir, save_encoding
from polyprag.method.base_model import load_base
from polyprag.method.experts import inject
from polyprag.retrieval.building.index import build_index
from sharding.corpus.manifest import CorpusManifest
from sharding.ingest.prepare import prepare
from sharding.rows.file import save_rows
from sharding.rows.part import RowPartition, init_rows
from sharding.storage.files import join, sha256_of
from sharding.stream.plan import Cursor, LaneCursor

CITIES = ("Oslo", "Lima", "Cairo", "Kyoto", "Quito", "Turin", "Perth", "Lyon", "Accra", "Delhi")
NAMES = ("Anna", "Boris", "Carla", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irene", "Jonas")
PLACES = ("Vienna", "Oslo", "Łódź", "Kyoto", "Québec")
TRADES = ("composer", "painter", "chemist", "sailor")
SURNAMES = ("Adler", "Berg", "Çelik", "Dvořák", "Eriksen", "Fuchs", "Grün", "Holm", "Ibsen", "Jara")
NUM_PASSAGES, NUM_SITES, NUM_EXPERTS = 40, 3, 4


@pytest.fixture(scope="session")
def make_byte_tokenizer() -> Callable[[], PreTrainedTokenizerBase]:
    """Make a tokenizer with one token a byte, then <pad> and <eos>."""

    def make() -> PreTrainedTokenizerBase:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: i for i, token in enumerate([*alphabet, "<pad>", "<eos>"])}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
        )

    return make


@pytest.fixture(scope="session")
def make_random_llama() -> Callable[..., LlamaForCausalLM]:
    """Make a random Llama over that vocabulary, in eval mode; the same for the same seed."""

    def make(*, seed: int = 0, window: int = 512, layers: int = 2) -> LlamaForCausalLM:
        config = LlamaConfig(
            vocab_size=258,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=window,
            bos_token_id=None,
            eos_token_id=257,
            pad_token_id=256,
            initializer_range=0.3,  # wide enough that random answers differ
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture(scope="session")
def encoded_run(
    tmp_path_factory: pytest.TempPathFactory,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> tuple[Path, Config]:
    """Ten passages, a random base model, random experts and rows, and their index."""
    directory = tmp_path_factory.mktemp("encoded")
    base, run = directory / "base", directory / "run"
    make_random_llama(seed=3).save_pretrained(base)
    make_byte_tokenizer().save_pretrained(base)
    config = Config(
        model=ModelConfig(path=str(base)),
        generation=GenerationConfig(max_new_tokens=6, batch_size=4),
    )
    source = directory / "passages.jsonl"
    lines = [
        {"id": f"p{i}", "title": name, "text": f"{name} Smith was born in {city} in 19{i}0."}
        for i, (name, city) in enumerate(zip(NAMES, CITIES, strict=True))
    ]
    source.write_text("\n".join(json.dumps(line) for line in lines))
    corpus = prepare([str(source)], run / "corpus", partition_size=4)

    model, tokenizer = load_base(config.model)
    pool = inject(model, config.experts, config.router, seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: 0.2 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in pool.state_dict().items()
    }
    parts = []
    for partition in corpus.partitions:
        rows = init_rows(partition, sites=pool.num_sites, experts=pool.num_experts, std=1.0, seed=0)
        file = f"rows/part-{partition.index:05d}.safetensors"
        sha256, _ = save_rows(join(encoding_dir(run), file), rows, moments=False)
        parts.append(
            RowsPart(
                partition.index, partition.first_id, partition.num_passages, file, sha256, True
            )
        )
    save_encoding(
        encoding_dir(run),
        config=config,
        expert_state=state,
        base_model=describe_base(config.model, tokenizer),
        num_sites=pool.num_sites,
        parts=parts,
        trained=Trained(steps=1, epochs=1),
    )
    build_index(run, config)
    return run, config


@pytest.fixture
def trained_run(encoded_run: tuple[Path, Config], tmp_path: Path) -> tuple[Path, Config]:
    """A copy of that run, augmented and with a checkpoint of its first two partitions."""
    original, config = encoded_run
    run = tmp_path / "run"
    shutil.copytree(original, run)
    augment_corpus(run, config)
    build_index(run, config)
    directory = run / "checkpoints"
    directory.mkdir()
    corpus = CorpusManifest.load(run / "corpus")
    rows = {}
    for partition in corpus.partitions[:2]:
        part = init_rows(partition, sites=2, experts=4, std=1.0, seed=0)
        rows[partition.index] = save_row_partition(str(directory), part, 5, variant="a")
    path = directory / "experts-step-00000005.safetensors"
    save_file({"layer.A": torch.ones(4, 3)}, path)
    CheckpointManifest(
        step=5,
        cursor=Cursor(0, 5, (LaneCursor(0, 0),)),
        world_size=1,
        identity=identity_of(config, corpus),
        phases=(Phase(0, 5, 0, 1, len(corpus.partitions)),),
        experts=StateFile(path.name, sha256_of(path), path.stat().st_size),
        rows=rows,
    ).save(str(directory))
    return run, config


class LoopbackEndpoint:
    """Answers POSTs of one path on the loopback interface, with a pause, and remembers them.

    Attributes:
        requests: the bodies.
        keys: the Authorization headers.
        most_at_once: requests that were under way at the same time.
        url: to give to a client, up to /v1.
    """

    def __init__(self, path: str, answer: Callable[[Any], tuple[int, Any]]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.most_at_once = 0
        self._path, self._answer_of = path, answer
        self._under_way = 0
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        assert handler.path == self._path
        with self._lock:
            self.requests.append(body)
            self.keys.add(handler.headers["Authorization"])
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        time.sleep(0.02)
        with self._lock:
            self._under_way -= 1
        status, value = self._answer_of(body)
        data = json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("retry-after-ms", "1")
        handler.end_headers()
        handler.wfile.write(data)


@pytest.fixture
def serve_endpoint() -> Iterator[Callable[..., LoopbackEndpoint]]:
    """Serve a path by a function of the request's body to a status and a JSON value."""
    with ExitStack() as served:

        def serve(path: str, answer: Callable[[Any], tuple[int, Any]]) -> LoopbackEndpoint:
            endpoint = LoopbackEndpoint(path, answer)
            served.callback(endpoint.server.server_close)
            served.callback(endpoint.server.shutdown)
            return endpoint

        yield serve


def titled_text(i: int) -> tuple[str, str]:
    name, place, trade = SURNAMES[i % 10], PLACES[i % 5], TRADES[i // 10]
    return (
        f"{name} {i}",
        f"{name} was a {trade} who was born in {place} and worked there for {i} years. "
        * (1 + i % 3),
    )


@pytest.fixture(scope="session")
def titled_texts() -> list[tuple[str, str]]:
    return [titled_text(i) for i in range(NUM_PASSAGES)]


@pytest.fixture(scope="session")
def make_corpus_run(titled_texts: list[tuple[str, str]]) -> Callable[[Path], Path]:
    """Make a run with a corpus of four partitions."""

    def make(run: Path) -> Path:
        run.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"id": f"key-{i}", "title": title, "text": text})
            for i, (title, text) in enumerate(titled_texts)
        ]
        source = run / "passages.jsonl"
        source.write_text("\n".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=12)
        return run

    return make


@pytest.fixture(scope="session")
def add_encoding() -> Callable[..., np.ndarray]:
    """Write an encoding of the corpus with random rows and return the rows (N, S, K).

    Those of a partition follow from the seed and its number, so they stay as they are when the
    corpus grows; those of removed passages are zero.
    """

    def add(
        run: Path,
        *,
        seed: int = 0,
        num_passages: int | None = None,
        row_shape: tuple[int, int] = (NUM_SITES, NUM_EXPERTS),
    ) -> np.ndarray:
        corpus = CorpusManifest.load(run / "corpus")
        directory = encoding_dir(run)
        parts, all_rows = [], []
        for partition in corpus.partitions:
            count = partition.num_passages
            if num_passages is not None:
                count = min(count, num_passages - partition.first_id)
            if count <= 0:
                break
            generator = np.random.default_rng([seed, partition.index])
            shape = (partition.num_passages, *row_shape)
            rows = generator.standard_normal(shape, dtype=np.float32)[:count]
            rows[np.array(corpus.removed_in(partition), int) - partition.first_id] = 0
            zeros = np.zeros_like(rows)
            part = RowPartition(
                partition.index, partition.first_id, rows, zeros, zeros, np.zeros(count, np.int32)
            )
            file = f"rows/part-{partition.index:05d}.safetensors"
            sha256, _ = save_rows(join(directory, file), part, moments=False)
            parts.append(
                RowsPart(partition.index, partition.first_id, count, file, sha256, joint=True)
            )
            all_rows.append(rows)
        save_encoding(
            directory,
            config=Config(experts=ExpertsConfig(num=row_shape[1])),
            expert_state={"layer.A": torch.zeros(2, 2)},
            base_model=BaseModel("none", 1, 1, "0" * 64, None, None, None, {}),
            num_sites=row_shape[0],
            parts=parts,
            trained=Trained(steps=1, epochs=1),
        )
        return np.concatenate(all_rows)

    return add
