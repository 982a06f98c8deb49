"""Runs of schemathesis: all operations and checks, with the same requests in each run."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from metering.api.authentication import OPERATORS
from tests.api.world import FIRST, SECOND, THIRD, ApiWorld
from tests.api_fuzz.faults import FAULTS, KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fastapi import FastAPI
    from schemathesis.checks import CheckContext
    from schemathesis.core.transport import Response as SentResponse
    from schemathesis.engine.recorder import ScenarioRecorder
    from schemathesis.generation.case import Case
    from schemathesis.schemas import BaseSchema
    from starlette.types import ASGIApp

    from metering.api.asking import Resource

SEED = 1
# Most values are from the test data: with only random values, almost no request would return rows.
_WORDS: dict[str, list[str]] = {
    "from": ["2026-10", "2026-11", "2026-11-24", "2026-11-24T12:00:00Z", "2026-10-25T13:00:00Z"],
    "to": ["2026-11", "2026-12", "2026-11-24T13:00:00Z"],
    "month": ["2026-10", "2026-11"],
    "hour": ["2026-11-24T13:00:00Z", "2026-11-24T11:00:00Z"],
    "account": [FIRST, SECOND, THIRD, f"{FIRST},{SECOND}"],
    "group_by": ["account_id", "day", "account_id,usage_type", "service", "month"],
    "usage_type": ["DataTransfer-Out-Bytes"],
    "service": ["AmazonEC2", "AmazonEC2,AmazonS3"],
    "from_location": ["us-east-1/use1-az2"],
    "to_location": ["internet", "eu-west-1"],
    "batch_id": ["batch-1", "batch-2"],
}
_HOW_OFTEN = 0.7
# Examples of the document; every bound of every parameter; random requests; requests derived from other responses.
PHASES = ("examples", "coverage", "fuzzing", "stateful")
# Status codes for wrong parameters, or for a refusal before parameters are read.
_REFUSED = (400, 401, 403, 405)


@schemathesis.check
def unknown_parameters_are_refused(_ctx: CheckContext, response: SentResponse, case: Case[Any]) -> None:
    """Refuse misspelt filters: ignoring one would enlarge a total. Schemathesis accepts unknown parameters."""
    # A drawn parameter without a value is omitted from the request.
    sent = parse_qs(urlsplit(str(response.request.url)).query, keep_blank_values=True)
    unknown = set(sent) - {each.name for each in case.operation.query}
    if unknown and response.status_code not in _REFUSED:
        told = f"{sorted(unknown)} in the query, and the answer is {response.status_code}"
        raise AssertionError(told)


class FuzzingFailedError(Exception):
    """Schemathesis itself could not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A failed check of a response.

    Attributes:
        operation: Such as `GET /v1/usage`.
        kind: Name of the check.
        told: What it says.
        code: A curl command that reproduces the issue.
    """

    operation: str
    kind: str
    told: str
    code: str

    def __str__(self) -> str:
        told = " ".join(self.told.split())
        return f"{self.operation}: {self.kind}: {told[:400]}\n    {self.code[:600]}"


@dataclass(kw_only=True)
class Findings:
    """Findings of a run. Mutable.

    Attributes:
        issues: One issue of each kind for each operation.
        answers: Number of requests by operation and status.
    """

    issues: dict[tuple[str, str], Issue] = field(default_factory=dict)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Number of answered requests."""
        return sum(self.answers.values())

    def answered(self, operation: str) -> int:
        """Number of an operation's requests that were answered with data."""
        return self.answers[operation, 200]


def in_process(app: ASGIApp, *, token: str, examples: int, paths: str = "", phases: Sequence[str] = PHASES) -> Findings:
    """Findings of schemathesis about an application that is called in process.

    Args:
        app: The application. The application must serve its document at `/openapi.json`.
        token: Token of the requests.
        examples: Number of random requests per operation.
        paths: A regular expression for paths; empty for all.
        phases: Kinds of requests, from `PHASES`.
    """

    def load(config: SchemathesisConfig) -> BaseSchema:
        return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)

    return _found(load, token, examples, paths, phases, {})


def over_http(
    url: str, *, token: str, examples: int, phases: Sequence[str] = PHASES, rate: str = "", ca_bundle: str = ""
) -> Findings:
    """The same over HTTP.

    Args:
        url: The API's base URL, with or without a trailing slash.
        token: Token of the requests.
        examples: Number of random requests per operation.
        phases: Kinds of requests, from `PHASES`.
        rate: Request rate, such as `4/s`; a rate below the token's limit avoids throttling.
        ca_bundle: File of trusted certificates.
    """
    base = url.rstrip("/")
    more: dict[str, object] = {"base-url": base, "tls-verify": ca_bundle or True}
    if rate:
        more["rate-limit"] = rate

    def load(config: SchemathesisConfig) -> BaseSchema:
        return schemathesis.openapi.from_url(f"{base}/openapi.json", config=config, verify=ca_bundle or True)

    return _found(load, token, examples, "", phases, more)


