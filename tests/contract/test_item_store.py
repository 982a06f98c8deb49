"""Behaviour of every `ItemStore`: DynamoDB's semantics, as far as the protocol depends on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from metering.errors import ConditionFailedError, ItemTooLargeError, TransactionCanceledError
from metering.stores.writes import (
    Absent,
    Action,
    AllOf,
    AnyOf,
    Check,
    Condition,
    Delete,
    Equals,
    Exists,
    Item,
    ItemStore,
    Key,
    Put,
    Table,
    Update,
    Value,
)
from metering.units import KIB

LEDGER = Table.LEDGER
USAGE = Table.USAGE
FAILED = "ConditionalCheckFailed"


def item(pk: str, sk: str, **attributes: Value) -> dict[str, Value]:
    return {"pk": pk, "sk": sk, **attributes}


def put(items: ItemStore, pk: str, sk: str, **attributes: Value) -> None:
    items.put(Put(table=LEDGER, item=item(pk, sk, **attributes)))


def sort_keys(found: object) -> list[Value]:
    return [one["sk"] for one in found]  # type: ignore[attr-defined]  # any iterable of items


@pytest.mark.parametrize("value", [
    "", "text with a \N{SNOWMAN} and \U0001f600", 0, -1, 2**53 + 1, 2**63, -(2**63) - 1, 10**37, 10**38 - 1, 1 - 10**38,
    True, False, frozenset({"a", "b"}), [], [1, "1", True, [2], {"k": -(2**70)}], {},
    {"2026-11-24T13": [3, 140 * 10**15], "empty": ""},
], ids=lambda value: str(len(repr(value))) + type(value).__name__)  # fmt: skip
def test_a_value_comes_back_as_it_was_written(items: ItemStore, pk: str, value: Value) -> None:
    put(items, pk, "1", value=value)
    found = items.get(LEDGER, Key(pk, "1"))
    assert found == item(pk, "1", value=value)
    assert type(found["value"]) is type(value)


@pytest.mark.parametrize("number", [10**38, -(10**38), 10**40], ids=["38 zeros", "negative", "40 zeros"])
def test_a_number_of_more_than_38_digits_is_refused(items: ItemStore, pk: str, number: int) -> None:
    with pytest.raises(ValueError, match="38 digits"):
        put(items, pk, "1", n=number)
    assert items.get(LEDGER, Key(pk, "1")) is None


def test_an_empty_set_is_refused(items: ItemStore, pk: str) -> None:
    with pytest.raises(ValueError, match="empty set"):
        put(items, pk, "1", s=frozenset())


def test_an_item_that_is_not_there_reads_as_none(items: ItemStore, pk: str) -> None:
    assert items.get(LEDGER, Key(pk, "1")) is None


def test_the_two_tables_are_apart(items: ItemStore, pk: str) -> None:
    put(items, pk, "1")
    assert items.get(USAGE, Key(pk, "1")) is None


def test_a_put_replaces_the_whole_item(items: ItemStore, pk: str) -> None:
    put(items, pk, "1", a=1, b=2)
    put(items, pk, "1", b=3)
    assert items.get(LEDGER, Key(pk, "1")) == item(pk, "1", b=3)


def test_what_was_written_no_longer_belongs_to_the_writer(items: ItemStore, pk: str) -> None:
    numbers: list[Value] = [1]
    items.put(Put(table=LEDGER, item=item(pk, "1", numbers=numbers)))
    numbers.append(2)
    assert items.get(LEDGER, Key(pk, "1")) == item(pk, "1", numbers=[1])


STORED: dict[str, Value] = {"state": "open", "next": 3, "flag": True, "word": "1"}
CONDITIONS: list[tuple[Condition, bool, bool]] = [
    # A condition, its result on STORED, and its result if there is no item.
    (Exists(), True, False),
    (Absent(), False, True),
    (Exists(attribute="state"), True, False),
    (Exists(attribute="gone"), False, False),
    (Absent(attribute="state"), False, True),
    (Absent(attribute="gone"), True, True),
    (Equals(attribute="state", value="open"), True, False),
    (Equals(attribute="state", value="Open"), False, False),
    (Equals(attribute="next", value=3), True, False),
    (Equals(attribute="next", value=4), False, False),
    (Equals(attribute="gone", value=0), False, False),
    (Equals(attribute="gone", value=""), False, False),
    # Types are never mixed: a string never equals a number, and a boolean never equals a number.
    (Equals(attribute="word", value=1), False, False),
    (Equals(attribute="next", value="3"), False, False),
    (Equals(attribute="flag", value=1), False, False),
    (AnyOf((Absent(), Equals(attribute="state", value="open"))), True, True),
    (AnyOf((Absent(), Equals(attribute="state", value="done"))), False, True),
    (AllOf((Exists(), Equals(attribute="next", value=3))), True, False),
    (AllOf((Equals(attribute="state", value="open"), Equals(attribute="next", value=4))), False, False),
    (AllOf((Exists(), AnyOf((Absent(attribute="run"), Equals(attribute="run", value="0#1"))))), True, False),
    (AnyOf((AllOf((Exists(), Absent())), Exists(attribute="next"))), True, False),
]


@pytest.mark.parametrize(("condition", "of_stored", "of_nothing"), CONDITIONS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("kind", ["put", "update", "delete", "check"])
def test_a_condition_decides_a_write(
    items: ItemStore, pk: str, condition: Condition, of_stored: bool, of_nothing: bool, kind: str
) -> None:
    put(items, pk, "there", **STORED)
    assert _writes(items, Key(pk, "there"), condition, kind) is of_stored
    assert _writes(items, Key(pk, "not there"), condition, kind) is of_nothing


def _writes(items: ItemStore, key: Key, condition: Condition, kind: str) -> bool:
    before = items.get(LEDGER, key)
    actions: dict[str, Action] = {
        "put": Put(table=LEDGER, item={**key._asdict(), "new": 1}, condition=condition),
        "update": Update(table=LEDGER, key=key, set={"new": 1}, condition=condition),
        "delete": Delete(table=LEDGER, key=key, condition=condition),
        "check": Check(table=LEDGER, key=key, condition=condition),
    }
    action = actions[kind]
    reasons = _refusal(lambda: items.transact([action]))
    assert reasons in (None, ((FAILED, before),))
    if reasons is not None:
        assert items.get(LEDGER, key) == before
    assert _writes_alone(items, action, before) is (reasons is None)
    return reasons is None


def _writes_alone(items: ItemStore, action: Action, before: Item | None) -> bool:
    """Repeat the write from the same state without a transaction."""
    key = action.key
    if before is None:
        items.delete(Delete(table=LEDGER, key=key))
    else:
        items.put(Put(table=LEDGER, item=before))
    match action:
        case Put():
            refused = _refusal(lambda: items.put(action))
        case Update():
            refused = _refusal(lambda: items.update(action))
        case Delete():
            refused = _refusal(lambda: items.delete(action))
        case Check():
            refused = _refusal(lambda: items.delete(Delete(table=LEDGER, key=key, condition=action.condition)))
    assert refused in (None, (before,))
    if refused is not None:
        assert items.get(LEDGER, key) == before
    return refused is None


def _refusal(write: Callable[[], object]) -> tuple[object, ...] | None:
    """The refused write's error data; None for a success."""
    try:
        write()
    except TransactionCanceledError as error:
        return error.reasons
    except ConditionFailedError as error:
        return (error.existing,)
    return None


