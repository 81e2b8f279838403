import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    PreTrainedModel,
)

from polyprag.config import RetrievalConfig
from polyprag.errors import ConfigError
from polyprag.retrieval.fusion import Ranking
from polyprag.retrieval.rerank import CrossEncoder, reranked
from sharding.corpus.passages import Passage

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WINDOW = 48  # tokens
QUERY = "who painted it"
PASSAGES = [
    Passage(0, "0", "Berg", "a painter"),
    Passage(1, "1", "Adler", "a much longer text " * 20),
    Passage(2, "2", "", ""),
    Passage(3, "3", "Holm", "sailed to Kyoto"),
    Passage(4, "4", "Ibsen", "was a chemist in Oslo"),
]

SaveModel = Callable[..., Path]


def save_tokenizer(directory: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*pieces, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    BertTokenizer(vocab=ids).save_pretrained(directory)


def bert_config(num_labels: int) -> BertConfig:
    return BertConfig(
        vocab_size=5 + 2 * len(LETTERS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=WINDOW,
        num_labels=num_labels,
        initializer_range=0.5,  # wide enough that random scores differ
    )


def save_random(
    directory: Path,
    *,
    num_labels: int = 1,
    kind: Callable[[BertConfig], PreTrainedModel] = BertForSequenceClassification,
) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(bert_config(num_labels)).eval()
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return model


def token_ids(tokenizer: BertTokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def score_alone(model: PreTrainedModel, query: str, passage: Passage) -> torch.Tensor:
    """The logits of one pair put together by hand, without padding; BERT's own layout."""
    tokenizer = BertTokenizer.from_pretrained(model.name_or_path)
    first = token_ids(tokenizer, query)
    second = token_ids(tokenizer, f"{passage.title}\n{passage.text}")[: WINDOW - 3 - len(first)]
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids = torch.tensor([[begin, *first, end, *second, end]])
    kinds = torch.tensor([[0] * (len(first) + 2) + [1] * (len(second) + 1)])
    with torch.inference_mode():
        return model(input_ids=ids, token_type_ids=kinds).logits[0]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_scores_are_the_logits_of_each_pair_read_alone(tmp_path: Path, batch_size: int) -> None:
    save_random(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    expected = [score_alone(model, QUERY, passage).item() for passage in PASSAGES]
    encoder = CrossEncoder.open(str(tmp_path), batch_size=batch_size)
    scores = encoder.scores(QUERY, PASSAGES)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert len(set(scores.tolist())) == len(PASSAGES)  # else the order would prove nothing


def test_of_two_logits_the_score_is_the_second_minus_the_first(tmp_path: Path) -> None:
    save_random(tmp_path, num_labels=2)
    model = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    expected = []
    for passage in PASSAGES:
        irrelevant, relevant = score_alone(model, QUERY, passage).tolist()
        expected.append(relevant - irrelevant)
    scores = CrossEncoder.open(str(tmp_path), batch_size=2).scores(QUERY, PASSAGES)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_query_longer_than_the_model_reads_is_scored_all_the_same(tmp_path: Path) -> None:
    save_random(tmp_path)
    encoder = CrossEncoder.open(str(tmp_path), batch_size=2)
    scores = encoder.scores("why " * 100, PASSAGES)
    assert np.isfinite(scores).all()
    assert scores[0] != scores[3]  # something of the passages is still read


def test_no_passages_have_no_scores(tmp_path: Path) -> None:
    save_random(tmp_path)
    assert CrossEncoder.open(str(tmp_path), batch_size=2).scores(QUERY, []).shape == (0,)


def test_a_classifier_of_three_classes_is_refused(tmp_path: Path) -> None:
    save_random(tmp_path, num_labels=3)
    with pytest.raises(ConfigError, match=r"retrieval\.reranker=.* 3 logits"):
        CrossEncoder.open(str(tmp_path), batch_size=2)


def test_a_model_without_a_trained_classifier_is_refused(tmp_path: Path) -> None:
    save_random(tmp_path, kind=BertModel)
    with pytest.raises(ConfigError, match=r"retrieval\.reranker=.*classifier.* cross-encoder"):
        CrossEncoder.open(str(tmp_path), batch_size=2)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = save_random(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"retrieval\.reranker=.*safetensors"):
        CrossEncoder.open(str(tmp_path), batch_size=2)


def test_damaged_weights_are_a_config_error(tmp_path: Path) -> None:
    save_random(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"retrieval\.reranker="):
        CrossEncoder.open(str(tmp_path), batch_size=2)


def test_a_models_own_code_is_never_run(tmp_path: Path) -> None:
    save_random(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {
            "AutoConfig": "own.Config",
            "AutoModelForSequenceClassification": "own.Model",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(ConfigError, match=r"retrieval\.reranker="):
        CrossEncoder.open(str(tmp_path), batch_size=2)
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_not_there_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"retrieval\.reranker="):
        CrossEncoder.open(str(tmp_path / "none"), batch_size=2)


def ranking(passage_ids: list[int]) -> Ranking:
    return Ranking(np.array(passage_ids, np.int64), np.arange(len(passage_ids), 0, -1, np.float32))


def test_the_first_hits_are_reordered_and_the_rest_left_out() -> None:
    seen = []

    def scores_of(query: str, ids: np.ndarray) -> np.ndarray:
        seen.append((query, ids.tolist()))
        return ids.astype(np.float32)

    found = reranked(
        ["a", "b"], [ranking([5, 1, 8, 9]), ranking([2])], scores_of=scores_of, depth=3, k=2
    )
    assert seen == [("a", [5, 1, 8]), ("b", [2])]
    assert [one.ids.tolist() for one in found] == [[8, 5], [2]]
    assert [one.scores.tolist() for one in found] == [[8, 5], [2]]


def test_equal_scores_come_in_the_order_of_their_ids() -> None:
    def scores_of(query: str, ids: np.ndarray) -> np.ndarray:
        return np.zeros(len(ids), np.float32)

    found = reranked([""], [ranking([7, 3, 5])], scores_of=scores_of, depth=3, k=3)
    assert found[0].ids.tolist() == [3, 5, 7]


def test_as_many_hits_as_are_asked_for_are_read_whatever_the_depth() -> None:
    def scores_of(query: str, ids: np.ndarray) -> np.ndarray:
        return ids.astype(np.float32)

    found = reranked([""], [ranking([1, 2, 3, 4])], scores_of=scores_of, depth=2, k=3)
    assert found[0].ids.tolist() == [3, 2, 1]


def test_a_query_without_hits_has_none_after_it() -> None:
    def scores_of(query: str, ids: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing to score")

    found = reranked(["a"], [ranking([])], scores_of=scores_of, depth=3, k=2)
    assert len(found[0].ids) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fusion", "sum"),
        ("dense_weight", 1.5),
        ("dense_weight", -0.1),
        ("dense_weight", float("nan")),
        ("reranker", ""),
        ("rerank_depth", 0),
        ("rerank_batch", 0),
    ],
)
def test_a_setting_that_makes_no_sense_names_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"retrieval\.{key}="):
        RetrievalConfig(**{key: value})  # type: ignore[arg-type]
