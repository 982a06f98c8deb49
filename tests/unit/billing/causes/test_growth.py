"""The causes in a message about an unusual day: what grew most since the week before, and whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.causes.days import put_pieces, summed, table_of
from metering.billing.causes.growth import Grown, Whose, grown
from metering.billing.causes.index import CauseIndex, CauseIndexes
from metering.billing.causes.names import CauseNames, Stretch
from metering.billing.owners import read_owners
from metering.errors import ObjectMissingError
from metering.units import DAY_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from metering.billing.owners import Owners

DAY = 20_000 * DAY_S
BEFORE = DAY - 7 * DAY_S
NAT = "NatGateway-Bytes"
SERIES = ("111111111111", NAT)


def row(
    size: int, cause: str, destination: str = "internet", *, usage_type: str = NAT, account: str = SERIES[0]
) -> Any:
    place = "nat_gateway", "in", account, "AmazonEC2", "us-west-2", "us-west-2", "inventory" if cause else "", ""
    return ("eni-nat", usage_type, cause, destination, *place, DAY, DAY, size)


def region(now: list[Any], before: list[Any], **index: Any) -> MemoryObjectStore:
    """A bucket with causes of two days; `i-1` and `i-2` were of one workload, one after the other."""
    objects = MemoryObjectStore(ManualClock(0))
    days, names = {}, {}
    for day_s, rows, cause in ((DAY, now, "i-2"), (BEFORE, before, "i-1")):
        days[day_s] = tuple(put_pieces(objects, day_s, summed([table_of(rows)])))
        known = Stretch(day_s, SERIES[0], "asg:ci", "vpc-1", "subnet-1", {"team": "ci"})
        names[day_s] = CauseNames(day_s, {cause: (known,)}).put(objects)
    made = CauseIndex(number=1, days=days, names=names, **({"counted_s": DAY + DAY_S} | index))
    assert CauseIndexes(objects=objects).put(made)
    return objects


def owners() -> Owners:
    return read_owners(b'[[rule]]\nowner = "build"\nwhen = { tag = { team = "ci" } }', "owners.toml")


def found(objects: MemoryObjectStore) -> list[Grown]:
    return list(grown(objects, DAY, BEFORE, {SERIES}, owners()).get(SERIES, []))


def test_a_workload_is_compared_with_itself_although_its_instances_changed() -> None:
    objects = region(
        [row(70, "i-2"), row(30, "i-2", "S3.us-west-2"), row(9, "i-9"), row(8, ""), row(999, "i-2", usage_type="Out"),
         row(999, "i-2", account="2")],
        [row(40, "i-1"), row(29, "i-1", "S3.us-west-2"), row(50, "i-8")],
    )  # fmt: skip
    assert found(objects) == [
        Grown(Whose("build", "asg:ci", "internet"), 30),
        Grown(Whose("unowned", "i-9", "internet"), 9),
        Grown(Whose("", "unattributed", "internet"), 8),
    ]


@pytest.mark.parametrize("index", [{"counted_s": DAY + DAY_S - 1}, {"from_s": BEFORE + DAY_S}])
def test_days_that_are_not_whole_are_not_compared(index: dict[str, int]) -> None:
    assert found(region([row(70, "i-2")], [], **index)) == []


def test_without_causes_there_is_no_growth_and_a_lost_piece_is_told() -> None:
    assert found(MemoryObjectStore(ManualClock(0))) == []
    objects = region([row(70, "i-2")], [])
    objects.delete([info.key for info in objects.list("causes/days/")])
    with pytest.raises(ObjectMissingError):
        found(objects)
