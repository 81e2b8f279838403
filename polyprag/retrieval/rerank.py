"""Reordering the best hits by a cross-encoder, which reads each beside the question."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError
from polyprag.pretrained import LOAD_ERRORS, load_model, read_tokenizer
from polyprag.retrieval.encoders.interface import passage_text
from polyprag.retrieval.fusion import Ranking, ranking_of
from polyprag.tokens.text_pairs import PairTokenizer
from sharding.corpus.passages import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAX_TOKENS = 512  # of a question and a passage; the rest of the passage isn't read

ScoresOf = Callable[[str, npt.NDArray[np.int64]], npt.NDArray[np.float32]]


def reranked(
    queries: Sequence[str],
    rankings: Sequence[Ranking],
    *,
    scores_of: ScoresOf,
    depth: int,
    k: int,
) -> list[Ranking]:
    """Returns the first hits of each query in the order of other scores.

    Args:
        queries: the questions.
        rankings: of each query.
        scores_of: a query and passage ids (n,) to scores (n,), higher ones better.
        depth: hits of each query that get such a score; k where that is more.
        k: how many of these to return at most.

    Returns:
        A ranking for each query; equal scores come in the order of their ids.
    """
    found = []
    for query, ranking in zip(queries, rankings, strict=True):
        ids = ranking.ids[: max(depth, k)]
        found.append(ranking_of(ids, scores_of(query, ids), k=k) if len(ids) else ranking)
    return found


class CrossEncoder:
    """A sequence classifier that says how well a passage answers a question."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, batch_size: int
    ) -> None:
        """Wraps a loaded model with one or two logits; `open` loads one."""
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        self._has_token_types = "token_type_ids" in tokenizer.model_input_names
        window = getattr(model.config, "max_position_embeddings", None) or _MAX_TOKENS
        max_length = min(_MAX_TOKENS, window, tokenizer.model_max_length)
        self._pairs = PairTokenizer(tokenizer, max_length=max_length)

    @classmethod
    def open(cls, path: str, *, batch_size: int, gpu: str = "auto") -> Self:
        """Loads a cross-encoder; safetensors weights and known code only.

        Args:
            path: a directory or a hub name.
            batch_size: pairs a forward pass.
            gpu: `auto` puts it on the current GPU where there is one; `never` doesn't.

        Raises:
            ConfigError: it can't be loaded, or isn't a classifier with one or two logits.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        try:
            tokenizer: Any = read_tokenizer(path)
            model, bad = load_model(
                AutoModelForSequenceClassification,
                path,
                dtype=torch.float32,  # in bf16 scores that are near each other become equal
            )
        except LOAD_ERRORS as error:
            raise _cannot_load(path, error) from error
        _check_weights(path, bad)
        if model.config.num_labels not in (1, 2):
            raise ConfigError(
                f"retrieval.reranker={path!r} can't be used: it gives {model.config.num_labels} "
                "logits; a cross-encoder gives one (how relevant), or two (irrelevant, relevant)"
            )
        if tokenizer.pad_token_id is None:
            raise ConfigError(
                f"retrieval.reranker={path!r} can't be used: its tokenizer has no padding token; "
                "set pad_token in its tokenizer_config.json"
            )
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        on_gpu = gpu == "auto" and torch.cuda.is_available()
        return cls(model.to("cuda" if on_gpu else "cpu").eval(), tokenizer, batch_size=batch_size)

    def scores(self, query: str, passages: Sequence[Passage]) -> npt.NDArray[np.float32]:
        """Returns how well each passage answers a query.

        The end of a passage that is too long isn't read; the query loses its own only where it
        takes more than half of the room.

        Args:
            query: the question.
            passages: n of them, in any order; those of like length share a batch.

        Returns:
            Scores (n,): the logit, or the second of two logits minus the first.
        """
        import torch

        texts = [passage_text(passage.title, passage.text, prefix="") for passage in passages]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        scores_n = np.zeros(len(texts), dtype=np.float32)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            pairs = self._pairs.tokens([query] * len(batch), [texts[i] for i in batch])
            tokens = self._tokenizer.pad(
                {"input_ids": [ids for ids, _ in pairs], "token_type_ids": [k for _, k in pairs]},
                padding_side="right",
                return_tensors="pt",
            ).to(self._model.device)
            if not self._has_token_types:
                del tokens["token_type_ids"]
            with torch.inference_mode():
                logits_BL = self._model(**tokens).logits.float()
            scores_B = logits_BL[:, -1]
            if logits_BL.shape[1] == 2:
                scores_B = scores_B - logits_BL[:, 0]
            scores_n[batch] = scores_B.cpu().numpy()
        return scores_n


def _check_weights(path: str, names: list[str]) -> None:
    if names:
        raise ConfigError(
            f"retrieval.reranker={path!r} can't be used: {len(names)} of its weights are missing "
            f"or of another shape than config.json says, such as {names[0]!r}; it must be a model "
            "trained as a cross-encoder, with its config.json and all of its .safetensors files"
        )


def _cannot_load(path: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:300]
    return ConfigError(
        f"retrieval.reranker={path!r} can't be loaded: it must be a directory with config.json, "
        "the tokenizer's files and weights as .safetensors, or a hub name and the hub reachable, "
        f"of a sequence classifier that transformers ships [{reason}]"
    )