def _config(
    token: str, examples: int, words: Mapping[str, str], phases: Sequence[str], more: Mapping[str, object]
) -> SchemathesisConfig:
    bound = {place: {"dictionary": name, "probability": _HOW_OFTEN} for place, name in words.items()}
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "workers": 1,
            **more,
            "headers": {"Authorization": f"Bearer {token}"},
            "generation": {"max-examples": examples, "deterministic": True, "database": "none"},
            "warnings": False,
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "checks": {
                # A valid request may concern data that its token may not see, and may make no sense.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "422"]},
                "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "405"]},
            },
            "dictionaries": {name: {"values": _WORDS[name]} for name in sorted({*words.values()})},
            "parameters": bound,
        }
    )


def _found(
    load: Callable[[SchemathesisConfig], BaseSchema],
    token: str,
    examples: int,
    paths: str,
    phases: Sequence[str],
    more: Mapping[str, object],
) -> Findings:
    words = _words_of(load(_config(token, examples, {}, phases, more)))
    schema = load(_config(token, examples, words, phases, more))
    chosen = schema.include(path_regex=paths) if paths else schema
    found = Findings()
    for event in from_schema(chosen).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(event.recorder, found)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            raise FuzzingFailedError(repr(event))
    return found


def _words_of(schema: BaseSchema) -> dict[str, str]:
    """Sample values of all documented parameters, by place; an omitted parameter would count as misspelt."""
    operations = [path["get"] for path in schema.raw_schema["paths"].values()]
    declared = {(each["in"], each["name"]) for operation in operations for each in operation["parameters"]}
    return {f"{place}.{name}": name for place, name in sorted(declared) if name in _WORDS}


def _note(recorder: ScenarioRecorder, found: Findings) -> None:
    for interaction in recorder.interactions.values():
        status = interaction.response.status_code if interaction.response is not None else 0
        found.answers[recorder.label, status] += 1
    for issue in _issues(recorder):
        found.issues.setdefault((issue.operation, issue.kind), issue)


def _issues(recorder: ScenarioRecorder) -> Iterator[Issue]:
    for checks in recorder.checks.values():
        for each in checks:
            if each.failure_info is not None:
                failure = each.failure_info.failure
                yield Issue(
                    operation=recorder.label,
                    kind=each.name,
                    told=f"{failure.title}. {failure.message}",
                    code=each.failure_info.code_sample,
                )


# A seeded fault shows in the first requests or not at all.
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
        good: Whether the outcome is as expected.
    """

    name: str
    told: str
    good: bool


def fuzzed(token: str, examples: int, url: str = "") -> Outcome:
    """Fuzz the whole API with one token; expect no issue."""
    began = time.monotonic()
    if url:
        found = over_http(url, token=token, examples=examples)
    else:
        _be_quiet()
        app = ApiWorld().app
        paths = _operators(app) if token == OPERATOR else ""
        # Every bound of every parameter is tried once, whatever the token. Random requests cost far less.
        phases, times = (_RANDOM, 3) if token == CUSTOMER else (PHASES, 1)
        found = in_process(app, token=token, examples=times * examples, paths=paths, phases=phases)
    name = "the API at its URL" if url else f"{token}'s token"
    return judged(name, found, began, url=url)


def _operators(app: FastAPI) -> str:
    """Regular expression for paths of operators only: on all other paths, operators get the same as analysts."""
    resources: tuple[Resource, ...] = app.state.resources
    return "|".join(f"^{re.escape(each.path)}$" for each in resources if each.roles == OPERATORS)


def judged(name: str, found: Findings, began: float, *, url: str) -> Outcome:
    answered = sum(count for (_, status), count in found.answers.items() if status == 200)
    # A run proves nothing if no request gets an answer. An external API may have no data.
    good = not found.issues and (answered > 0 or bool(url))
    told = f"{found.requests} requests, {answered} answered with data, {len(found.issues)} issues"
    lines = [f"{told}, {time.monotonic() - began:.1f} s", *map(str, found.issues.values())]
    return Outcome(name=name, told="\n  ".join(lines), good=good)


def faulty(number: int) -> Outcome:
    """Fuzz one seeded fault; the fault's own check must find it."""
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
