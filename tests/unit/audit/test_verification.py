"""Parts of a verification, and verifications of several regions, add up without loss."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from metering.audit.settling import fingerprint
from metering.audit.verification import (
    MAX_DIFFERENCES,
    Difference,
    LogTotals,
    SentBatch,
    SentBatches,
    SentContent,
    Verification,
    sum_verifications,
)
from metering.audit.verifier import judge_contents
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.ledger.markers import Marker


def key_to(place: str) -> UsageKey:
    return UsageKey(3_600, "1", UsageType("t"), Service("s"), "a", place)


def sent(totals: Mapping[UsageKey, Total]) -> SentContent:
    all_of_it = sum_totals(totals.values())
    return SentContent(
        batch_id="b",
        rejected=False,
        records=all_of_it.records,
        metered=all_of_it.records,
        bytes=all_of_it.bytes,
        unaccounted=fingerprint(totals.items()),
    )


DIFFERENCE = Difference(between="markers/rows", hour_s=3_600, batch_id="a", expected=Total(2, 1), found=ZERO)
FULL = Verification(
    stable=False,
    sent=1,
    accepted=2,
    duplicate=3,
    conflict=4,
    rejected=5,
    in_flight=6,
    dead=7,
    lost=("a",),
    doubled=("b",),
    unexpected=(("c", "wrong"),),
    differences=(DIFFERENCE,),
    unstable=(7_200,),
    keys=8,
    metered=Total(9, 1),
    promised=Total(10, 2),
    proven=Total(11, 3),
    logs=LogTotals(
        plans=1,
        lines=2,
        metered_bytes=3,
        accepted_bytes=4,
        refused_bytes=5,
        differences=(("d", "wrong"),),
        left_out=True,
    ),
)


def test_a_sum_with_nothing_is_the_same_so_no_field_is_forgotten() -> None:
    assert all(getattr(FULL, field.name) != field.default for field in fields(Verification))
    assert all(getattr(FULL.logs, field.name) != field.default for field in fields(LogTotals))
    assert sum_verifications([Verification(), FULL]) == sum_verifications([FULL, Verification()]) == FULL


def test_counts_and_names_add_up_and_unstable_hours_are_named_once_in_order() -> None:
    other = Verification(accepted=3, lost=("z", "a"), unstable=(3_600, 7_200), metered=Total(2**63, 5))
    total = sum_verifications([FULL, other])
    assert (total.accepted, total.lost, total.unstable) == (5, ("a", "z", "a"), (3_600, 7_200))
    assert total.metered == Total(2**63 + 9, 6)
    assert not total.stable


def test_of_very_many_differences_the_first_are_kept() -> None:
    many = Verification(differences=(DIFFERENCE,) * (MAX_DIFFERENCES - 1))
    last = Verification(differences=(DIFFERENCE, *many.differences))
    assert sum_verifications([many, last]).differences == (DIFFERENCE,) * MAX_DIFFERENCES


def test_a_batch_with_records_in_an_hour_that_moves_is_judged_by_nobody() -> None:
    key = UsageKey(3_600, "1", UsageType("t"), Service("s"), "a", "b")
    content = sent({key: Total(5, 1)})
    markers = {"b": cast("Marker", SimpleNamespace(hours={3_600: Total(5, 1)}))}
    assert judge_contents({"b": content}, markers, []).lost == ("b",)
    assert judge_contents({"b": content}, markers, [3_600]).lost == ()
    content.unaccounted.add(key, Total(-10, -2))
    assert judge_contents({"b": content}, markers, []).doubled == ("b",)
    assert judge_contents({"b": content}, markers, [3_600]).doubled == ()


@pytest.mark.parametrize(("found", "lost", "doubled"), [
    ({}, True, False),
    ({"a": Total(5, 1), "b": Total(7, 1)}, False, False),
    ({"a": Total(5, 1)}, True, False),
    ({"a": Total(10, 2), "b": Total(7, 1)}, False, True),
    ({"a": Total(5, 2), "b": Total(6, 1)}, True, True),
    ({"a": Total(7, 1), "b": Total(5, 1)}, True, True),
    ({"a": Total(5, 1), "c": Total(7, 1)}, True, True),
], ids=["nothing", "all", "one", "one twice", "bytes fewer, records more", "two exchanged", "another key"])  # fmt: skip
def test_what_is_visible_of_a_batch_is_what_was_sent_key_by_key(
    found: dict[str, Total], lost: bool, doubled: bool
) -> None:
    content = sent({key_to("a"): Total(5, 1), key_to("b"): Total(7, 1)})
    for name, total in found.items():
        content.unaccounted.add(key_to(name), ZERO.minus(total))
    markers = {"b": cast("Marker", SimpleNamespace(hours={3_600: Total(12, 2)}))}
    judged = judge_contents({"b": content}, markers, [])
    assert (bool(judged.lost), bool(judged.doubled)) == (lost, doubled)


def held_bytes(*, keys: int) -> int:
    """Bytes that a manifest of 300 batches takes."""

    def lines() -> Iterator[SentBatch]:
        for number in range(300):
            totals = {
                UsageKey(3_600 + number, f"{number}", UsageType("t"), Service("s"), "a", f"to-{n}"): Total(n, 1)
                for n in range(keys)
            }
            yield SentBatch(batch_id=f"b-{number}", records=keys, metered=keys, totals=totals)

    tracemalloc.start()
    try:
        held = SentBatches.collect(lines())
        assert len(held.contents) == 300
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_manifest_takes_as_much_memory_with_many_usage_keys_a_batch_as_with_one() -> None:
    assert held_bytes(keys=60) < 1.2 * held_bytes(keys=1)
