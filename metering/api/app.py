"""The HTTP API as an ASGI application. A function, `metering serve` and tests build the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from metering.api.problems import ProblemError
from metering.version import package_version

if TYPE_CHECKING:
    from metering.api.parts import ApiParts


def build(parts: ApiParts) -> FastAPI:
    """The application over these parts. Building it asks nothing of any store."""
    app = FastAPI(title="metering", version=package_version(), docs_url=None, redoc_url=None, openapi_url=None)
    app.state.parts = parts
    app.add_exception_handler(ProblemError, _problem)
    return app


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - it is registered for this class
    return error.response()
