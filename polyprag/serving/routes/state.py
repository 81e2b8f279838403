"""What runs here and how it is: `/v1/models`, `/health`, `/ready`, `/metrics`."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from polyprag.serving.names import mode_and_keys, model_cards
from polyprag.serving.service import Service


def state_routes(service: Service) -> APIRouter:
    """Returns the routes of one run."""
    router = APIRouter()

    def cards() -> list[dict[str, Any]]:
        return model_cards(
            service.name,
            base=service.base,
            modes=service.modes,
            created=service.started,
            window=service.window,
        )

    @router.get("/v1/models", tags=["OpenAI"])
    async def list_models() -> dict[str, Any]:
        """Lists the base model, and each way to answer."""
        return {"object": "list", "data": cards()}

    @router.get("/v1/models/{model:path}", tags=["OpenAI"])
    async def show_model(model: str) -> dict[str, Any]:
        """Tells of one of them; of one that mixes named passages, too."""
        mode_and_keys(model, name=service.name, modes=service.modes)
        known = {card["id"]: card for card in cards()}
        return known.get(model) or {**known[service.name], "id": model, "parent": service.name}

    @router.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """Says that the server is there."""
        return {"status": "ok"}

    @router.get("/ready", tags=["state"])
    async def ready() -> Response:
        """Says whether requests are taken."""
        if service.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "ending"}, status_code=503)

    @router.get("/metrics", tags=["state"])
    async def metrics() -> Response:
        """Counters, as Prometheus reads them."""
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
