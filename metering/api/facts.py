"""What a request was and cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Facts:
    """What one request was and cost, for its line in the log. Mutable. No address, token or parameter is in it.

    Attributes:
        route: Path as it is declared, such as `/v1/usage`; empty if nothing is there.
        token_id: Public part of the token; empty without one.
        status: Status of the response.
        duration_ms: Time until the response was complete.
        partitions: Partitions of the usage table that were budgeted.
        hours: Hours of open months that were budgeted.
        rows: Rows of the answer.
    """

    route: str = ""
    token_id: str = ""
    status: int = 0
    duration_ms: int = 0
    partitions: int = 0
    hours: int = 0
    rows: int = 0
