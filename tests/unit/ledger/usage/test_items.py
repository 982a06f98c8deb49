"""Usage items: kinds of an account side by side, each figure under its number, and nothing that is not understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError
from metering.hours import parse_hour
from metering.ledger.usage.items import (
    BUCKET_KINDS,
    UsageItem,
    newest_run_of,
    sk_range,
    usage_add,
    usage_item_key,
    usage_partition,
)
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

HOUR_S = parse_hour("2026-11-24T13")
ACCOUNT = "111111111111"
KIND = UsageKind(UsageType("DataTransfer-Out-Bytes"), Service("AmazonEC2"), "us-east-1/use1-az1", "internet")
KEY = UsageKey(HOUR_S, ACCOUNT, *KIND)
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
    {"b64": 1},
    {"r999": 1},
    {"b": 1},
    {"b01": 1},
    {"b-1": 1},
    {"b1x": 1},
    {"b²": 1},
    {"n": 1},
    {"nx": 1},
    {"v1": 1},
    {"x": 1},
    {"": 1},
    {"b0": "1"},
    {"b0": True},
    {"v": True},
    {"note": "by hand"},
], ids=str)  # fmt: skip
def test_an_attribute_that_no_item_has_is_an_error(attributes: dict[str, int | str]) -> None:
    with pytest.raises(LedgerCorruptError, match="2026-11-24T13##0"):
        UsageItem.from_item({**usage_item_key(KEY, 0)._asdict(), **attributes})


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
    low, high = sk_range(HOUR_S, HOUR_S + 7_200)
    for hours, inside in ((-1, False), (0, True), (1, True), (2, False)):
        for number in (0, 70, None):
            key = usage_item_key(KEY._replace(hour_s=HOUR_S + hours * 3_600), number)
            assert (low <= key.sk < high) is inside
    assert usage_partition(ACCOUNT, "2026-11") == PK
