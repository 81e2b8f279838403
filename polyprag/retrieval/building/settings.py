"""The settings that decide what a base holds: with others it is built anew."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from polyprag.config import Config
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.building.part_maker import LAYOUT
from polyprag.retrieval.encoders.choice import encoder_settings


@dataclass(frozen=True)
class Settings:
    """What decides the contents of a base.

    Attributes:
        config: all settings.
        analyzer: text to terms.
        bm25: of BM25, as JSON values.
        encoder: of the vectors, as JSON values.
    """

    config: Config
    analyzer: Analyzer
    bm25: dict[str, Any]
    encoder: dict[str, Any]

    @classmethod
    def of(cls, config: Config) -> "Settings":
        """Returns those of a config."""
        index = config.index
        bm25 = {"k1": index.bm25_k1, "b": index.bm25_b, "title_weight": index.bm25_title_weight}
        analyzer = Analyzer.of_language(index.language)
        return cls(config, analyzer, bm25, encoder_settings(config))

    @property
    def sha256(self) -> str:
        """Names these settings: others give another base."""
        factory = self.config.index.factory
        values = [LAYOUT, self.analyzer.settings, self.bm25, self.encoder, factory]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
