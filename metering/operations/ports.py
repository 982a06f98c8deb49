"""Ports to the subscribers, the alarms and the logs of a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """Subscriber of an alert topic.

    Attributes:
        protocol: Protocol of the delivery, such as `email` or `sqs`.
        endpoint: Address that alerts are delivered to.
        confirmed: The owner of the endpoint confirmed the subscription; until then the topic delivers nothing to it.
    """

    protocol: str
    endpoint: str
    confirmed: bool


class Subscribers(Protocol):
    """Subscribers of a region's two alert topics."""

    def subscribers(self, severity: str) -> Sequence[Subscriber]:
        """All subscribers of the topic of `severity`, confirmed or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmState:
    """Alarm as CloudWatch has it.

    Attributes:
        name: Physical name (`alarm_name`).
        state: `OK`, `ALARM` or `INSUFFICIENT_DATA`; empty if an endpoint does not say.
    """

    name: str
    arn: str
    state: str


class DeployedAlarms(Protocol):
    """Alarms of a stage in a region."""

    def states(self) -> Sequence[AlarmState]:
        """All metric alarms of the stage."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedLine:
    """Line that a function logged.

    Attributes:
        function: Name of the function, such as `aggregator`.
        at_ms: Time at which it was logged, epoch milliseconds.
        text: The line as it was logged; JSON if the function's own logger wrote it.
        request_id: Id of the invocation; empty if the log does not say.
    """

    function: str
    at_ms: int
    text: str
    request_id: str = ""


class FunctionLogs(Protocol):
    """Logs of a region's functions."""

    @property
    def functions(self) -> Sequence[str]:
        """Names of the functions that have a log, sorted."""
        ...

    def errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> Sequence[LoggedLine]:
        """Lines that look like an error, newest first: at most `limit` of them, of all named functions together.

        Raises:
            OperationFailedError: The endpoint cannot search logs.
            UnavailableError: It gave no answer.
        """
        ...
