"""Failures as OpenAI's clients read them: a status, and a body that says what and why."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from polyprag.errors import ConfigError, PolypragError, RequestError
from polyprag.method.window import QuestionTooLongError

_LOG = logging.getLogger(__name__)
GONE = 499  # as web servers write down a client that went
_KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that isn't answered."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Takes what the client is told.

        Args:
            status: HTTP's.
            message: what is wrong, and what to do.
            code: OpenAI's word for it.
            param: the field that it is about.
            retry_after: seconds after which another try may be taken.
        """
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """What the client reads."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else None)
        return {
            "error": {
                "message": self.message,
                "type": kind or "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """Returns the whole response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, status_code=self.status, headers=headers)


def api_error_of(error: BaseException, *, quiet: bool = False) -> ApiError:
    """Returns what a client is told of an error; a bug's traceback is logged unless `quiet`."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError):
        return ApiError(504, "the answer took longer than this server allows", code="timeout")
    if isinstance(error, QuestionTooLongError):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, PolypragError):
        of_request = isinstance(error, RequestError | ConfigError)
        return ApiError(400 if of_request else 500, str(error))
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail))
    if not quiet:
        _LOG.error("a request failed", exc_info=error)
    return ApiError(500, f"the server failed: {type(error).__name__}; its log says more")


def answer_failures(app: FastAPI) -> None:
    """Has an app answer its failures so."""

    async def told(_: Request, error: Exception) -> JSONResponse:
        return api_error_of(error).response()

    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first, *_others = error.errors()
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return ApiError(400, message, param=where or None).response()

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(PolypragError, told)
    app.add_exception_handler(HTTPException, told)
    app.add_exception_handler(TimeoutError, told)
    app.add_exception_handler(Exception, told)
    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]
