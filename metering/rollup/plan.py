"""Plans of the roll-up: which commits a run takes, and what it adds to each usage item (P23). A plan never changes.

Plans carry names of kinds, never numbers. Whether a kind has a number is part of the plan: two processes that work on
one run must book a kind in the same item, also when its number is claimed between them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger.booked_hours import totals_of, totals_value
from metering.ledger.usage.kinds import kind_of
from metering.stores.fields import Fields
from metering.usage.totals import Total, UsageKey, UsageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCommit:
    """A commit of a run, with what its waiting entry holds."""

    commit_id: str
    staging_key: str
    totals: Mapping[int, Total]
    created_at_ms: int
    sent_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHour:
    """Sums of one account in one booked hour.

    Attributes:
        numbered: Sum of each kind that had a number when the plan was made. They go to the items of their buckets.
        named: Sum of each kind that had none, because the account's numbers were at the cap. Each has its own item.
    """

    account_id: str
    hour_s: int
    corrects_s: int | None
    numbered: Mapping[UsageKind, Total]
    named: Mapping[UsageKind, Total]

    def totals(self) -> Iterator[tuple[UsageKey, Total]]:
        """All sums, by usage key."""
        for kinds in (self.numbered, self.named):
            for kind, total in kinds.items():
                yield UsageKey(self.hour_s, self.account_id, *kind, self.corrects_s), total


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupPlan:
    """Plan of one run of a roll-up."""

    shard: int
    commits: tuple[PlannedCommit, ...]
    hours: tuple[PlannedHour, ...]

    def to_json(self) -> bytes:
        """Content of the plan object. Sums of bytes are strings: readers of other languages lose digits."""
        document = {
            "schema": "metering.rollup/1",
            "shard": self.shard,
            "commits": [
                {
                    "commit": each.commit_id,
                    "staging": each.staging_key,
                    "totals": totals_value(each.totals),
                    "created_at_ms": each.created_at_ms,
                    "sent_at_ms": each.sent_at_ms,
                }
                for each in self.commits
            ],
            "hours": [
                {
                    "account": each.account_id,
                    "hour": hour_label(each.hour_s),
                    "corrects": "" if each.corrects_s is None else hour_label(each.corrects_s),
                    "numbered": _sums(each.numbered),
                    "named": _sums(each.named),
                }
                for each in self.hours
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str) -> RollupPlan:
        """Inverse of `to_json`.

        Args:
            body: The object's content.
            key: Its key.

        Raises:
            LedgerCorruptError: The content is not a plan.
        """
        plan = Fields.of_json(body, key)
        plan.one_of("schema", ("metering.rollup/1",))
        return cls(
            shard=plan.whole("shard"),
            commits=tuple(
                PlannedCommit(
                    commit_id=each.text("commit"),
                    staging_key=each.text("staging"),
                    totals=totals_of(each.nested("totals")),
                    created_at_ms=each.whole("created_at_ms"),
                    sent_at_ms=each.whole("sent_at_ms"),
                )
                for each in plan.objects("commits")
            ),
            hours=tuple(
                PlannedHour(
                    account_id=each.text("account"),
                    hour_s=each.hour("hour"),
                    corrects_s=each.hour_named(each.text("corrects")) if each.any_text("corrects") else None,
                    numbered=_kinds(each, "numbered"),
                    named=_kinds(each, "named"),
                )
                for each in plan.objects("hours")
            ),
        )


_COLUMNS = ("usage_type", "service", "from", "to", "bytes", "records")


def _sums(kinds: Mapping[UsageKind, Total]) -> list[list[str | int]]:
    return [[*kind, str(total.bytes), total.records] for kind, total in kinds.items()]


def _kinds(hour: Fields, name: str) -> dict[UsageKind, Total]:
    return {kind_of(row): Total(row.decimal("bytes"), row.whole("records")) for row in hour.rows(name, _COLUMNS)}
