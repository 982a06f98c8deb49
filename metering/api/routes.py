"""From a request to a response, the same for every resource: authentication, parameters, answer, form."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from fastapi import APIRouter, Request, Response

from metering.api.asking import Asked, Resource
from metering.api.authentication import Grant
from metering.api.parameters import ProblemError, given_values, problem
from metering.api.parts import ApiParts, Reading, figures_of
from metering.api.replies import chosen_form, entity_tag, final_tag, knows, not_modified, response_of
from metering.ledger.notes.access import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

_NOBODY = Grant(token_id="", role=Role.CUSTOMER, accounts=frozenset())


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
                # No request waits for a late thread, which stops before its next read, and counts until then.
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
        # The page shows views according to the role.
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


def _admitted(parts: ApiParts, resource: Resource, request: Request, reading: Reading) -> Grant:
    grant = parts.door.let_in(request.headers.getlist("authorization"))
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
