"""Encoders of transformers against vectors that are put together by hand, a text at a time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)
from transformers.utils import logging as hf_logging

from polyprag.config import Config, IndexConfig
from polyprag.errors import ConfigError
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.encoders.choice import fit_encoder, saved_encoder
from polyprag.retrieval.encoders.pooled_model import Pooling
from polyprag.retrieval.encoders.transformers import TransformersEncoder
from polyprag.retrieval.search import Index

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WINDOW = 48  # tokens
TITLED_TEXTS = [
    ("Berg", "a painter"),
    ("Adler", "a much longer text " * 20),
    ("", ""),
    ("Holm", "sailed to Kyoto"),
    ("a title that takes more than half of all the room there is", "and its text " * 9),
]
QUERIES = ["who painted it", "b", "where is it " * 30, "who sailed to Kyoto"]
SIZES = {
    "vocab_size": 5 + 2 * len(LETTERS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.5,  # wide enough that random vectors differ
}


def save(
    directory: Path, kind: Callable[[Any], PreTrainedModel], config: Any, seed: int = 0
) -> Path:
    """Save a random model and a tokenizer that knows letters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind(config).eval().save_pretrained(directory)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*pieces, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    BertTokenizer(vocab=ids).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("bert"), BertModel, BertConfig(**SIZES))


@pytest.fixture(scope="module")
def dpr(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A context encoder and a question encoder."""
    config = DPRConfig(**SIZES, projection_dim=12)
    place = tmp_path_factory.mktemp("dpr")
    return (
        save(place / "context", DPRContextEncoder, config, seed=1),
        save(place / "question", DPRQuestionEncoder, config, seed=2),
    )


def pooling(kind: str = "mean", **settings: Any) -> Pooling:
    return Pooling(
        **({"kind": kind, "normalize": False, "max_tokens": 512, "batch_size": 2} | settings)
    )


def joined(directory: Path, *texts: str, most: int = WINDOW) -> dict[str, torch.Tensor]:
    """BERT's layout of one text or two, by hand: the longer one loses its end."""
    tokenizer = BertTokenizer.from_pretrained(directory)
    parts = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    while sum(map(len, parts)) + 1 + len(parts) > most:
        max(parts, key=len).pop()
    ids, kinds = [tokenizer.cls_token_id], [0]
    for number, part in enumerate(parts):
        ids += [*part, tokenizer.sep_token_id]
        kinds += [number] * (len(part) + 1)
    return {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([kinds])}


def pooled(model: PreTrainedModel, inputs: dict[str, torch.Tensor], kind: str) -> np.ndarray:
    with torch.inference_mode():
        output = model(**inputs)
    if kind == "pooler":
        return output.pooler_output[0].numpy()
    states_TD = output.last_hidden_state[0].numpy()
    return {"mean": states_TD.mean(0), "cls": states_TD[0], "last": states_TD[-1]}[kind]


@pytest.mark.parametrize("kind", ["mean", "cls", "last", "pooler"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_vectors_are_those_of_each_text_read_alone(bert: Path, kind: str, batch_size: int) -> None:
    model = BertModel.from_pretrained(bert).eval()
    encoder = TransformersEncoder.open(
        str(bert),
        pooling=pooling(kind, batch_size=batch_size),
        query_prefix="query ",
        passage_prefix="passage ",
    )
    passages = [f"passage {title}\n{text}" for title, text in TITLED_TEXTS]
    expected = np.stack([pooled(model, joined(bert, text), kind) for text in passages])
    vectors = encoder.encode_passages(TITLED_TEXTS)
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous
    assert encoder.dims == 16
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    queries = np.stack([pooled(model, joined(bert, f"query {text}"), kind) for text in QUERIES])
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), queries, rtol=1e-4, atol=1e-5)
    assert np.ptp(queries, axis=0).max() > 0.1  # else the order would prove nothing


def test_no_bar_goes_over_the_tensors_of_a_file(
    bert: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    show_bar: Callable[[], None] = hf_logging.enable_progress_bar
    show_bar()
    TransformersEncoder.open(str(bert), pooling=pooling(), query_prefix="", passage_prefix="")
    assert "Loading weights" not in capfd.readouterr().err


def test_normalised_vectors_are_the_same_at_length_one(bert: Path) -> None:
    raw = TransformersEncoder.open(str(bert), pooling=pooling()).encode_queries(QUERIES)
    unit = TransformersEncoder.open(str(bert), pooling=pooling(normalize=True))
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert not np.allclose(raw, expected, atol=0.1)
    np.testing.assert_allclose(unit.encode_queries(QUERIES), expected, atol=1e-6)


def test_the_order_of_texts_does_not_matter(bert: Path) -> None:
    encoder = TransformersEncoder.open(str(bert), pooling=pooling())
    backwards = encoder.encode_passages(TITLED_TEXTS[::-1])[::-1]
    np.testing.assert_allclose(encoder.encode_passages(TITLED_TEXTS), backwards, atol=1e-5)


def test_no_texts_have_no_vectors(bert: Path) -> None:
    encoder = TransformersEncoder.open(str(bert), pooling=pooling())
    assert encoder.encode_passages([]).shape == encoder.encode_queries([]).shape == (0, 16)


def test_no_more_tokens_are_read_than_asked_for(bert: Path) -> None:
    model = BertModel.from_pretrained(bert).eval()
    encoder = TransformersEncoder.open(str(bert), pooling=pooling(max_tokens=20))
    expected = [pooled(model, joined(bert, text, most=20), "mean") for text in QUERIES]
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), expected, rtol=1e-4, atol=1e-5)