def test_an_update_makes_an_item_and_returns_it_whole(items: ItemStore, pk: str) -> None:
    after = items.update(Update(table=LEDGER, key=Key(pk, "1"), set={"a": "x"}, add={"n": -5}))
    assert after == item(pk, "1", a="x", n=-5)
    assert items.get(LEDGER, Key(pk, "1")) == after


def test_add_to_an_absent_attribute_counts_from_zero(items: ItemStore, pk: str) -> None:
    put(items, pk, "1", other=1)
    after = items.update(Update(table=LEDGER, key=Key(pk, "1"), add={"bytes": 2**63, "records": 1}))
    assert after == item(pk, "1", other=1, bytes=2**63, records=1)


def test_sums_beyond_64_bits_are_exact(items: ItemStore, pk: str) -> None:
    for _ in range(3):
        items.update(Update(table=LEDGER, key=Key(pk, "1"), add={"n": 2**63 - 1}))
    after = items.update(Update(table=LEDGER, key=Key(pk, "1"), add={"n": -1}))
    assert after["n"] == 3 * (2**63 - 1) - 1
    # DynamoDB adds 38 digits, MiniStack 28 (Python's default Decimal context): a year at 140 PB a day needs 20.
    after = items.update(Update(table=LEDGER, key=Key(pk, "1"), add={"n": 10**27}))
    assert after["n"] == 10**27 + 3 * (2**63 - 1) - 1


