"""A run that benchmarks ask, encoded in this process, and what it takes."""

from pathlib import Path

from harness.plain_workers import encode_here
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import save_config
from polyprag.retrieval.building.index import build_index
from sharding.ingest.prepare import prepare


def encoded_run(directory: Path, passages: Path, config: Config) -> Path:
    """Makes `directory/run` of the passages: prepared, augmented, encoded and indexed."""
    run = directory / "run"
    prepare([str(passages)], run / "corpus", partition_size=config.data.partition_size)
    augment_corpus(run, config)
    save_config(config, run)
    encode_here(run, config)
    build_index(run, config)
    return run


def encoding_bytes(run: Path) -> int:
    """Returns what an encoding's experts and rows take, a file of two names once."""
    files = [path.stat() for path in (run / "encoding").rglob("*.safetensors")]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())
