"""The HTTP API as an ASGI application. A Lambda function, `metering serve` and tests build the same application."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from metering.api import authentication, openapi, page
from metering.api.asking import Asked, Resource, chosen_form, entity_tag, final_tag, knows, not_modified, response_of
from metering.api.parameters import ProblemError, given_values, problem, problem_of
from metering.api.parts import ApiParts, Reading, figures_of
from metering.api.people import is_of_people
from metering.api.resources import budgets, cost, health, operators, trace, usage, who
from metering.errors import MeteringError
from metering.ledger.notes.access import Role
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOBODY = authentication.Grant(token_id="", role=Role.CUSTOMER, accounts=frozenset())


def router_of(parts: ApiParts, resources: Iterable[Resource]) -> APIRouter:
    """Routes of resources."""
    router = APIRouter(redirect_slashes=False)
    for resource in resources:
        router.add_api_route(
            resource.path,
            _endpoint(parts, resource),
            methods=["GET"],
            name=resource.name,
            response_class=Response,
            response_model=None,
        )
    return router


def _endpoint(parts: ApiParts, resource: Resource) -> Callable[[Request], Coroutine[None, None, Response]]:
    async def answer(request: Request) -> Response:
        reading = Reading(shares=parts.shares, figures=figures_of(request))
        work = partial(_answered, parts, resource, request, reading)
        try:
            with anyio.fail_after(parts.limits.deadline_s):
                # No request waits for an overdue thread; it stops before its next read, and counts until then.
                return await to_thread.run_sync(work, abandon_on_cancel=True)
        except TimeoutError:
            reading.give_up()
            raise _too_late(parts.limits.deadline_s) from None

    return answer


def _answered(parts: ApiParts, resource: Resource, request: Request, reading: Reading) -> Response:
    try:
        grant = _NOBODY if resource.public else _admitted(parts, resource, request, reading)
        query: bytes = request.scope["query_string"]
        given = given_values(resource.parameters, query, request.path_params)
        now_s = parts.clock.now_ms() // 1_000
        asked = Asked(parts=parts, grant=grant, path=resource.path, given=given, now_s=now_s, reading=reading)
        response = _response(resource, asked, request)
    finally:
        reading.end()
    if not resource.public:
        # The explorer page shows the views that this role allows.
        response.headers["Metering-Role"] = grant.role
    return response


def _response(resource: Resource, asked: Asked, request: Request) -> Response:
    headers = request.headers
    accept = headers.get("accept", "") if any(each.name == "format" for each in resource.parameters) else ""
    form = chosen_form(asked.given.text("format"), accept)
    final = resource.final(asked)
    if final is not None and knows(headers.get("if-none-match", ""), final_tag(final, asked, form)):
        return not_modified(final_tag(final, asked, form))
    reply = resource.answer(asked)
    asked.reading.figures.rows = len(reply.answer.rows)
    return response_of(
        reply,
        tag=entity_tag(reply, form) if final is None else final_tag(final, asked, form),
        form=form,
        name=resource.name,
        query=request.scope["query_string"],
        headers=headers,
        limits=asked.parts.limits,
    )


def _admitted(parts: ApiParts, resource: Resource, request: Request, reading: Reading) -> authentication.Grant:
    authorization = request.headers.getlist("authorization")
    event, person = request.scope.get("aws.event", {}), None
    if parts.people is not None and is_of_people(event):
        person = parts.people.grant_of(event, authorization, now_s=parts.clock.now_ms() // 1_000)
    grant = parts.door.let_in(authorization, person=person)
    reading.token_id = reading.figures.token_id = grant.token_id
    if grant.role not in resource.roles:
        raise problem(
            "not-granted",
            f"A token of the role {grant.role} does not see this. It is for "
            f"{' and '.join(f'{role}s' for role in sorted(resource.roles))}.",
        )
    return grant


def _too_late(deadline_s: float) -> ProblemError:
    return problem(
        "too-late",
        f"There was no answer within {deadline_s:g} seconds. Ask for a shorter range, or for fewer accounts.",
        headers={"Retry-After": "30"},
    )


_DOCUMENT_S = 300
# Modules whose `RESOURCES` are served, in the order of the API document.
_RESOURCES = (usage, cost, who, budgets, trace, operators, health)
# A route that serves pages sets its own Content-Security-Policy.
_SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


def build(parts: ApiParts) -> FastAPI:
    """The application with these clients and stores. No store is called while the application is built."""
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
    """A fault of ours. The log contains the cause of the error; the response does not."""
    # This middleware wraps all other middleware.
    return ProblemError(
        kind="fault",
        status=500,
        title="A fault of the service",
        detail="The request failed by a fault of ours.",
        headers={name.decode(): value.decode() for name, value in _SAFE.items() if name != b"cache-control"},
    ).response()


class _SafeHeaders:
    """Headers of every response."""

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