def test_the_last_string_of_a_set_takes_the_attribute_along(items: ItemStore, pk: str) -> None:
    put(items, pk, "1", hours=frozenset({"a", "b", "c"}))
    take = {"hours": frozenset({"a", "never there"})}
    left = item(pk, "1", hours=frozenset({"b", "c"}))
    assert items.update(Update(table=LEDGER, key=Key(pk, "1"), discard=take)) == left
    take = {"hours": frozenset({"b", "c"})}
    assert items.update(Update(table=LEDGER, key=Key(pk, "1"), discard=take)) == item(pk, "1")
    # A deletion may be repeated, and does not restore anything.
    assert items.update(Update(table=LEDGER, key=Key(pk, "1"), discard=take)) == item(pk, "1")


def test_remove_takes_attributes_away_and_minds_none_that_are_not_there(items: ItemStore, pk: str) -> None:
    put(items, pk, "1", a=1, b=2, c=3)
    after = items.update(Update(table=LEDGER, key=Key(pk, "1"), remove=("a", "b", "z"), set={"c": 4}))
    assert after == item(pk, "1", c=4)


def test_an_update_without_its_condition_makes_an_empty_item(items: ItemStore, pk: str) -> None:
    """Therefore the protocol requires `attribute_exists` when hours are removed from the pending set."""
    items.update(Update(table=LEDGER, key=Key(pk, "1"), discard={"hours": frozenset({"a"})}))
    assert items.get(LEDGER, Key(pk, "1")) == item(pk, "1")


def test_an_update_that_changes_nothing_is_refused(items: ItemStore, pk: str) -> None:
    with pytest.raises(ValueError, match="changes nothing"):
        items.update(Update(table=LEDGER, key=Key(pk, "1")))
    with pytest.raises(ValueError, match="changes nothing"):
        items.transact([Update(table=LEDGER, key=Key(pk, "1"))])
    assert items.get(LEDGER, Key(pk, "1")) is None


def test_deleting_what_is_not_there_is_no_error(items: ItemStore, pk: str) -> None:
    items.delete(Delete(table=LEDGER, key=Key(pk, "1")))
    put(items, pk, "1")
    items.delete(Delete(table=LEDGER, key=Key(pk, "1")))
    items.delete(Delete(table=LEDGER, key=Key(pk, "1")))
    assert items.get(LEDGER, Key(pk, "1")) is None


def test_a_transaction_applies_all_of_its_actions_over_both_tables(items: ItemStore, pk: str) -> None:
    put(items, pk, "old", n=1)
    put(items, pk, "gone")
    put(items, pk, "checked", n=1)
    items.transact(
        [
            Put(table=LEDGER, item=item(pk, "new", x="y"), condition=Absent()),
            Update(table=LEDGER, key=Key(pk, "old"), add={"n": 1}),
            Delete(table=LEDGER, key=Key(pk, "gone")),
            Check(table=LEDGER, key=Key(pk, "checked"), condition=Exists()),
            Update(table=USAGE, key=Key(pk, "new"), add={"bytes": 5, "rev": 1}),
        ]
    )
    assert list(items.query(LEDGER, pk)) == [item(pk, "checked", n=1), item(pk, "new", x="y"), item(pk, "old", n=2)]
    assert list(items.query(USAGE, pk)) == [item(pk, "new", bytes=5, rev=1)]


