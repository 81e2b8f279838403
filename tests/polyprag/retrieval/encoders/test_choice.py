"""Which settings make which encoder, and what is kept of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.config import Config, IndexConfig, ModelConfig
from polyprag.config.files import load_config
from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.encoders.choice import (
    encoder_settings,
    fit_encoder,
    needs_sample,
    saved_encoder,
    uses_gpu,
)

KINDS = ("lsa", "base", "sentence", "transformers", "openai")


def config_of(encoder: str, **index: Any) -> Config:
    path = None if encoder in ("lsa", "base") else "name"
    return Config(index=IndexConfig(**({"encoder": encoder, "encoder_path": path} | index)))


def test_an_lsa_encoder_opened_again_gives_the_same_vectors(
    tmp_path: Path, titled_texts: list[tuple[str, str]]
) -> None:
    config = config_of("lsa", lsa_dims=8, query_prefix="painter ", passage_prefix="chemist ")
    fitted = fit_encoder(tmp_path, titled_texts, config)
    again = saved_encoder(tmp_path)
    assert again.dims == fitted.dims == 8
    for encoder in (fitted, again):
        passages = encoder.encode_passages([("Berg", "sailor"), ("", "")])
        queries = encoder.encode_queries(["chemist Berg\nsailor", "in Oslo"])
        assert passages.shape == queries.shape == (2, 8)
        with_prefix = encoder.encode_passages([("painter chemist Berg", "sailor")])
        without = encoder.encode_queries(["chemist chemist Berg\nsailor"])
        np.testing.assert_allclose(with_prefix, without, atol=1e-6)
    np.testing.assert_array_equal(
        again.encode_passages(titled_texts), fitted.encode_passages(titled_texts)
    )
    np.testing.assert_array_equal(
        again.encode_queries(["who was in Oslo"]), fitted.encode_queries(["who was in Oslo"])
    )


DECIDING: list[tuple[str, dict[str, Any], bool]] = [
    ("lsa", {"lsa_dims": 8}, True),
    ("lsa", {"lsa_sketch": 0.1}, True),
    ("lsa", {"language": "none"}, True),
    ("lsa", {"pooling": "cls"}, False),
    ("base", {"pooling": "last"}, True),
    ("base", {"lsa_dims": 8}, False),
    ("sentence", {"encoder_path": "other"}, True),
    ("sentence", {"normalize": False}, True),
    ("sentence", {"max_tokens": 99}, False),
    ("sentence", {"model_prompts": False}, True),
    ("transformers", {"encoder_path": "other"}, True),
    ("transformers", {"query_encoder_path": "other"}, True),
    ("transformers", {"passage_pair": True}, True),
    ("transformers", {"pooling": "cls"}, True),
    ("transformers", {"max_tokens": 99}, True),
    ("transformers", {"normalize": False}, True),
    ("openai", {"encoder_path": "other"}, True),
    ("openai", {"base_url": "https://example.org/v1"}, True),
    ("openai", {"api_key_env": "OTHER"}, False),
    ("openai", {"max_tokens": 99}, True),
    *((kind, {"query_prefix": "q: "}, True) for kind in KINDS),
    *((kind, {"passage_prefix": "p: "}, True) for kind in KINDS),
    *((kind, {"batch_size": 3}, False) for kind in KINDS),
    *((kind, {"factory": "Flat"}, False) for kind in KINDS),
    *((kind, {"gpu": "never"}, False) for kind in KINDS),
    *((kind, {"bm25_k1": 1.2}, False) for kind in KINDS),
]


@pytest.mark.parametrize(("encoder", "changed", "decides"), DECIDING)
def test_settings_are_what_decides_the_vectors(
    encoder: str, changed: dict[str, Any], decides: bool
) -> None:
    before = encoder_settings(config_of(encoder))
    after = encoder_settings(config_of(encoder, **changed))
    assert json.loads(json.dumps(before)) == before
    assert (before != after) is decides


def test_another_base_model_is_another_encoder() -> None:
    def settings(**model: Any) -> dict[str, Any]:
        config = Config(model=ModelConfig(**model), index=IndexConfig(encoder="base"))
        return encoder_settings(config)

    assert settings(path="a") != settings(path="b")
    assert settings(path="a", revision="c") != settings(path="a")


def test_a_directory_is_the_same_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    relative = encoder_settings(config_of("transformers", encoder_path="model"))
    absolute = encoder_settings(config_of("transformers", encoder_path=str(tmp_path / "model")))
    assert relative == absolute


def test_only_lsa_is_fitted_and_only_models_here_gain_by_a_gpu() -> None:
    assert [kind for kind in KINDS if needs_sample(config_of(kind))] == ["lsa"]
    gaining = [kind for kind in KINDS if uses_gpu(config_of(kind))]
    assert gaining == ["base", "sentence", "transformers"]


INDEX = {"encoder": "openai", "encoder_path": "m", "base_url": "http://localhost/v1"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"index": {}',
        json.dumps({"index": {"encoder": "tfidf"}}),
        json.dumps({"index": {"encoder": 1}}),
        json.dumps({"index": {"encoder": "transformers"}}),
        json.dumps({"index": {"encoder": "base"}}),
        json.dumps({"index": {"encoder": "base"}, "model": {"path": ""}}),
        json.dumps({"index": INDEX | {"batch_size": "64"}}),
        json.dumps({"index": INDEX, "fitted": []}),
        json.dumps({"index": INDEX, "fitted": {"dims": 0}}),
        json.dumps({"index": INDEX, "fitted": {"dims": "6"}}),
    ],
)
def test_a_damaged_description_is_a_run_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "encoder.json").write_text(content)
    with pytest.raises(RunError, match=r"encoder\.json.*polyprag index RUN"):
        saved_encoder(tmp_path)


def test_a_missing_description_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"encoder\.json"):
        saved_encoder(tmp_path)


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("encoder", {"encoder": "tfidf"}),
        ("encoder_path", {"encoder": "sentence"}),
        ("encoder_path", {"encoder": "transformers"}),
        ("encoder_path", {"encoder": "openai", "encoder_path": ""}),
        ("query_encoder_path", {"query_encoder_path": "q"}),
        (
            "query_encoder_path",
            {"encoder": "transformers", "encoder_path": "p", "query_encoder_path": ""},
        ),
        ("pooling", {"pooling": "max"}),
        ("normalize", {"encoder": "lsa", "normalize": False}),
        ("max_tokens", {"max_tokens": 15}),
        ("passage_pair", {"encoder": "base", "passage_pair": True}),
        ("base_url", {"base_url": "localhost:8000"}),
        ("base_url", {"base_url": "https://user:secret@example.org"}),
        ("api_key_env", {"api_key_env": "sk-secret"}),
        ("api_key_env", {"api_key_env": ""}),
    ],
)
def test_a_setting_that_makes_no_sense_names_its_key(key: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"index\.{key}=") as raised:
        IndexConfig(**settings)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "pooling", "normalize", "query", "passage"),
    [
        ("e5-base", "mean", True, "query: ", "passage: "),
        (
            "bge-base-en",
            "cls",
            True,
            "Represent this sentence for searching relevant passages: ",
            "",
        ),
        ("contriever", "mean", False, "", ""),
        ("dpr-nq", "pooler", False, "", ""),
    ],
)
def test_shipped_encoders_are_used_as_they_were_trained(
    name: str, pooling: str, normalize: bool, query: str, passage: str
) -> None:
    index = load_config(["quickstart", f"encoder/{name}"]).index
    assert index.encoder == "transformers"
    assert (index.pooling, index.normalize) == (pooling, normalize)
    assert (index.query_prefix, index.passage_prefix) == (query, passage)
    assert index.passage_pair is (name == "dpr-nq")
    assert (index.query_encoder_path is not None) is (name == "dpr-nq")


def test_a_shipped_encoder_takes_the_place_of_another_one_as_a_whole() -> None:
    names = ("e5-base", "bge-base-en", "contriever", "dpr-nq")
    for last in names:
        alone = load_config(f"encoder/{last}")
        assert all(load_config([f"encoder/{n}", f"encoder/{last}"]) == alone for n in names)
