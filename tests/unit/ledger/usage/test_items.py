"""Usage items have kinds of one account, each figure under its kind number, and no unknown attributes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.booked_usage import book
from metering.errors import LedgerCorruptError
from metering.hours import month_of, parse_hour
from metering.ledger.usage.items import (
    BUCKET_KINDS,
    UsageItem,
    newest_run_of,
    sk_range,
    usage_add,
    usage_item_key,
    usage_partition,
)
from metering.ledger.usage.reading import Fold, Grain, UsageReading
from metering.stores.writes import Item, Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType
from tests.support.memory.items import MemoryItemStore

HOUR = parse_hour("2026-11-24T13")
ACCOUNT = "111111111111"
KIND = UsageKind(UsageType("DataTransfer-Out-Bytes"), Service("AmazonEC2"), "us-east-1/use1-az1", "internet")
KEY = UsageKey(HOUR, ACCOUNT, *KIND)
PK = "A#111111111111#2026-11"

_TOTALS = st.builds(Total, st.integers(-(2**70), 2**70), st.integers(-(2**40), 2**40)).filter(any)


def test_an_item_is_one_of_an_account_an_hour_and_a_bucket() -> None:
    assert usage_item_key(KEY, 0) == (PK, "2026-11-24T13##0")
    assert usage_item_key(KEY, BUCKET_KINDS - 1) == usage_item_key(KEY, 0)
    assert usage_item_key(KEY, BUCKET_KINDS) == (PK, "2026-11-24T13##1")
    corrected = KEY._replace(corrects_s=parse_hour("2026-10-01T00"))
    assert usage_item_key(corrected, 3) == (PK, "2026-11-24T13#2026-10-01T00#0")


def test_a_kind_without_a_number_has_an_item_of_its_own_with_its_full_name() -> None:
    name = "DataTransfer-Out-Bytes#AmazonEC2#us-east-1/use1-az1#internet"
    assert usage_item_key(KEY, None) == (PK, f"2026-11-24T13##{name}")


@given(
    bucket=st.integers(0, 80),
    totals=st.dictionaries(st.integers(0, BUCKET_KINDS - 1), _TOTALS, max_size=BUCKET_KINDS),
    corrects_s=st.sampled_from([None, parse_hour("2026-09-30T23")]),
    runs=st.dictionaries(st.integers(0, 20), st.integers(1, 10**12)),
)
def test_what_is_added_to_an_item_is_read_from_it(
    bucket: int, totals: dict[int, Total], corrects_s: int | None, runs: dict[int, int]
) -> None:
    numbered = {bucket * BUCKET_KINDS + place: total for place, total in totals.items()}
    key = usage_item_key(KEY._replace(corrects_s=corrects_s), bucket * BUCKET_KINDS)
    marks = {newest_run_of(shard): number for shard, number in runs.items()}
    read = UsageItem.from_item({**key._asdict(), **usage_add(dict(numbered.items())), **marks})
    assert (read.key, read.bucket, read.corrects_s, read.revision) == (key, bucket, corrects_s, 1)
    assert read.totals == numbered
    assert read.runs == runs
    assert read.usage_key(KIND) == KEY._replace(corrects_s=corrects_s)


@given(_TOTALS)
def test_an_item_of_a_kind_without_a_number_says_its_name(total: Total) -> None:
    key = usage_item_key(KEY, None)
    read = UsageItem.from_item({**key._asdict(), **usage_add({None: total})})
    assert (read.key, read.bucket, read.totals) == (key, None, {KIND: total})


def test_an_item_of_which_everything_was_taken_back_still_has_its_key() -> None:
    for number in (5, None):
        key = usage_item_key(KEY, number)
        assert UsageItem.from_item({**key._asdict(), "v": 3}).key == key


def test_what_was_never_written_by_the_service_has_no_revision() -> None:
    key = usage_item_key(KEY, 0)
    assert UsageItem.from_item({**key._asdict(), "b0": 1}).revision is None


@pytest.mark.parametrize("attributes", [
    {"b64": 1}, {"r999": 1}, {"b": 1}, {"b01": 1}, {"b-1": 1}, {"b1x": 1}, {"b²": 1}, {"n": 1}, {"nx": 1}, {"v1": 1},
    {"x": 1}, {"": 1}, {"b0": "1"}, {"b0": True}, {"v": True}, {"note": "by hand"},
], ids=str)  # fmt: skip
def test_an_attribute_that_no_item_has_is_an_error(attributes: dict[str, int | str]) -> None:
    item: Item = {**usage_item_key(KEY, 0)._asdict(), "v": 1, **attributes}
    with pytest.raises(LedgerCorruptError, match="2026-11-24T13##0"):
        UsageItem.from_item(item)
    # Sums ignore the numbers of runs and revisions.
    for grain in Grain if attributes.keys().isdisjoint({"n", "nx", "v1"}) else ():
        with pytest.raises(LedgerCorruptError):
            folded(grain, item)


def test_an_item_of_one_kind_has_no_numbers() -> None:
    with pytest.raises(LedgerCorruptError, match="b0 = 1, which no release writes"):
        UsageItem.from_item({**usage_item_key(KEY, None)._asdict(), "b0": 1})


@pytest.mark.parametrize(("pk", "sk"), [
    (PK, "2026-11-24T13#0"),
    (PK, "2026-11-24T13##"),
    (PK, "2026-11-24T13##00"),
    (PK, "2026-11-24T13##-1"),
    (PK, "2026-11-24T13##1x"),
    (PK, "2026-11-24T13##a#b#c"),
    (PK, "2026-11-24T13##a#b#c#"),
    (PK, "2026-11-24T13##a#b#c#d#e"),
    (PK, "2026-11-24##0"),
    (PK, "2026-11-24T24##0"),
    (PK, "2026-12-01T00##0"),
    (PK, "2026-11-24T13#2026-10-01##0"),
    ("A#111111111111", "2026-11-24T13##0"),
    ("x", "x"),
])  # fmt: skip
def test_a_key_that_no_item_has_is_an_error(pk: str, sk: str) -> None:
    with pytest.raises(LedgerCorruptError):
        UsageItem.from_item({"pk": pk, "sk": sk, "v": 1})


def test_hours_of_a_range_are_the_items_between_two_keys() -> None:
    low, high = sk_range(HOUR, HOUR + 7_200)
    for hours, inside in ((-1, False), (0, True), (1, True), (2, False)):
        for number in (0, 70, None):
            key = usage_item_key(KEY._replace(hour_s=HOUR + hours * 3_600), number)
            assert (low <= key.sk < high) is inside
    assert usage_partition(ACCOUNT, "2026-11") == PK


# Summing usage items while they are read gives the same as adding up their totals one at a time.

FIRST_S = parse_hour("2026-10-30T20")
ACCOUNTS = ("111111111111", "222222222222")
FIRST = UsageKey(
    FIRST_S, ACCOUNTS[0], UsageType("DataTransfer-Out-Bytes"), Service("AmazonEC2"), "us-east-1", "internet"
)

_KEYS = st.builds(
    lambda hour, account, kind, corrects: FIRST._replace(
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


@pytest.mark.parametrize("sk", ["x", "2026-10-30##0", "2026-10-30T20#x#0", "2026-10-30T20##00", "2026-11-30T20##0"])
def test_an_item_whose_key_no_item_has_is_not_added(sk: str) -> None:
    with pytest.raises(LedgerCorruptError):
        folded(Grain.MONTH, {"pk": usage_item_key(FIRST, 0).pk, "sk": sk, "b0": 1})


def test_an_account_is_read_by_the_hours_of_a_range() -> None:
    items = MemoryItemStore()
    usage = {FIRST._replace(hour_s=FIRST_S + hour * HOUR_S): Total(1 + hour, 1) for hour in range(100)}
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
    # Hours that are only partly in the range are read, too.
    assert hours("2026-10", FIRST_S + 3 * HOUR_S + 1, FIRST_S + 5 * HOUR_S + 1) == [3, 4, 5]
