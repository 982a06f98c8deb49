"""Problem details (RFC 9457): what is wrong with a request, every problem at once, in the command line's words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Response

from metering.errors import OperationFailedError, UnavailableError
from metering.reports.parameters import InvalidParametersError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.errors import MeteringError
    from metering.reports.parameters import ParameterProblem

MEDIA_TYPE = "application/problem+json"
_URN = "urn:metering:problem:"
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterFault:
    """One parameter that cannot be used: its name in the URL, and a sentence."""

    parameter: str
    detail: str


@dataclass(kw_only=True)
class ProblemError(Exception):
    """Ends a request with a problem document.

    Attributes:
        kind: Last part of the problem's URN, such as `unknown-column`.
        status: HTTP status.
        title: What kind of problem it is, the same each time.
        detail: What is wrong this time, and what to do.
        faults: Each parameter that is wrong.
        headers: Such as `Retry-After` and `WWW-Authenticate`.
    """

    kind: str
    status: int
    title: str
    detail: str
    faults: Sequence[ParameterFault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The problem as a response that nobody keeps."""
        document: dict[str, object] = {
            "type": f"{_URN}{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            document["errors"] = [{"parameter": each.parameter, "detail": each.detail} for each in self.faults]
        return Response(
            content=(json.dumps(document, indent=2) + "\n").encode(),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


def fault_of(problem: ParameterProblem) -> ParameterFault:
    """A problem that the reports found, in words."""
    return ParameterFault(
        parameter=problem.parameter, detail=f"{problem.value} {problem.problem} {problem.advice}".strip()
    )


def problem_of(error: MeteringError) -> ProblemError | None:
    """What a request failed by, as a problem; None for a fault that only its operator can mend."""
    if isinstance(error, InvalidParametersError):
        faults = [fault_of(each) for each in error.problems]
        return ProblemError(
            kind="invalid-parameters",
            status=422,
            title="The question makes no sense",
            detail=" ".join(dict.fromkeys(each.detail for each in faults)),
            faults=faults,
        )
    if isinstance(error, UnavailableError):
        return ProblemError(
            kind="unavailable",
            status=503,
            title="No answer now",
            detail="A store gave no answer. Nothing is wrong with the request: send it again.",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )
    if isinstance(error, OperationFailedError):
        detail = f"{error.reason} {error.advice}".strip()
        return ProblemError(kind="refused", status=422, title="It cannot be answered", detail=detail)
    return None