def test_one_false_condition_cancels_everything_and_reasons_come_in_order(items: ItemStore, pk: str) -> None:
    put(items, pk, "b", n=1)
    put(items, pk, "d", n=2)
    before = list(items.query(LEDGER, pk))
    with pytest.raises(TransactionCanceledError) as caught:
        items.transact(
            [
                Put(table=LEDGER, item=item(pk, "a"), condition=Absent()),
                Put(table=LEDGER, item=item(pk, "b", n=7), condition=Absent()),
                Check(table=LEDGER, key=Key(pk, "c"), condition=Exists()),
                Update(table=LEDGER, key=Key(pk, "d"), add={"n": 1}, condition=Equals(attribute="n", value=3)),
                Delete(table=LEDGER, key=Key(pk, "e"), condition=Absent()),
                Update(table=USAGE, key=Key(pk, "f"), add={"n": 1}),
            ]
        )
    assert caught.value.condition_failed
    assert caught.value.reasons == (
        None, (FAILED, item(pk, "b", n=1)), (FAILED, None), (FAILED, item(pk, "d", n=2)), None, None,
    )  # fmt: skip
    assert list(items.query(LEDGER, pk)) == before
    assert list(items.query(USAGE, pk)) == []


def test_a_hundred_actions_are_taken_and_a_hundred_and_one_refused(items: ItemStore, pk: str) -> None:
    actions = [Put(table=LEDGER, item=item(pk, f"{n:03d}")) for n in range(101)]
    with pytest.raises(ValueError, match="100"):
        items.transact(actions)
    assert list(items.query(LEDGER, pk)) == []
    items.transact(actions[:100])
    assert len(list(items.query(LEDGER, pk))) == 100


def test_no_action_is_refused(items: ItemStore) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        items.transact([])


def test_two_actions_on_one_item_are_refused(items: ItemStore, pk: str) -> None:
    check = Check(table=LEDGER, key=Key(pk, "1"), condition=Absent())
    with pytest.raises(ValueError, match="one item"):
        items.transact([Put(table=LEDGER, item=item(pk, "1")), check])
    # The same key in the other table is a different item.
    items.transact([Put(table=table, item=item(pk, "1")) for table in (Table.LEDGER, Table.USAGE)])
    assert items.get(LEDGER, Key(pk, "1")) == items.get(USAGE, Key(pk, "1"))


def test_a_guarded_transaction_sent_again_changes_nothing(items: ItemStore, pk: str) -> None:
    """No code relies on request tokens: the effect of the first call makes the second call fail."""
    commit: list[Action] = [
        Put(table=LEDGER, item=item(pk, "C", state="applied"), condition=Absent()),
        Update(table=USAGE, key=Key(pk, "u"), add={"bytes": 10, "rev": 1}),
    ]
    items.transact(commit)
    with pytest.raises(TransactionCanceledError) as caught:
        items.transact(commit)
    assert caught.value.reasons == ((FAILED, item(pk, "C", state="applied")), None)
    assert items.get(USAGE, Key(pk, "u")) == item(pk, "u", bytes=10, rev=1)


def test_a_transaction_whose_guard_was_undone_is_applied_once_more(items: ItemStore, pk: str) -> None:
    """Each call has a new request token, so that a repair can be applied twice within ten minutes."""
    repair = [Update(table=USAGE, key=Key(pk, "u"), add={"bytes": 10, "rev": 1}, condition=Absent())]
    for _ in range(2):
        items.transact(repair)
        assert items.get(USAGE, Key(pk, "u")) == item(pk, "u", bytes=10, rev=1)
        items.delete(Delete(table=USAGE, key=Key(pk, "u")))


def test_an_update_without_a_guard_counts_each_time(items: ItemStore, pk: str) -> None:
    """Therefore code never uses an unconditional ADD."""
    for _ in range(2):
        items.transact([Update(table=USAGE, key=Key(pk, "u"), add={"bytes": 10})])
    assert items.get(USAGE, Key(pk, "u")) == item(pk, "u", bytes=20)


