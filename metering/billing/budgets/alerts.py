"""Alerts of budgets: one document for a threshold and a period, sent until the topic has answered.

The document is put only if it is absent, and marked as sent only after the topic has answered. A process that dies in
between sends it again, with the same id: at least once, and without a death exactly once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError
from metering.ledger.notes.budgets import ALERTS_PK, StoredAlert
from metering.stores.writes import Absent, Equals, Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.telemetry import Alerts


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertBook:
    """The alerts of a region's ledger, and the topics that they go to."""

    items: ItemStore
    alerts: Alerts
    clock: Clock

    def make(self, alert: StoredAlert) -> bool:
        """Keep an alert, unless there is one of its period and id; returns whether it is new."""
        try:
            self.items.put(Put(table=Table.LEDGER, item=alert.to_item(), condition=Absent()))
        except ConditionFailedError:
            return False
        return True

    def send(self, since_period: str) -> list[StoredAlert]:
        """Send every alert of a period, or a later one, that no topic has answered yet.

        Raises:
            UnavailableError: The topic gave no answer. The alert stays new, and the next process sends it.
        """
        sent = []
        for alert in self.known(since_period):
            if alert.state == "new":
                self.alerts.send(alert.severity, alert.subject, {"id": alert.id, **alert.fields})
                self._mark(alert)
                sent.append(alert)
        return sent

    def known(self, since_period: str) -> Iterator[StoredAlert]:
        """Alerts of a period (a month or a day) and of later ones, in the order of their periods."""
        items = self.items.query(Table.LEDGER, ALERTS_PK, sk_from=since_period)
        return map(StoredAlert.from_item, list(items))

    def _mark(self, alert: StoredAlert) -> None:
        sent = Put(table=Table.LEDGER, item=alert.as_sent().to_item(), condition=Equals(attribute="id", value=alert.id))
        self.items.put(sent)


def alert_id(*parts: str) -> str:
    """Id of an alert: the same for the same parts, and no other ones."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def alert_of(
    identity: tuple[str, ...], *, period: str, severity: str, subject: str, fields: Mapping[str, str], made_s: int
) -> StoredAlert:
    """A new alert with the id of its identity."""
    return StoredAlert(
        id=alert_id(*identity), period=period, severity=severity, subject=subject, fields=fields, made_s=made_s
    )
