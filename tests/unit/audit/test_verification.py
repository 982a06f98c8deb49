"""Parts of a verification, and verifications of several regions, add up without loss."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from metering.audit.verify.equality import judge_contents
from metering.audit.verify.expectations import SentContent
from metering.audit.verify.verification import MAX_DIFFERENCES, Difference, LogTotals, Verification, sum_verifications
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from metering.ledger.markers import Marker

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
    key = UsageKey(3_600, "1", "t", "s", "a", "b")
    content = SentContent(batch_id="b", rejected=False, records=1, metered=1, bytes=5, unaccounted={key: Total(5, 1)})
    markers = {"b": cast("Marker", SimpleNamespace(hours={3_600: Total(5, 1)}))}
    assert judge_contents({"b": content}, markers, []).lost == ("b",)
    assert judge_contents({"b": content}, markers, [3_600]).lost == ()
    content.found(key, Total(10, 2))
    assert judge_contents({"b": content}, markers, []).doubled == ("b",)
    assert judge_contents({"b": content}, markers, [3_600]).doubled == ()
