"""The split of the public side: sums stay, never beyond the private side, the same whatever came first."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.causes.days import KEYS, put_pieces, read_piece, summed, table_of
from metering.billing.causes.splitting import SIDES_DIFFER, SPLIT, Weight, in_proportion, split
from metering.units import INT64_MAX
from tests.support.lake_world import HOUR
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable

OUT, PROCESSING = "USW2-DataTransfer-Out-Bytes", "USW2-NatGateway-Bytes"


def row(size: int, **given: Any) -> tuple[Any, ...]:
    base: dict[str, Any] = dict.fromkeys(KEYS, "") | {
        "resource_id": "eni-nat", "path": "nat_gateway", "destination": "internet", "hour": HOUR, "own_hour": HOUR,
    }  # fmt: skip
    return (*((base | given)[name] for name in KEYS), size)


def private(cause: str, size: int, **given: Any) -> tuple[Any, ...]:
    """Bytes from a workload into the gateway."""
    told = {"usage_type": PROCESSING, "direction": "in", "cause": cause, "basis": "inventory" if cause else ""}
    return row(size, **(told | given))


def public(size: int, **given: Any) -> tuple[Any, ...]:
    """Bytes from the gateway to the internet."""
    return row(size, **({"usage_type": OUT, "direction": "out", "reason": "public_side"} | given))


def made(*rows: tuple[Any, ...]) -> pa.Table:
    return split(summed([table_of(rows)]))


def of_public(table: pa.Table) -> dict[tuple[str, str], int]:
    """Bytes of the public side by cause and reason."""
    return {(each["cause"], each["reason"]): each["bytes"] for each in table.to_pylist() if each["usage_type"] == OUT}


def test_equal_sides_give_each_cause_its_own_bytes() -> None:
    found = made(private("i-a", 70), private("i-b", 30), public(100))
    assert of_public(found) == {("i-a", ""): 70, ("i-b", ""): 30}
    assert {each["basis"] for each in found.to_pylist() if each["usage_type"] == OUT} == {SPLIT}


def test_what_the_private_side_has_not_seen_is_nobodys() -> None:
    assert of_public(made(private("i-a", 70), public(100))) == {("i-a", ""): 70, ("", SIDES_DIFFER): 30}
    assert of_public(made(private("i-a", 70, direction="out"), public(100))) == {("", SIDES_DIFFER): 100}
    assert of_public(made(private("i-a", 70, destination="S3.us-west-2"), public(9))) == {("", SIDES_DIFFER): 9}
    assert of_public(made(private("i-a", 70, hour=HOUR + 3600), public(9))) == {("", SIDES_DIFFER): 9}
    assert of_public(made(private("i-a", 70, resource_id="eni-other"), public(9))) == {("", SIDES_DIFFER): 9}


def test_unattributed_bytes_of_the_private_side_keep_their_share_and_their_reason() -> None:
    found = made(private("i-a", 50), private("", 50, reason="address_unknown"), public(80))
    assert of_public(found) == {("i-a", ""): 40, ("", "address_unknown"): 40}


def test_of_equal_remainders_the_first_id_gets_one_more() -> None:
    assert in_proportion(1, {Weight("i-b", ""): 1, Weight("i-a", ""): 1}) == [(Weight("i-a", ""), 1)]
    assert in_proportion(5, {Weight("i-b", ""): 1, Weight("i-a", ""): 1}) == [
        (Weight("i-a", ""), 3), (Weight("i-b", ""), 2),
    ]  # fmt: skip


def test_usage_types_share_what_the_private_side_moved() -> None:
    other = public(60, usage_type="USW2-USE1-AWS-Out-Bytes")
    found = made(private("i-a", 100), public(60), other).to_pylist()
    assert sum(each["bytes"] for each in found if each["basis"] == SPLIT) == 100
    assert sum(each["bytes"] for each in found if each["reason"] == SIDES_DIFFER) == 20


_Rows = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from(["i-a", "i-b", "i-c", ""]), st.sampled_from(["internet", "S3.us-west-2"]),
        st.sampled_from(["in", "out"]), st.sampled_from([HOUR, HOUR + 3600]), st.sampled_from(["eni-nat", "eni-2"]),
        st.one_of(st.integers(0, 50), st.integers(INT64_MAX - 5, INT64_MAX)),
    ),
    max_size=12,
)  # fmt: skip


def _rows(drawn: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    found = []
    for is_public, cause, destination, direction, hour, resource, size in drawn:
        place: dict[str, Any] = {"destination": destination, "direction": direction, "hour": hour, "own_hour": hour}
        place["resource_id"] = resource
        found.append(public(size, **place) if is_public else private(cause, size, **place))
    return found


def _sums(table: pa.Table, *names: str) -> Counter[tuple[Any, ...]]:
    sums: Counter[tuple[Any, ...]] = Counter()
    for each in table.to_pylist():
        sums[tuple(each[name] for name in names)] += each["bytes"]
    return +sums


@given(_Rows, _Rows)
def test_sums_stay_and_rows_may_come_in_any_order(first: list[Any], second: list[Any]) -> None:
    rows = _rows(first), _rows(second)
    whole = split(summed([table_of([*rows[0], *rows[1]])]))
    in_two = split(summed([split(summed([table_of(rows[0])])), table_of(rows[1])]))
    key = ("resource_id", "usage_type", "hour", "destination", "direction")
    assert _sums(whole, *key) == _sums(table_of([*rows[0], *rows[1]]), *key)
    assert whole.equals(in_two)
    assert split(whole).equals(whole)
    # A split is never beyond what the private side moved the other way.
    moved: Counter[tuple[Any, ...]] = Counter()
    for each in whole.to_pylist():
        if each["usage_type"] == PROCESSING:
            way = "out" if each["direction"] == "in" else "in"
            moved[each["resource_id"], each["hour"], each["destination"], way] += each["bytes"]
    parts = whole.filter(pc.equal(whole["basis"], SPLIT))
    sides = _sums(parts, "resource_id", "hour", "destination", "direction")
    assert all(size <= moved[side] for side, size in sides.items())


def test_longer_lines_of_the_public_side_give_few_bytes_to_another_cause() -> None:
    chance, truth = random.Random(30), Counter[str]()
    rows = []
    for flow in range(20_000):
        cause, size, more = f"i-{flow % 37}", chance.randrange(40, 2 ** chance.randrange(8, 24)), chance.randrange(100)
        place = {"destination": chance.choice(["internet", "S3.us-west-2", "EC2.us-east-1"])}
        rows += [private(cause, size, **place), public(size + more, **place)]
        truth[cause] += size + more
    found: Counter[str] = Counter()
    for each in made(*rows).to_pylist():
        if each["usage_type"] == OUT:
            found[each["cause"]] += each["bytes"]
    astray = sum(max(0, size - truth[cause]) for cause, size in found.items() if cause)
    assert 1_000 * astray <= sum(truth.values())


def test_sums_beyond_int64_are_several_rows() -> None:
    store = MemoryObjectStore(ManualClock(HOUR * 1000))
    table = summed([table_of([public(INT64_MAX), public(INT64_MAX), public(7)])])
    assert sorted(table["bytes"].to_pylist()) == [7, INT64_MAX, INT64_MAX]
    [piece] = put_pieces(store, HOUR, table)
    assert sum(summed([read_piece(store, piece)])["bytes"].to_pylist()) == 2 * INT64_MAX + 7
