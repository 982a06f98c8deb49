"""A small evaluator of IAM policies: whether the rules of an organisation refuse what a stage asks.

Service control policies deny; a boundary allows. Both follow the reference of IAM's policy language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tests.infra.support.models import holds, listed

if TYPE_CHECKING:
    from tests.organisations.asked import Asked, Request
    from tests.organisations.policies import Organisation


def refused(organisation: Organisation, asked: Asked) -> Iterator[str]:
    """Refusals by an organisation, in words."""
    for request in (*asked.requests, *asked.grants):
        if any(applies(statement, request) for statement in organisation.denies):
            yield f"{request.source}: {request.action} on {request.resource} is denied"
    for grant in asked.grants if organisation.bounds else ():
        if not allowed(organisation.bounds, grant):
            yield f"{grant.source}: {grant.action} is not within the boundary"
    for name, (kind, properties) in asked.resources.items():
        if kind in organisation.rules and (problem := organisation.rules[kind](properties)):
            yield f"{name} ({kind}) {problem}"


def allowed(statements: tuple[Mapping[str, Any], ...], request: Request) -> bool:
    """Whether a policy allows a request: a statement allows it, and no other statement denies it."""
    effects = {statement["Effect"] for statement in statements if applies(statement, request)}
    return effects == {"Allow"}


def applies(statement: Mapping[str, Any], request: Request) -> bool:
    """Whether a statement is about a request: by action, resource and conditions."""
    return (
        _named(statement, "Action", request.action, lower=True)
        and _named(statement, "Resource", request.resource)
        and holds(statement.get("Condition", {}), request.context)
    )


def _named(statement: Mapping[str, Any], element: str, value: str, *, lower: bool = False) -> bool:
    negated = f"Not{element}" in statement
    patterns = listed(statement.get(f"Not{element}" if negated else element, "*"))
    # Actions are compared without regard to case. A request for all resources is about any.
    pairs = ((value.lower(), str(each).lower()) if lower else (value, str(each)) for each in patterns)
    return negated is not any(fnmatchcase(one, pattern) for one, pattern in pairs)
