"""Adding up usage items while they are read says what their totals say one by one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.booked_usage import book
from metering.errors import LedgerCorruptError
from metering.hours import month_of, parse_hour
from metering.ledger.usage.items import UsageItem, usage_item_key
from metering.ledger.usage.reading import Fold, Grain, UsageReading
from metering.stores.writes import Item, Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.items import MemoryItemStore

FIRST_S = parse_hour("2026-10-30T20")
ACCOUNTS = ("111111111111", "222222222222")
KEY = UsageKey(FIRST_S, ACCOUNTS[0], UsageType("DataTransfer-Out-Bytes"), Service("AmazonEC2"), "us-east-1", "internet")

_KEYS = st.builds(
    lambda hour, account, kind, corrects: KEY._replace(
        hour_s=FIRST_S + hour * HOUR_S,
        account_id=account,
        usage_type=UsageType(f"T{kind}"),
        corrects_s=FIRST_S - DAY_S if corrects else None,
    ),
    st.integers(0, 100),
    st.sampled_from(ACCOUNTS),
    st.integers(0, 5),
    st.booleans(),
)
_WHICH: dict[Grain, Callable[[int], object]] = {
    Grain.HOUR: lambda hour_s: hour_s,
    Grain.DAY: lambda hour_s: hour_s // DAY_S,
    Grain.MONTH: month_of,
}


def folded(grain: Grain, item: Item) -> list[UsageItem]:
    fold = Fold(grain, lambda _hour_s, _corrects_s: True)
    fold.add([item])
    return list(fold.items())


@given(
    usage=st.dictionaries(_KEYS, st.builds(Total, st.integers(1, 2**70), st.integers(1, 9))),
    grain=st.sampled_from(Grain),
    unnumbered=st.booleans(),
    from_hour=st.integers(0, 100),
)
def test_sums_by_hour_day_and_month_are_those_of_the_totals(
    usage: dict[UsageKey, Total], grain: Grain, *, unnumbered: bool, from_hour: int
) -> None:
    def counts(hour_s: int, corrects_s: int | None) -> bool:
        return hour_s >= FIRST_S + from_hour * HOUR_S or corrects_s is not None

    def name(key: UsageKey) -> tuple[object, ...]:
        return _WHICH[grain](key.hour_s), *key[1:]

    items = MemoryItemStore()
    book(items, usage, unnumbered=unnumbered)
    reading = UsageReading(items)
    expected: dict[tuple[object, ...], Total] = {}
    for key, total in usage.items():
        if counts(key.hour_s, key.corrects_s):
            before = expected.get(name(key))
            expected[name(key)] = total if before is None else before.plus(total)
    fold = Fold(grain, counts)
    fold.add(reading.scanned())
    found = [entry for item in fold.items() for entry in reading.totals(item)]
    assert len({name(key) for key, _ in found}) == len(found)
    assert {name(key): total for key, total in found} == expected
    assert all(counts(key.hour_s, key.corrects_s) for key, _ in found)


@pytest.mark.parametrize(
    "attributes", [{"b64": 1}, {"b0": "1"}, {"b0": True}, {"note": "by hand"}, {"x": 1}, {"v": True}], ids=str
)
@pytest.mark.parametrize("grain", Grain)
def test_an_attribute_that_no_item_has_is_an_error(attributes: dict[str, int | str], grain: Grain) -> None:
    with pytest.raises(LedgerCorruptError):
        folded(grain, {**usage_item_key(KEY, 0)._asdict(), "v": 1, **attributes})


@pytest.mark.parametrize("sk", ["x", "2026-10-30##0", "2026-10-30T20#x#0", "2026-10-30T20##00", "2026-11-30T20##0"])
def test_a_key_that_no_item_has_is_an_error(sk: str) -> None:
    with pytest.raises(LedgerCorruptError):
        folded(Grain.MONTH, {"pk": usage_item_key(KEY, 0).pk, "sk": sk, "b0": 1})


def test_an_account_is_read_by_the_hours_of_a_range() -> None:
    items = MemoryItemStore()
    usage = {KEY._replace(hour_s=FIRST_S + hour * HOUR_S): Total(1 + hour, 1) for hour in range(100)}
    book(items, usage)
    items.put(Put(table=Table.USAGE, item={"pk": f"A#{ACCOUNTS[1]}#2026-10", "sk": "x"}))
    reading = UsageReading(items)

    def hours(month: str, from_s: int | None, to_s: int | None) -> list[int]:
        found = reading.of_month(ACCOUNTS[0], month, from_s=from_s, to_s=to_s)
        return [(item.hour_s - FIRST_S) // HOUR_S for item in found]

    assert hours("2026-10", None, None) == list(range(28))
    assert hours("2026-11", None, None) == list(range(28, 100))
    assert hours("2026-10", FIRST_S + 3 * HOUR_S, FIRST_S + 5 * HOUR_S) == [3, 4]
    assert hours("2026-10", FIRST_S + 3 * HOUR_S, None) == list(range(3, 28))
    assert hours("2026-11", FIRST_S, FIRST_S + 30 * HOUR_S) == [28, 29]
    assert hours("2026-11", FIRST_S, FIRST_S + 20 * HOUR_S) == []
    # Hours that the range covers partly are read, too.
    assert hours("2026-10", FIRST_S + 3 * HOUR_S + 1, FIRST_S + 5 * HOUR_S + 1) == [3, 4, 5]
