"""Ports to the subscribers and the alarms of a region."""

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
