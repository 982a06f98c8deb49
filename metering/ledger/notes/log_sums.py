"""Sums over the plans of one source of logs: `W#log-sums-<kind>#<source>`, one item a day, or an hour.

An item names the plans that it sums, so each plan is read once, in whatever order they come, and an item that was
written twice or lost says nothing wrong: its sums are always those of the plans that it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.stores.writes import Item, Value

# Characters of a plan's digest that name it: two plans of an item with the same are less likely than 1 in 10^6.
NAME_CHARS = 12
# Most plans that an item names, below DynamoDB's 400 KB: 86 files a slot of one flow log. Of more, these are summed.
MOST_PLANS = 25_000
# Sums of the last two days that the state of a source repeats, for figures.
RECENT = ("lines", "refused", "skipdata", "metered_bytes", "unclassified_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSums:
    """Sums over the plans of one source and one day or hour.

    Attributes:
        kind, source: The source.
        label: Its day, `2026-11-24`, or hour, `2026-11-24T13`.
        plans: Number of plans.
        balance: Lines and bytes by what became of them, under the names of the balance of a file.
        unclassified: Bytes by the reason why they are unclassified.
        refusals: Lines by the reason why they were refused.
        shadowed: Bytes by the log that has the authority over them.
        names: The plans: the first characters of their digests, one after the other.
    """

    kind: str
    source: str
    label: str
    plans: int = 0
    balance: Mapping[str, int] = field(default_factory=dict)
    unclassified: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    shadowed: Mapping[str, int] = field(default_factory=dict)
    names: str = ""

    @property
    def key(self) -> Key:
        return Key(log_sums_pk(self.kind, self.source), self.label)

    @property
    def unclassified_bytes(self) -> int:
        return sum(self.unclassified.values())

    def named(self) -> set[str]:
        """Names of the plans that are in the sums."""
        return {self.names[at : at + NAME_CHARS] for at in range(0, len(self.names), NAME_CHARS)}

    def to_item(self, *, expires_at: int) -> dict[str, Value]:
        maps: dict[str, Value] = {name: dict(getattr(self, name)) for name in _MAPS}
        return {
            **self.key._asdict(),
            **maps,
            "kind": self.kind,
            "source": self.source,
            "plans": self.plans,
            "names": self.names,
            "expires_at": expires_at,
        }

    @classmethod
    def from_item(cls, item: Item) -> LogSums:
        fields = Fields.of_item(item)
        maps = {name: fields.nested(name) for name in _MAPS}
        made = cls(
            kind=fields.text("kind"),
            source=fields.any_text("source"),
            label=fields.text("sk"),
            plans=fields.whole("plans"),
            names=fields.any_text("names"),
            **{name: {word: each.whole(word) for word in each} for name, each in maps.items()},
        )
        fields.check_key(made.key)
        return made


_MAPS = ("balance", "unclassified", "refusals", "shadowed")


def log_sums_pk(kind: str, source: str) -> str:
    """Partition of the sums of one source."""
    return f"{NOTE}log-sums-{kind}#{source}"


def added(maps: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums by word."""
    result: dict[str, int] = {}
    for each in maps:
        for word, number in each.items():
            result[word] = result.get(word, 0) + number
    return result


def sum_log_sums(kind: str, source: str, label: str, parts: Iterable[LogSums]) -> LogSums:
    """The sum of several items of one source, without the names of the plans."""
    kept = tuple(parts)
    return LogSums(
        kind=kind,
        source=source,
        label=label,
        plans=sum(each.plans for each in kept),
        balance=added(each.balance for each in kept),
        unclassified=added(each.unclassified for each in kept),
        refusals=added(each.refusals for each in kept),
        shadowed=added(each.shadowed for each in kept),
    )
