"""Budgets, and the alerts that they made: `W#budgets`, the budget's name; `W#budget-alerts`, `<period>#<id>`.

A budget is what a person set. An alert is one document for a threshold and a period: it is put only if it is absent,
and says whether the topic has answered. Neither expires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value

BUDGETS_PK = f"{NOTE}budgets"
ALERTS_PK = f"{NOTE}budget-alerts"
AlertState = Literal["new", "sent"]
_STATES: tuple[AlertState, ...] = ("new", "sent")


def budget_key(name: str) -> Key:
    """Key of a budget."""
    return Key(BUDGETS_PK, name)


def alert_key(period: str, alert_id: str) -> Key:
    """Key of an alert; alerts sort by their period, which is a month or a day."""
    return Key(ALERTS_PK, f"{period}#{alert_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBudget:
    """A budget as it is kept.

    Attributes:
        name: What people call it.
        document: Its fields as texts, and its thresholds as one text, one a line.
        set_s: When it was set, epoch seconds.
    """

    name: str
    document: Mapping[str, str]
    set_s: int

    @property
    def key(self) -> Key:
        return budget_key(self.name)

    def to_item(self) -> dict[str, Value]:
        document: dict[str, Value] = dict(sorted(self.document.items()))
        return {**self.key._asdict(), "document": document, "set_s": self.set_s}

    @classmethod
    def from_item(cls, item: Item) -> StoredBudget:
        fields = Fields.of_item(item)
        document = fields.nested("document")
        made = cls(
            name=fields.text("sk"),
            document={name: document.any_text(name) for name in document},
            set_s=fields.whole("set_s"),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlert:
    """An alert that is sent until the topic has answered.

    Attributes:
        id: The same whenever it is sent.
        period: Month or day that it is about.
        severity: Topic: `page` or `ticket`.
        subject: Subject of the message.
        fields: The rest of the message.
        made_s: When the threshold was found crossed, epoch seconds.
        state: `new` until the topic has answered.
    """

    id: str
    period: str
    severity: str
    subject: str
    fields: Mapping[str, str]
    made_s: int
    state: AlertState = "new"

    @property
    def key(self) -> Key:
        return alert_key(self.period, self.id)

    def as_sent(self) -> StoredAlert:
        """The same alert, sent."""
        return replace(self, state="sent")

    def to_item(self) -> dict[str, Value]:
        fields: dict[str, Value] = dict(sorted(self.fields.items()))
        return {
            **self.key._asdict(),
            "id": self.id,
            "period": self.period,
            "severity": self.severity,
            "subject": self.subject,
            "fields": fields,
            "made_s": self.made_s,
            "state": self.state,
        }

    @classmethod
    def from_item(cls, item: Item) -> StoredAlert:
        fields = Fields.of_item(item)
        said = fields.nested("fields")
        made = cls(
            id=fields.text("id"),
            period=fields.text("period"),
            severity=fields.text("severity"),
            subject=fields.text("subject"),
            fields={name: said.any_text(name) for name in said},
            made_s=fields.whole("made_s"),
            state=fields.one_of("state", _STATES),
        )
        fields.check_key(made.key)
        return made
