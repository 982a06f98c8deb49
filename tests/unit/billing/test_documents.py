"""Numbered documents are never replaced; if two writers write at once, both documents are kept."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.documents import (
    MOST_PERCENT,
    DocumentRefusedError,
    Numbered,
    NumberedDocuments,
    bytes_of_gb,
    canonical,
    gb_text,
    hour_of_text,
    hour_text,
    percent_of,
    percent_text,
)
from metering.billing.money import (
    EXACT_A_USD,
    cents_of,
    exact_text,
    line_cost,
    price_of,
    quantity_of,
    rounded,
    usd_text,
)
from metering.billing.organization import OrganizationStore, organization_value, read_organization
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.units import GIB, HOUR_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Document = dict[str, object]


def store() -> tuple[MemoryObjectStore, NumberedDocuments]:
    objects = MemoryObjectStore(ManualClock(0))
    return objects, NumberedDocuments(objects, "prices/aws-list/")


def put(documents: NumberedDocuments, text: str) -> Numbered | None:
    return documents.append(lambda number, _newest: {"version": number, "text": text})


def test_versions_are_counted_from_one_and_the_newest_is_the_greatest_number() -> None:
    objects, documents = store()
    assert documents.newest() is None
    made = [put(documents, str(number)) for number in range(1, 12)]
    assert [each and each.number for each in made] == documents.numbers() == list(range(1, 12))
    newest = documents.newest()
    assert newest is not None
    # If sorted as text, 9 would come after 11.
    assert (newest.number, json.loads(newest.body)["text"]) == (11, "11")
    assert objects.keys("prices/")[0] == "prices/aws-list/1.json"


def test_the_bytes_are_canonical_and_the_digest_is_theirs() -> None:
    _, documents = store()
    made = documents.append(lambda _number, _newest: {"b": 1, "a": [1, "x"]})
    assert made is not None
    assert made.body == b'{"a":[1,"x"],"b":1}'
    assert len(made.sha256) == 64


def test_of_two_writers_at_once_the_second_one_makes_its_document_again_on_top_of_the_first() -> None:
    objects, documents = store()
    seen: list[int | None] = []

    def make(number: int, newest: Numbered | None) -> Document:
        seen.append(None if newest is None else newest.number)
        if len(seen) == 1:
            put(NumberedDocuments(objects, "prices/aws-list/"), "the other")
        return {"version": number, "text": "ours"}

    made = documents.append(make)
    assert made is not None
    assert (made.number, seen) == (2, [None, 1])
    assert [json.loads(documents.get(number).body)["text"] for number in (1, 2)] == ["the other", "ours"]


class SendingTwice(MemoryObjectStore):
    """Loses the reply to each put, so that the SDK's retry finds that the object exists."""

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        super().put(key, body, if_absent=if_absent)
        return super().put(key, body, if_absent=if_absent)


def test_a_put_whose_reply_was_lost_is_not_written_twice() -> None:
    objects = SendingTwice(ManualClock(0))
    made = put(NumberedDocuments(objects, "prices/aws-list/"), "once")
    assert made is not None
    assert made.number == 1
    assert objects.keys() == ("prices/aws-list/1.json",)


def test_nothing_is_written_if_there_is_nothing_to_write() -> None:
    objects, documents = store()
    assert documents.append(lambda _number, _newest: None) is None
    put(documents, "one")
    same = documents.append(lambda _number, _newest: None)
    assert same is not None
    assert (same.number, len(objects.keys())) == (1, 1)


def test_other_objects_below_the_prefix_are_no_versions() -> None:
    objects, documents = store()
    for name in ("0.json", "01.json", "1.json.tmp", "x.json", "a/1.json"):
        objects.put(f"prices/aws-list/{name}", b"{}", if_absent=True)
    assert documents.numbers() == []
    with pytest.raises(ObjectMissingError):
        documents.get(1)


ONE, TWO = "999988887777", "999988887778"
ACCOUNT = "111122223333"
JANUARY, JUNE = "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"


def value(*accounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "payers": [{"id": ONE, "name": "Acme", "issuer": "Cloud"}, {"id": TWO, "name": "Zed", "issuer": "Cloud"}],
        "accounts": list(accounts),
        **more,
    }


