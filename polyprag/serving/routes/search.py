"""`POST /v1/embeddings` and `POST /v1/retrieve`: what the run's index does."""

import base64
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter

from polyprag.answering.mixing import mixture_of_hits
from polyprag.method.mixture import weights as weights_of
from polyprag.retrieval.results import Hits
from polyprag.serving.failures import ApiError
from polyprag.serving.service import Service
from polyprag.serving.wire import EmbeddingsBody, RetrieveBody

_MOST_TEXTS = 2048


def search_routes(service: Service) -> APIRouter:
    """Returns the routes of one run."""
    router = APIRouter()

    @router.post("/v1/embeddings", tags=["OpenAI"])
    async def embed(body: EmbeddingsBody) -> dict[str, Any]:
        """Makes vectors of texts, by the encoder of the run's index."""
        texts = _texts("input", body.input)
        index = service.indexed()
        with service.accept(route="embeddings") as room:
            async with room.timeout():
                vectors = await service.in_thread(lambda: index.vectors_of(texts))
        if body.dimensions not in (None, vectors.shape[1]):
            wrong = f"dimensions: the index's encoder makes {vectors.shape[1]} numbers"
            raise ApiError(400, wrong, param="dimensions")
        as_text = body.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": at, "embedding": _told(vector, as_text=as_text)}
            for at, vector in enumerate(vectors)
        ]
        words = sum(len(text.split()) for text in texts)  # nothing here counts an encoder's tokens
        usage = {"prompt_tokens": words, "total_tokens": words}
        return {"object": "list", "data": data, "model": body.model, "usage": usage}

    @router.post("/v1/retrieve", tags=["polyprag"])
    async def retrieve(body: RetrieveBody) -> dict[str, Any]:
        """Finds passages."""
        queries = _texts("query", body.query)
        index, config = service.indexed(), service.engine.loaded.config.retrieval
        k, method = body.top_k or config.top_k, body.method or config.method
        if k > service.limits.max_top_k:
            raise ApiError(400, f"top_k: at most {service.limits.max_top_k} passages are found")
        with service.accept(route="retrieve", mode=method) as room:
            async with room.timeout():
                found = await service.in_thread(
                    lambda: [
                        {"query": query, "passages": _passages(hits)}
                        | ({"gates": _gates(service, hits)} if body.gates else {})
                        for query, hits in zip(
                            queries, index.search(queries, k=k, method=method), strict=True
                        )
                    ]
                )
        return {"object": "list", "data": found}

    return router


def _texts(name: str, given: str | list[str]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not texts or any(not text.strip() for text in texts):
        raise ApiError(400, f"{name}: is empty, or has an empty text", param=name)
    if len(texts) > _MOST_TEXTS:
        raise ApiError(400, f"{name}: at most {_MOST_TEXTS:,} texts are taken at once", param=name)
    return texts


def _passages(hits: Hits) -> list[dict[str, Any]]:
    return [
        {"id": p.id, "key": p.key, "title": p.title, "text": p.text, "score": float(score)}
        for p, score in zip(hits.passages, hits.scores, strict=True)
    ]


def _gates(service: Service, hits: Hits) -> list[list[float]]:
    """Returns the mixture that `poly` would answer with."""
    loaded = service.engine.loaded
    if "poly" not in service.modes:
        raise ApiError(400, "gates: this server's run has no experts loaded", param="gates")
    weights = weights_of(torch.from_numpy(np.asarray(hits.scores)), loaded.config.retrieval)
    mixture = mixture_of_hits(
        hits, weights, mode="poly", pool=loaded.experts("poly"), router=loaded.router
    )
    return [[float(gate) for gate in site] for site in mixture]


def _told(vector: np.ndarray[Any, np.dtype[np.float32]], *, as_text: bool) -> list[float] | str:
    if as_text:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(number) for number in vector]
