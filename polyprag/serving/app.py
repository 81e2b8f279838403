"""The ASGI app of one run."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from polyprag.serving.failures import answer_failures
from polyprag.serving.keys import Gate
from polyprag.serving.routes.chat import chat_routes
from polyprag.serving.routes.completions import completion_routes
from polyprag.serving.routes.search import search_routes
from polyprag.serving.routes.state import state_routes
from polyprag.serving.service import Service
from polyprag.version import __version__

_PAGE = Path(__file__).with_name("page")
_OWN_FILES_ALONE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    service: Service, *, key_digests: Iterable[bytes] = (), hosts: Sequence[str] | None = None
) -> FastAPI:
    """Makes the app; it watches the run from its start to its end.

    Args:
        service: who answers.
        key_digests: of the keys of which a request must have one; none: nobody is asked.
        hosts: names by which it may be addressed; None: any.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.watching():
            yield

    app = FastAPI(
        title="polyprag", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(
        Gate,
        key_digests=list(key_digests),
        max_body_bytes=service.limits.max_body_bytes,
        hosts=hosts,
    )
    answer_failures(app)
    for routes in (chat_routes, completion_routes, search_routes, state_routes):
        app.include_router(routes(service))
    app.mount("/page", StaticFiles(directory=_PAGE), name="page")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(
            _PAGE / "index.html", headers={"Content-Security-Policy": _OWN_FILES_ALONE}
        )

    return app