def test_dpr_reads_title_and_text_as_a_pair_and_queries_by_its_other_model(
    dpr: tuple[Path, Path],
) -> None:
    context, question = dpr
    encoder = TransformersEncoder.open(
        str(context), query_path=str(question), pooling=pooling("pooler"), passage_pair=True
    )
    assert encoder.dims == 12
    model: PreTrainedModel = DPRContextEncoder.from_pretrained(context).eval()
    expected = [pooled(model, joined(context, *pair), "pooler") for pair in TITLED_TEXTS]
    expected[TITLED_TEXTS.index(("", ""))] *= 0  # special tokens alone say nothing
    vectors = encoder.encode_passages(TITLED_TEXTS)
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    model = DPRQuestionEncoder.from_pretrained(question).eval()
    expected = [pooled(model, joined(question, query), "pooler") for query in QUERIES]
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), expected, rtol=1e-4, atol=1e-5)


def test_dpr_has_no_states_to_average(dpr: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"index\.pooling=mean .*DPRContext.* to pooler"):
        TransformersEncoder.open(str(dpr[0]), pooling=pooling("mean"))


def test_two_models_with_vectors_of_other_lengths_are_refused(
    bert: Path, dpr: tuple[Path, Path]
) -> None:
    with pytest.raises(ConfigError, match=r"index\.query_encoder_path=.* 12 numbers.* 16;"):
        TransformersEncoder.open(str(bert), query_path=str(dpr[1]), pooling=pooling("pooler"))


def test_a_model_whose_first_positions_are_the_paddings_reads_fewer_tokens(tmp_path: Path) -> None:
    config = RobertaConfig(**SIZES, pad_token_id=0)
    directory = save(tmp_path, RobertaModel, config)
    model = RobertaModel.from_pretrained(directory).eval()
    encoder = TransformersEncoder.open(str(directory), pooling=pooling())
    for text, vector in zip(QUERIES, encoder.encode_queries(QUERIES), strict=True):
        ids = joined(directory, text, most=WINDOW - 1)["input_ids"]
        expected = pooled(model, {"input_ids": ids}, "mean")
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)


# --- what can't be used


def test_a_model_saved_without_its_pooler_serves_every_other_pooling(tmp_path: Path) -> None:
    directory = save(tmp_path, BertForMaskedLM, BertConfig(**SIZES))
    assert TransformersEncoder.open(str(directory), pooling=pooling("cls")).dims == 16
    with pytest.raises(ConfigError, match=r"index\.encoder_path=.*pooler.*index\.pooling=pooler"):
        TransformersEncoder.open(str(directory), pooling=pooling("pooler"))


def test_missing_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    directory = save(tmp_path, BertModel, BertConfig(**SIZES))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match=r"index\.query_encoder_path=.*missing.*layer\.2"):
        TransformersEncoder.open(str(bert), query_path=str(directory), pooling=pooling())


