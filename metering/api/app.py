"""The HTTP API as an ASGI application. A Lambda function, `metering serve` and tests build the same application."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from metering.api import openapi, page
from metering.api.parameters import ProblemError, given_values, problem_of
from metering.api.resources import accounts, cost, freshness, health, operators, trace, usage
from metering.api.routes import router_of
from metering.errors import MeteringError
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from metering.api.asking import Resource
    from metering.api.parts import ApiParts

_DOCUMENT_S = 300
# Modules whose `RESOURCES` are served, in the order of the document.
_RESOURCES = (usage, cost, accounts, trace, operators, freshness)
# A route that serves pages sets its own Content-Security-Policy.
_SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


def build(parts: ApiParts) -> FastAPI:
    """The application over these parts. Building it calls no store."""
    app = FastAPI(
        title="metering",
        version=package_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    resources = (*(each for module in _RESOURCES for each in module.RESOURCES), health.resource())
    app.include_router(router_of(parts, resources))
    app.state.parts = parts
    app.state.resources = resources
    _serve_document(app, resources)
    app.include_router(page.router(parts))
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(MeteringError, _metering_problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(Exception, _fault)
    app.add_middleware(_SafeHeaders)
    return app


def _serve_document(app: FastAPI, resources: Sequence[Resource]) -> None:
    content = openapi.document_bytes(resources, version=app.version)

    async def answer(request: Request) -> Response:
        given_values((), request.scope["query_string"])
        headers = {"Cache-Control": f"public, max-age={_DOCUMENT_S}"}
        return Response(content=content, media_type="application/json", headers=headers)

    app.add_api_route(openapi.PATH, answer, methods=["GET"], response_class=Response, response_model=None)


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - it is registered for this class
    return error.response()


def _metering_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, MeteringError)  # noqa: S101 - it is registered for this class
    problem = problem_of(error)
    if problem is None:
        # An internal error: the server logs it with its traceback.
        raise error
    return problem.response()


def _http_problem(request: Request, error: Exception) -> Response:
    """Errors of the framework itself: unknown paths and methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this class
    known = {
        404: ("not-found", "There is nothing at this path. The document has all: /openapi.json"),
        405: ("method-not-allowed", f"{request.method} is not possible here: the API only reads, with GET."),
    }
    phrase = HTTPStatus(error.status_code).phrase
    kind, detail = known.get(error.status_code, ("refused", phrase))
    return ProblemError(
        kind=kind, status=error.status_code, title=phrase, detail=detail, headers=error.headers or {}
    ).response()


def _fault(_request: Request, _error: Exception) -> Response:
    """A fault of ours. The log has the cause; the response does not reveal it."""
    # This middleware runs outside all others.
    return ProblemError(
        kind="fault",
        status=500,
        title="A fault of the service",
        detail="The request failed by a fault of ours.",
        headers={name.decode(): value.decode() for name, value in _SAFE.items() if name != b"cache-control"},
    ).response()


class _SafeHeaders:
    """Headers that every response has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                had = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *((name, value) for name, value in _SAFE.items() if name not in had)]
            await send(message)

        await self._app(scope, receive, sending)
