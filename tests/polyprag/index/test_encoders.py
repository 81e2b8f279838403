from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import Config, IndexConfig, ModelConfig
from polyprag.errors import ConfigError
from polyprag.index.build import build_index
from polyprag.index.encoders import BaseModelEncoder, SentenceEncoder
from polyprag.index.search import Index

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


def test_base_encoder_is_the_mean_of_the_last_hidden_states(base_dir: Path) -> None:
    encoder = BaseModelEncoder(ModelConfig(path=str(base_dir)), batch_size=2)
    vectors = encoder.encode(TEXTS)
    model = LlamaForCausalLM.from_pretrained(base_dir).eval()
    assert vectors.shape == (4, encoder.dims)
    assert not vectors[3].any()  # no token at all
    for text, vector in zip(TEXTS[:3], vectors, strict=False):
        ids = torch.tensor([list(encoder._tokenizer(text)["input_ids"])])
        with torch.inference_mode():
            states = model(ids, output_hidden_states=True).hidden_states[-1][0]
        mean = states.mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)


def test_an_index_with_base_encoder_finds_a_passage_by_its_own_text(
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    titled_texts: list[tuple[str, str]],
    base_dir: Path,
) -> None:
    run = make_corpus_run(tmp_path / "run")
    config = Config(
        model=ModelConfig(path=str(base_dir)),
        index=IndexConfig(encoder="base", query_prefix="", passage_prefix=""),
    )
    build_index(run, config)
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
    np.testing.assert_allclose(encoder.encode(TEXTS[:3]), expected, atol=1e-5)


@pytest.mark.slow
def test_a_sentence_encoder_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index\.encoder_path"):
        SentenceEncoder(str(tmp_path), batch_size=1)
