import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import Config, IndexConfig, ModelConfig
from polyprag.errors import ConfigError
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.encoders.choice import fit_encoder, saved_encoder
from polyprag.retrieval.encoders.sentence import SentenceEncoder
from polyprag.retrieval.search import Index

TEXTS = ["a composer from Oslo", "b", "a much longer text about a painter who lived in Kyoto", ""]


@pytest.fixture(scope="module")
def base_dir(
    tmp_path_factory: pytest.TempPathFactory,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    directory = tmp_path_factory.mktemp("base")
    make_random_llama().save_pretrained(directory)
    make_byte_tokenizer().save_pretrained(directory)
    return directory


def base_config(base_dir: Path, **index: Any) -> Config:
    return Config(
        model=ModelConfig(path=str(base_dir)),
        index=IndexConfig(encoder="base", batch_size=2, **index),
    )


def hidden_states(base_dir: Path, text: str) -> torch.Tensor:
    """The last hidden states (T, D) of a text read alone."""
    model = LlamaForCausalLM.from_pretrained(base_dir).eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(base_dir)(text)["input_ids"]])
    with torch.inference_mode():
        return model(ids, output_hidden_states=True).hidden_states[-1][0]


@pytest.mark.parametrize("normalize", [True, False])
def test_base_encoder_is_the_mean_of_the_last_hidden_states(
    tmp_path: Path, base_dir: Path, normalize: bool
) -> None:
    encoder = fit_encoder(tmp_path, [], base_config(base_dir, normalize=normalize))
    vectors = encoder.encode_queries(TEXTS)
    assert vectors.shape == (4, encoder.dims)
    assert not vectors[3].any()  # no token at all
    for text, vector in zip(TEXTS[:3], vectors, strict=False):
        mean = hidden_states(base_dir, text).mean(0).numpy()
        expected = mean / np.linalg.norm(mean) if normalize else mean
        np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_base_encoder_can_take_the_last_token_which_has_read_all_others(
    tmp_path: Path, base_dir: Path
) -> None:
    encoder = fit_encoder(tmp_path, [], base_config(base_dir, pooling="last", passage_prefix="p: "))
    titled_texts = [("a", TEXTS[0]), ("b", TEXTS[2])]
    for (title, text), vector in zip(
        titled_texts, encoder.encode_passages(titled_texts), strict=True
    ):
        last = hidden_states(base_dir, f"p: {title}\n{text}")[-1].numpy()
        np.testing.assert_allclose(vector, last / np.linalg.norm(last), atol=1e-4)


def test_base_encoder_has_no_pooler(tmp_path: Path, base_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"index\.pooling=pooler .* model\.path="):
        fit_encoder(tmp_path, [], base_config(base_dir, pooling="pooler"))


def test_texts_without_a_token_alone_are_zero(tmp_path: Path, base_dir: Path) -> None:
    encoder = fit_encoder(tmp_path, [], base_config(base_dir))
    assert not encoder.encode_queries(["", "", ""]).any()
    assert encoder.encode_queries([]).shape == (0, encoder.dims)


def test_an_index_with_base_encoder_finds_a_passage_by_its_own_text(
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    titled_texts: list[tuple[str, str]],
    base_dir: Path,
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, base_config(base_dir))
    title, text = titled_texts[12]
    hits = Index.open(run).search([f"{title}\n{text}"], k=1, method="dense")[0]
    assert hits.ids.tolist() == [12]
    assert hits.scores[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_sentence_encoder_gives_the_models_normalised_vectors(
    tmp_path: Path, base_dir: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base_dir / "tokenizer.json"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    model.save(str(tmp_path / "model"))
    encoder = SentenceEncoder(str(tmp_path / "model"), batch_size=2)
    assert encoder.dims == 8
    expected = model.encode(TEXTS[:3])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS[:3]), expected, atol=1e-5)
    as_they_are = SentenceEncoder(str(tmp_path / "model"), batch_size=2, normalize=False)
    np.testing.assert_allclose(
        as_they_are.encode_queries(TEXTS[:3]), model.encode(TEXTS[:3]), atol=1e-5
    )


@pytest.mark.slow
def test_a_sentence_encoder_uses_the_models_own_prompts_unless_it_is_told_otherwise(
    tmp_path: Path, base_dir: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base_dir / "tokenizer.json"))
    static = StaticEmbedding(tokenizer, embedding_dim=8)
    own = {"query": "find: ", "document": "passage: "}
    path = str(tmp_path / "model")
    SentenceTransformer(modules=[static], prompts=own, device="cpu").save(path)
    plain = SentenceTransformer(modules=[static], device="cpu")

    def check(query_prompt: str, passage_prompt: str, **settings: Any) -> None:
        config = Config(index=IndexConfig(encoder="sentence", encoder_path=path, **settings))
        (tmp_path / query_prompt).mkdir(exist_ok=True)
        encoder = fit_encoder(tmp_path / query_prompt, [], config)
        for again in (encoder, saved_encoder(tmp_path / query_prompt)):
            for found, prompted in (
                (again.encode_queries(["who"]), f"{query_prompt}who"),
                (again.encode_passages([("T", "text")]), f"{passage_prompt}T\ntext"),
            ):
                expected = plain.encode([prompted], normalize_embeddings=True)
                np.testing.assert_allclose(found, expected, atol=1e-5)

    check("find: ", "passage: ")
    check("", "", model_prompts=False)
    check("ask: ", "passage: ", query_prefix="ask: ")
    check("", "doc: ", model_prompts=False, passage_prefix="doc: ")
    # An index that was built before has passages without a prompt, so its queries get none.
    saved = tmp_path / "find: " / "encoder.json"
    values = json.loads(saved.read_text())
    del values["index"]["model_prompts"]
    saved.write_text(json.dumps(values))
    expected = plain.encode(["who"], normalize_embeddings=True)
    found = saved_encoder(saved.parent).encode_queries(["who"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_a_sentence_encoder_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index\.encoder_path"):
        SentenceEncoder(str(tmp_path), batch_size=1)
