"""What the ledger says, read whole: markers, conflicts, open commits. For jobs of people, never for the hot path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.domain.items import Table
from metering.domain.ledger import CommitRecord, Marker

if TYPE_CHECKING:
    from metering.ports import ItemStore


@dataclass(slots=True, kw_only=True)
class LedgerFacts:
    """The ledger as one scan found it. Exact where nothing is being committed.

    Attributes:
        markers: By batch id.
        conflicts: Batch id -> hashes of the contents that came too late under it.
        open_commits: Ids of commits whose usage is not complete.
    """

    markers: dict[str, Marker] = field(default_factory=dict)
    conflicts: dict[str, set[str]] = field(default_factory=dict)
    open_commits: list[str] = field(default_factory=list)


def read_ledger(items: ItemStore) -> LedgerFacts:
    """Scan the ledger."""
    facts = LedgerFacts()
    for item in items.scan(Table.LEDGER):
        pk, sk = str(item["pk"]), str(item["sk"])
        if pk.startswith("B#") and sk == "M":
            facts.markers[pk[2:]] = Marker.from_item(item)
        elif pk.startswith("B#") and sk.startswith("X#"):
            facts.conflicts.setdefault(pk[2:], set()).add(sk[2:])
        elif pk.startswith("C#"):
            commit = CommitRecord.from_item(item)
            if commit.state == "open":
                facts.open_commits.append(commit.commit_id)
    return facts