def member(payer: str = ONE, begin: str = JANUARY, end: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": ACCOUNT, "payer": payer, "from": begin, "to": end, **more}


def body(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def test_an_account_moves_from_one_payer_to_another_at_an_hour() -> None:
    read = read_organization(body(value(member(ONE, JANUARY, JUNE), member(TWO, JUNE, name="web"))), "it")
    june_s = hour_of_text(JUNE)
    assert [read.payer_of(ACCOUNT, june_s + offset) for offset in (-3600, 0, 3600)] == [ONE, TWO, TWO]
    assert read.payer_of(ACCOUNT, 0) == ACCOUNT
    assert read.names == {ACCOUNT: "web"}
    again = read_organization(canonical(organization_value(read)), "it")
    assert [again.payer_of(ACCOUNT, june_s + offset) for offset in (-3600, 0)] == [ONE, TWO]
    assert canonical(organization_value(again)) == canonical(organization_value(read))


@pytest.mark.parametrize(("content", "told"), [
    (value(member(ONE), member(TWO, JUNE)), "account 111122223333 has two payers, 999988887777 and 999988887778,"),
    (value(member(ONE, JUNE), member(TWO)), "has two payers"),
    (value(member(ONE), member(ONE, JUNE)), "has payer 999988887777 twice"),
    (value(member(ONE, JANUARY, JUNE), member(TWO, "2026-05-31T23:00:00Z")), "has two payers"),
    (value(member(id="11112222333")), "'11112222333' is no account id: it has 11 characters"),
    (value(member(id="11112222333x")), "is no account id"),
    (value(member(id="\uff11" * 12)), "is no account id"),
    (value(member(begin=JUNE, end=JANUARY)), "it ends at 2026-01-01T00:00:00Z, and begins at 2026-06-01T00:00:00Z"),
    (value(member(begin=JUNE, end=JUNE)), "it ends at"),
    (value(member("999988887779")), "payer 999988887779 of an account is not among the payers"),
    (value(member(begin="2026-01-01T00:30:00Z")), "no full hour"),
    (value(member(name="a"), member(begin=JUNE, name="b")), "has two names"),
    (value(payers=[{"id": ONE, "name": "A", "issuer": "B"}] * 2), "payer 999988887777 stands twice"),
    (value(payers=[{"id": "1", "name": "A", "issuer": "B"}]), "'1' is no account id"),
    (value(payers=[{"id": ONE, "name": "", "issuer": "B"}]), "name: string should have at least 1 character"),
    (value(payers=[{"id": ONE, "name": "A", "issuer": "B", "currency": "EUR"}]), "currency: input should be 'USD'"),
    (value(schema="metering.organization/2"), "schema"),
    (value(groups=[]), "groups: extra inputs are not permitted"),
    ({}, "payers: field required"),
    (value(accounts=[7]), "accounts.0: input should be a valid dictionary or instance of AccountDocument"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused(content: dict[str, Any], told: str) -> None:
    assert told in "; ".join(problems(content))


def problems(content: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(DocumentRefusedError) as error:
        read_organization(body(content), "payers.json")
    return error.value.problems


def test_every_problem_is_named_at_once() -> None:
    wrong = member("999988887779"), member(id="1"), member(begin=JUNE, end=JANUARY, id="222222222222")
    assert len(problems(value(*wrong))) == 3


def test_versions_are_kept_and_the_same_content_writes_nothing() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    store = OrganizationStore(objects)
    assert (store.newest().version, store.newest().payer_of(ACCOUNT, 0)) == (0, ACCOUNT)
    one = store.put(read_organization(body(value(member())), "it"))
    same = store.put(read_organization(body(value(member())), "it"))
    two = store.put(read_organization(body(value()), "it"))
    assert (one.version, same, two.version, store.versions()) == (1, one, 2, [1, 2])
    assert store.get(1) == one
    assert store.get(0).payers == ()
    objects.put("organization/3.json", objects.get("organization/2.json"), if_absent=True)
    with pytest.raises(ObjectDamagedError, match="version 2"):
        store.newest()
    objects.put("organization/4.json", b"{}", if_absent=True)
    with pytest.raises(ObjectDamagedError):
        store.newest()


# Hours, sizes and percentages in money documents are read back, and all other values are refused.
@given(hours=st.integers(0, 70_000_000))
def test_an_hour_is_read_as_it_was_written(hours: int) -> None:
    assert hour_of_text(hour_text(hours * HOUR_S)) == hours * HOUR_S


@given(total=st.integers(0, 10**15 * GIB - 1), units=st.integers(0, MOST_PERCENT))
def test_bytes_are_read_as_they_were_written_in_gb_and_percentages_as_they_were(total: int, units: int) -> None:
    assert bytes_of_gb(gb_text(total)) == total
    assert percent_of(percent_text(units)) == units


@pytest.mark.parametrize("text", [
    "2026-08-01T00:30:00Z", "2026-08-01T00:00:00+02:00", "2026-08-01", "2026-13-01T00:00:00Z", "1969-12-31T00:00:00Z",
    "2026-8-1T00:00:00Z", "", "\uff12026-08-01T00:00:00Z", "99999-01-01T00:00:00Z",
])  # fmt: skip
def test_what_is_no_full_hour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"full hour|before 1970"):
        hour_of_text(text)


@pytest.mark.parametrize(("read", "text", "told"), [
    *((bytes_of_gb, text, "GB") for text in ("", "-1", "1e3", "Inf", "0.0000000001", "1.", ".5", "1" * 16, "\u0661")),
    *((percent_of, text, "percentage") for text in ("100.001", "-1", "12.5000", "", "half")),
    *((price_of, text, "is not a price") for text in ("", ".5", "1.", "-1", "+1", "1e3", "NaN", "1e400")),
    *((price_of, text, "is not a price") for text in ("0.00000000001", "٣", "1_0", " 1", "1\n")),
])  # fmt: skip
def test_what_is_no_whole_number_of_bytes_no_percentage_or_no_price_is_refused(
    read: Callable[[str], object], text: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        read(text)


def test_gb_are_of_two_to_the_thirty() -> None:
    assert [bytes_of_gb(text) for text in ("10240", "0.5")] == [10240 * GIB, GIB // 2]
    assert gb_text(1) == "0.000000000931322574615478515625"


# Money in integers: what is rounded, at which point, and in which direction.
@pytest.mark.parametrize(("text", "price"), [("0.09", 900_000_000), ("1", 10**10), ("0.0000000001", 1), ("0", 0)])
def test_a_price_is_a_decimal_text_of_at_most_ten_decimals(text: str, price: int) -> None:
    assert price_of(text) == price


@pytest.mark.parametrize(("size", "price", "cost"), [
    # Half of the last decimal place rounds up, whether the digit before it is even or odd.
    (GIB // 2, 1, 1),
    (GIB // 2, 3, 2),
    (GIB // 2, 5, 3),
    (GIB // 4, 1, 0),
    (3 * GIB // 4, 1, 1),
    # The quantity is rounded first: 1 byte equals 9.3 units of quantity.
    (1, 900_000_000, 1),
    (1, 10**10, 9),
    (0, 10**10, 0),
])  # fmt: skip
def test_a_line_is_rounded_half_up_and_its_reversal_cancels_it_out(size: int, price: int, cost: int) -> None:
    assert line_cost(size, price) == cost
    assert line_cost(-size, price) == -cost


def test_a_quantity_is_rounded_half_up() -> None:
    assert [quantity_of(size) for size in (1, GIB // 2, GIB, -1)] == [9, 5 * 10**9, 10**10, -9]
    # Odd multiples of 2^19 bytes lie exactly halfway between two units: 4,882,812.5.
    assert [quantity_of(size) for size in (2**19, -(2**19))] == [4_882_813, -4_882_813]
    assert line_cost(2**19, 10**10) == 4_882_813


@pytest.mark.parametrize(
    ("cost", "cents"), [("0.005", 1), ("0.015", 2), ("0.025", 3), ("0.0249999999", 2), ("-0.005", -1)]
)
def test_cents_are_rounded_half_up_of_the_exact_cost(cost: str, cents: int) -> None:
    assert cents_of(int(Decimal(cost) * EXACT_A_USD)) == cents


def test_exact_costs_are_told_with_all_their_digits() -> None:
    assert exact_text(900_000_000) == "0.00000000008381903171539306640625"
    assert exact_text(-9 * EXACT_A_USD) == "-9.00"
    assert exact_text(10**40 * EXACT_A_USD + 1).startswith("1" + 40 * "0" + ".")


def test_a_sum_is_rounded_half_up_for_printing() -> None:
    assert [rounded(exact) for exact in (GIB // 2, GIB // 2 - 1, -GIB // 2)] == [1, 0, -1]
    assert usd_text(-9, decimals=2) == "-0.09"
    assert usd_text(7, decimals=0) == "7"
