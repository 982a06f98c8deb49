"""Sums of plans: what became of the lines and bytes of a source, by day."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from metering.hours import date_of, hour_label, hour_of
from metering.ledger.notes.log_sums import MOST_PLANS, NAME_CHARS, RECENT, LogSums, added, log_sums_pk
from metering.onramps.plans import NO_SLOT
from metering.stores.writes import Key, Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.onramps.plans import Plan
    from metering.stores.items import ItemStore

# Logs with authority that a sum names; the bytes of all further ones stand under one word.
_SHADOWS_NAMED = 20
OTHERS = "others"


def sums_of(plan: Plan, label: str) -> LogSums:
    """The sums of one plan, without its name."""
    return LogSums(
        kind=plan.kind,
        source=plan.source,
        label=label,
        plans=1,
        balance={name: number for name, number in asdict(plan.balance).items() if number},
        unclassified=added({share.reason: share.bytes} for share in plan.shares if share.reason),
        refusals=added({reason: lines} for reason, lines, _bytes in plan.refusals),
        shadowed=added({log: size} for log, _lines, size in plan.shadowed),
    )


@dataclass(slots=True)
class DaySums:
    """The sums of one source and one day or hour, while plans are added to them.

    Attributes:
        sums: Sums so far.
        known: Names of the plans in them.
        changed: Whether a plan was added since they were read.
    """

    sums: LogSums
    known: set[str]
    changed: bool = False
    _added: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, sums: LogSums) -> DaySums:
        return cls(sums=sums, known=sums.named())

    def lacks(self, digest: str) -> bool:
        """Whether a plan of this digest is in no sum yet, and there is room for its name."""
        if digest[:NAME_CHARS] in self.known:
            return False
        return len(self.known) < MOST_PLANS

    def add(self, plan: Plan, digest: str) -> None:
        """Add a plan that is not yet in the sums."""
        one, kept = sums_of(plan, self.sums.label), self.sums
        self.known.add(digest[:NAME_CHARS])
        self._added.append(digest[:NAME_CHARS])
        self.changed = True
        self.sums = replace(
            kept,
            plans=kept.plans + 1,
            balance=added((kept.balance, one.balance)),
            unclassified=added((kept.unclassified, one.unclassified)),
            refusals=added((kept.refusals, one.refusals)),
            shadowed=few(added((kept.shadowed, one.shadowed))),
        )

    def result(self) -> LogSums:
        return replace(self.sums, names=self.sums.names + "".join(self._added))


def few(shadowed: dict[str, int]) -> dict[str, int]:
    """The same bytes under at most so many names: those with the most bytes."""
    if len(shadowed) <= _SHADOWS_NAMED:
        return shadowed
    order = sorted(shadowed, key=lambda log: (log == OTHERS, -shadowed[log], log))
    kept = {log: shadowed[log] for log in order[: _SHADOWS_NAMED - 1] if log != OTHERS}
    return {**kept, OTHERS: sum(shadowed.values()) - sum(kept.values())}


def label_of(at_s: int, *, by_hour: bool) -> str:
    """Label of the sums that a plan belongs to."""
    return hour_label(hour_of(at_s)) if by_hour else date_of(at_s)


def read_sums(items: ItemStore, kind: str, source: str, label: str) -> LogSums:
    """The sums of one source and label; empty ones if there are none."""
    item = items.get(Table.LEDGER, Key(log_sums_pk(kind, source), label))
    return LogSums(kind=kind, source=source, label=label) if item is None else LogSums.from_item(item)


def sums_between(
    items: ItemStore, kind: str, source: str, *, from_s: int, to_s: int, unslotted: bool = False
) -> Iterator[LogSums]:
    """The sums of the days of a source from `from_s` to before `to_s`, in order, one at a time.

    Args:
        items: The ledger.
        kind: Kind of log.
        source: The source.
        from_s: Any time of the first day, epoch seconds.
        to_s: The time after the last day.
        unslotted: Also the sums of files whose names say no time.
    """
    pk = log_sums_pk(kind, source)
    for item in items.query(Table.LEDGER, pk, sk_from=date_of(from_s), sk_to=f"{date_of(to_s - 1)}~"):
        yield LogSums.from_item(item)
    for item in items.query(Table.LEDGER, pk, sk_from=NO_SLOT) if unslotted else ():
        yield LogSums.from_item(item)


def recent_sums(parts: Iterable[LogSums]) -> tuple[tuple[str, int], ...]:
    """What the state of a source repeats of its last days."""
    total = dict.fromkeys(RECENT, 0)
    for each in parts:
        for name in RECENT:
            total[name] += each.unclassified_bytes if name == "unclassified_bytes" else each.balance.get(name, 0)
    return tuple(total.items())


def keep_sums(items: ItemStore, sums: LogSums, *, expires_at: int) -> None:
    """Store the sums of one day or hour."""
    items.put(Put(table=Table.LEDGER, item=sums.to_item(expires_at=expires_at)))