def test_a_query_reads_one_partition_in_key_order(items: ItemStore, pk: str) -> None:
    for sk in ("b", "a", "c", "B", "é", "z", "\U0001f600", "\uffee"):
        put(items, pk, sk)
    put(items, pk + "x", "a")
    ordered = ["B", "a", "b", "c", "z", "é", "\uffee", "\U0001f600"]
    assert sort_keys(items.query(LEDGER, pk)) == ordered
    assert sort_keys(items.query(LEDGER, pk, descending=True)) == ordered[::-1]
    assert list(items.query(USAGE, pk)) == []


@pytest.mark.parametrize(("bounds", "expected"), [
    ({"sk_from": "1#"}, ["1#a", "1#b", "2#a", "2#b"]),
    ({"sk_from": "1#", "sk_to": "2#"}, ["1#a", "1#b"]),
    ({"sk_from": "1#a", "sk_to": "2#a"}, ["1#a", "1#b"]),
    ({"sk_from": "1#b", "sk_to": "2#b"}, ["1#b", "2#a"]),
    ({"sk_to": "1#b"}, ["0", "1#a"]),
    ({"sk_from": "1#a", "sk_to": "1#a"}, []),
    ({"sk_from": "2#", "sk_to": "1#"}, []),
    ({"sk_from": "3"}, []),
    ({}, ["0", "1#a", "1#b", "2#a", "2#b"]),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("descending", [False, True])
def test_a_range_holds_its_lower_end_and_not_its_upper_one(
    items: ItemStore, pk: str, bounds: dict[str, str], expected: list[str], descending: bool
) -> None:
    for sk in ("0", "1#a", "1#b", "2#a", "2#b"):
        put(items, pk, sk)
    found = sort_keys(items.query(LEDGER, pk, descending=descending, **bounds))
    assert found == (expected[::-1] if descending else expected)


@pytest.mark.parametrize("descending", [False, True])
def test_a_query_goes_on_over_more_than_one_page(items: ItemStore, pk: str, descending: bool) -> None:
    """A page of a Query holds 1 MB."""
    for n in range(12):
        put(items, pk, f"{n:02d}", filling="x" * 200_000)
    names = [f"{n:02d}" for n in range(12)]
    assert sort_keys(items.query(LEDGER, pk, descending=descending)) == (names[::-1] if descending else names)


def test_many_items_are_read_at_once_and_absent_ones_left_out(items: ItemStore, pk: str) -> None:
    for n in range(130):
        put(items, pk, f"{n:03d}", n=n)
    keys = [Key(pk, f"{n:03d}") for n in range(0, 260, 2)]
    found = items.get_many(LEDGER, [*keys, keys[0]])
    assert found == {Key(pk, f"{n:03d}"): item(pk, f"{n:03d}", n=n) for n in range(0, 130, 2)}
    assert items.get_many(LEDGER, []) == {}


def test_a_scan_finds_every_item(items: ItemStore, pk: str) -> None:
    for n in range(6):
        put(items, f"{pk}/{n}", "1", filling="x" * 300_000)
    found = {one["pk"] for one in items.scan(LEDGER)}
    assert found >= {f"{pk}/{n}" for n in range(6)}


def test_the_parts_of_a_scan_have_every_item_once(items: ItemStore, pk: str) -> None:
    for n in range(40):
        put(items, f"{pk}/{n}", "1", n=n)
    parts = [[one["pk"] for one in items.scan(LEDGER, part=part, parts=5)] for part in range(5)]
    found = sorted(str(name) for names in parts for name in names if str(name).startswith(f"{pk}/"))
    assert found == sorted(f"{pk}/{n}" for n in range(40))
    assert [one["pk"] for one in items.scan(LEDGER, part=2, parts=5)] == parts[2]


def test_a_scan_by_prefixes_finds_only_their_items(items: ItemStore, pk: str) -> None:
    for name in ("a/1", "a/2", "b", "c"):
        put(items, f"{pk}/{name}", "1")
    found = sorted(str(one["pk"]) for one in items.scan(LEDGER, prefixes=(f"{pk}/a", f"{pk}/c")))
    assert found == [f"{pk}/a/1", f"{pk}/a/2", f"{pk}/c"]


def test_a_query_can_see_half_of_a_transaction(items: ItemStore, pk: str) -> None:
    """A Query is many reads: it sees a concurrent transaction only in items after its current position."""
    for n in range(8):
        put(items, pk, f"{n}", version=1, filling="x" * 300_000)
    reader = items.query(LEDGER, pk)
    seen = [next(reader)]
    items.transact([Update(table=LEDGER, key=Key(pk, f"{n}"), set={"version": 2}) for n in range(8)])
    seen += list(reader)
    versions = [one["version"] for one in seen]
    assert versions == sorted(versions, key=str)
    assert set(versions) == {1, 2}


def test_a_query_can_miss_an_item_behind_it_and_meet_one_ahead_of_it(items: ItemStore, pk: str) -> None:
    """Therefore readers read the published hours before the pointers, and read them again after the pointers."""
    for n in range(2, 10):
        put(items, pk, f"{n}", filling="x" * 300_000)
    reader = items.query(LEDGER, pk)
    next(reader)
    items.transact([Put(table=LEDGER, item=item(pk, "1")), Put(table=LEDGER, item=item(pk, "95"))])
    found = sort_keys(reader)
    assert "1" not in found
    assert found[-1] == "95"


def test_a_query_that_stops_early_is_no_trouble(items: ItemStore, pk: str) -> None:
    for n in range(3):
        put(items, pk, f"{n}")
    assert next(items.query(LEDGER, pk, descending=True))["sk"] == "2"


def test_what_was_read_stays_as_it_was_read(items: ItemStore, pk: str) -> None:
    put(items, pk, "1", n=1, hours=frozenset({"a", "b"}))
    found = items.get(LEDGER, Key(pk, "1"))
    items.update(Update(table=LEDGER, key=Key(pk, "1"), add={"n": 1}, discard={"hours": frozenset({"a"})}))
    assert found == item(pk, "1", n=1, hours=frozenset({"a", "b"}))


@pytest.mark.parametrize(
    "value", ["x" * 300 * KIB, "\u20ac" * 100 * KIB, ["y" * KIB] * 300], ids=["text", "utf-8", "list"]
)
def test_an_item_of_three_hundred_kilobytes_comes_back(items: ItemStore, pk: str, value: Value) -> None:
    put(items, pk, "a", v=value)
    assert items.get(LEDGER, Key(pk, "a")) == item(pk, "a", v=value)


@pytest.mark.parametrize(
    "value", ["x" * 420 * KIB, "\u20ac" * 140 * KIB, ["y" * KIB] * 420], ids=["text", "utf-8", "list"]
)
def test_an_item_of_more_than_400_kilobytes_is_refused_and_not_written(items: ItemStore, pk: str, value: Value) -> None:
    put(items, pk, "a", n=1)
    with pytest.raises(ItemTooLargeError, match=pk):
        put(items, pk, "a", v=value)
    with pytest.raises(ItemTooLargeError, match=pk):
        items.update(Update(table=LEDGER, key=Key(pk, "a"), set={"v": value}))
    with pytest.raises(ItemTooLargeError):
        items.transact([Put(table=LEDGER, item=item(pk, "b")), Put(table=LEDGER, item=item(pk, "c", v=value))])
    assert list(items.query(LEDGER, pk)) == [item(pk, "a", n=1)]


def test_an_item_that_grows_beyond_400_kilobytes_is_refused_and_stays_as_it_was(items: ItemStore, pk: str) -> None:
    put(items, pk, "a", v="x" * 300 * KIB)
    grow = Update(table=LEDGER, key=Key(pk, "a"), set={"w": "x" * 150 * KIB})
    with pytest.raises(ItemTooLargeError):
        items.update(grow)
    with pytest.raises(ItemTooLargeError):
        items.transact([Put(table=LEDGER, item=item(pk, "b")), grow])
    assert list(items.query(LEDGER, pk)) == [item(pk, "a", v="x" * 300 * KIB)]
