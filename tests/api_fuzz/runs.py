"""Runs in a process of the pool: one token, or one seeded fault."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.api.authentication import OPERATORS
from tests.api.world import ApiWorld
from tests.api_fuzz.faults import FAULTS, KNOWN
from tests.api_fuzz.fuzzing import PHASES, Findings, in_process, over_http

if TYPE_CHECKING:
    from fastapi import FastAPI

    from metering.api.asking import Resource

# A seeded fault shows in the first requests or never.
_FAULTY_EXAMPLES = 5
_USAGE = "^/v1/usage$"
_OK = 200
_RANDOM = ("examples", "fuzzing", "stateful")
ANALYST, CUSTOMER, OPERATOR = TOKENS = ("analyst", "first", "operator")
"""Names of who has a token in the world: staff, a customer, and an operator for what only operators see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        name: What was run.
        told: A line about it.
        good: Whether it is as expected.
    """

    name: str
    told: str
    good: bool


def fuzzed(token: str, examples: int, url: str = "") -> Outcome:
    """The whole API with one token, without any issue."""
    began = time.monotonic()
    if url:
        found = over_http(url, token=token, examples=examples)
    else:
        _be_quiet()
        app = ApiWorld().app
        paths = _operators(app) if token == OPERATOR else ""
        # Every bound of every parameter is tried once, independent of the token. Random requests cost far less.
        phases, times = (_RANDOM, 3) if token == CUSTOMER else (PHASES, 1)
        found = in_process(app, token=token, examples=times * examples, paths=paths, phases=phases)
    name = "the API at its URL" if url else f"{token}'s token"
    return judged(name, found, began, url=url)


def _operators(app: FastAPI) -> str:
    """A regular expression for the operators' paths: all other paths are the same for them as for analysts."""
    resources: tuple[Resource, ...] = app.state.resources
    return "|".join(f"^{re.escape(each.path)}$" for each in resources if each.roles == OPERATORS)


def judged(name: str, found: Findings, began: float, *, url: str) -> Outcome:
    answered = sum(count for (_, status), count in found.answers.items() if status == 200)
    # Requests without any answer prove nothing. An external API may have no data.
    good = not found.issues and (answered > 0 or bool(url))
    told = f"{found.requests} requests, {answered} answered with data, {len(found.issues)} issues"
    lines = [f"{told}, {time.monotonic() - began:.1f} s", *map(str, found.issues.values())]
    return Outcome(name=name, told="\n  ".join(lines), good=good)


def faulty(number: int) -> Outcome:
    """One seeded fault: it must be found, by its own check."""
    began = time.monotonic()
    fault = FAULTS[number]
    _be_quiet()
    found = in_process(fault.spoils(ApiWorld().app), token=KNOWN, examples=_FAULTY_EXAMPLES, paths=_USAGE)
    kinds = {kind for _, kind in found.issues}
    told = f"{'found' if fault.kind in kinds else 'NOT FOUND'}: {', '.join(sorted(kinds)) or 'no issue'}"
    told = f"{told}, {time.monotonic() - began:.1f} s"
    return Outcome(name=f"seeded: {fault.name}", told=told, good=fault.kind in kinds)


def _be_quiet() -> None:
    # The framework logs a seeded crash once per request.
    logging.disable(logging.CRITICAL)
