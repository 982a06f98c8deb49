"""Causes of days as the biller keeps them, written by hand: rows, names and the index."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from metering.billing.causes.days import COLUMNS, put_pieces, summed, table_of
from metering.billing.causes.index import CauseIndex, CauseIndexes
from metering.billing.causes.names import CauseNames, Stretch
from metering.hours import rfc3339
from metering.ledger.format_version import generations_of
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.lake_world import World

NAT, NAT_BYTES = "nat-0a1b2c3d4e5f60718", "USW2-NatGateway-Bytes"
Row = tuple[str | int, ...]


def row(size: int, **values: str | int) -> Row:
    """A row of a day; by default of an instance behind a NAT gateway, in the newest hour."""
    known: dict[str, str | int] = {
        "resource_id": NAT, "usage_type": NAT_BYTES, "cause": "i-0abc", "destination": "internet",
        "path": "nat_gateway", "direction": "in", "account_id": ACCOUNT, "service": "AmazonEC2", "from": "us-west-2",
        "to": "internet", "basis": "seen", "reason": "", "hour": HOUR,
    }  # fmt: skip
    known |= values
    known |= {"own_hour": values.get("own_hour", known["hour"]), "bytes": size}
    return tuple(known[name] for name in COLUMNS)


def unnamed(size: int, reason: str, **values: str | int) -> Row:
    """A row without a cause."""
    return row(size, **{"cause": "", "basis": "", "reason": reason, **values})


def record_of(each: Row) -> dict[str, str | int]:
    """The record that a row is a part of."""
    known = dict(zip(COLUMNS, each, strict=True))
    start = rfc3339(int(known["own_hour"]))
    return {
        "account_id": known["account_id"], "service": known["service"], "resource_id": known["resource_id"],
        "usage_type": known["usage_type"], "direction": "out", "from": known["from"], "to": known["to"],
        "bytes": known["bytes"], "start": start, "end": start,
    }  # fmt: skip


def stretch(from_s: int = 0, *, account: str = ACCOUNT, workload: str = "", vpc: str = "", subnet: str = "",
            **tags: str) -> Stretch:  # fmt: skip
    """Knowledge of a cause from an hour on."""
    return Stretch(from_s, account, workload, vpc, subnet, tags)


def keep_causes(world: World, rows: Iterable[Row], names: Mapping[str, Iterable[Stretch]] | None = None) -> CauseIndex:
    """Put days of causes into a region, and names that hold on all of these days."""
    by_day: dict[int, list[Row]] = defaultdict(list)
    known = {name: tuple(each) for name, each in (names or {}).items()}
    for each in rows:
        hour_s = int(each[COLUMNS.index("hour")])
        by_day[hour_s - hour_s % DAY_S].append(each)
    days = {day_s: tuple(put_pieces(world.objects, day_s, summed([table_of(of)]))) for day_s, of in by_day.items()}
    own = {int(each[COLUMNS.index("own_hour")]) // DAY_S * DAY_S for of in by_day.values() for each in of}
    found = generations_of(world.items)
    indexes = CauseIndexes(objects=world.objects)
    index = CauseIndex(
        number=indexes.newest().number + 1, counted_s=HOUR + HOUR_S, named_s=HOUR + HOUR_S, days=days,
        names={day_s: CauseNames(day_s, known).put(world.objects) for day_s in {*days, *own}},
        generation=found.usage, ledger_generation=found.ledger,
    )  # fmt: skip
    assert indexes.put(index)
    return index