def test_pickled_weights_are_refused_with_how_to_convert_them(tmp_path: Path) -> None:
    directory = save(tmp_path, BertModel, BertConfig(**SIZES))
    state = BertModel.from_pretrained(directory).state_dict()
    (directory / "model.safetensors").unlink()
    torch.save(state, directory / "pytorch_model.bin")
    with pytest.raises(
        ConfigError, match=r"index\.encoder_path=.*convert it once.*save_pretrained"
    ):
        TransformersEncoder.open(str(directory), pooling=pooling())


def test_a_models_own_code_is_never_run(tmp_path: Path) -> None:
    directory = save(tmp_path, BertModel, BertConfig(**SIZES))
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(ConfigError, match=r"index\.encoder_path="):
        TransformersEncoder.open(str(directory), pooling=pooling())
    assert not (tmp_path / "run").exists()


def test_a_model_with_a_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=57, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    directory = save(tmp_path, T5Model, config)
    with pytest.raises(ConfigError, match=r"index\.encoder_path=.*decoder"):
        TransformersEncoder.open(str(directory), pooling=pooling())


def test_a_directory_that_is_not_there_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"index\.encoder_path="):
        TransformersEncoder.open(str(tmp_path / "none"), pooling=pooling())


# --- in an index


def brute_force(
    encoder: Any, titled_texts: Sequence[tuple[str, str]], query: str, k: int
) -> tuple[list[int], np.ndarray]:
    scores = encoder.encode_passages(titled_texts) @ encoder.encode_queries([query])[0]
    best = np.argsort(-scores)[:k]
    return best.tolist(), scores[best]


@pytest.mark.parametrize("normalize", [True, False])
def test_an_index_finds_the_passages_with_the_largest_inner_products(
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    titled_texts: list[tuple[str, str]],
    bert: Path,
    normalize: bool,
) -> None:
    run = make_corpus_run(tmp_path / "run")
    index = IndexConfig(encoder="transformers", encoder_path=str(bert), normalize=normalize)
    build_index(run, Config(index=index))
    hits = Index.open(run).search(["who was born in Oslo"], k=4, method="dense")[0]
    encoder = TransformersEncoder.open(str(bert), pooling=pooling(normalize=normalize))
    ids, scores = brute_force(encoder, titled_texts, "who was born in Oslo", 4)
    assert hits.ids.tolist() == ids
    np.testing.assert_allclose(hits.scores, scores, rtol=5e-3)  # the index keeps fp16


def test_an_index_of_dpr_asks_by_the_question_encoder(
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    titled_texts: list[tuple[str, str]],
    dpr: tuple[Path, Path],
) -> None:
    run = make_corpus_run(tmp_path / "run")
    index = IndexConfig(
        encoder="transformers",
        encoder_path=str(dpr[0]),
        query_encoder_path=str(dpr[1]),
        pooling="pooler",
        normalize=False,
        passage_pair=True,
    )
    build_index(run, Config(index=index))
    hits = Index.open(run).search(["who was a chemist"], k=3, method="dense")[0]
    (tmp_path / "again").mkdir()
    encoder = fit_encoder(tmp_path / "again", [], Config(index=index))
    ids, scores = brute_force(encoder, titled_texts, "who was a chemist", 3)
    assert hits.ids.tolist() == ids
    np.testing.assert_allclose(hits.scores, scores, rtol=5e-3)
    again = saved_encoder(tmp_path / "again")
    for encode in ("encode_passages", "encode_queries"):
        texts = titled_texts if encode == "encode_passages" else QUERIES
        np.testing.assert_array_equal(
            getattr(again, encode)(texts), getattr(encoder, encode)(texts)
        )


def test_a_text_whose_tokens_are_mostly_unknown_has_no_vector(bert: Path) -> None:
    """The tokenizer knows Latin letters: a word in another script is one unknown token."""
    encoder = TransformersEncoder.open(str(bert), pooling=pooling())
    vectors = encoder.encode_queries(["painter", "कलाकार नगर", "a कलाकार", "a कलाकार नगर"])
    assert vectors.any(axis=1).tolist() == [True, False, True, False]
