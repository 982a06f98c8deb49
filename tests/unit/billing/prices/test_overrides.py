"""Overrides: written and read back, refused if they contradict each other."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from metering.billing.documents import DocumentRefusedError, canonical
from metering.billing.money import price_of
from metering.billing.prices.book import Override
from metering.billing.prices.store import override_problems, overrides_value, read_overrides
from metering.units import HOUR_S

PAYER = Override(payer="999988887777", percent_off=12_500, from_s=0, why="contract")
ACCOUNT = Override(account="111122223333", skus=frozenset({"AAAA1111"}), price=price_of("0.05"), from_s=0)


def test_overrides_are_read_as_they_were_written() -> None:
    every = (ACCOUNT, replace(PAYER, to_s=10 * HOUR_S), replace(PAYER, from_s=10 * HOUR_S, no_allowance=True))
    body = canonical(overrides_value(3, every))
    read = read_overrides(body, "it")
    assert set(read.overrides) == set(every)
    assert read.version == 3
    assert canonical(overrides_value(3, read.overrides)) == body


@pytest.mark.parametrize(("override", "told"), [
    (Override(percent_off=1), "it names one payer or one account"),
    (replace(PAYER, account="111122223333"), "it names one payer or one account"),
    (replace(PAYER, payer="99998888777"), "no account id of 12 digits"),
    (replace(PAYER, price=1), "either a price or a percentage"),
    (replace(PAYER, percent_off=None), "it changes nothing"),
    (replace(PAYER, percent_off=100_001), "a percentage lies from 0 to 100"),
    (replace(ACCOUNT, price=-1), "its price is negative"),
    (replace(PAYER, from_s=1), "full hours"),
    (replace(PAYER, to_s=0), "ends before it begins"),
])  # fmt: skip
def test_what_is_wrong_with_an_override_is_named(override: Override, told: str) -> None:
    assert told in "; ".join(override_problems([override]))


def test_two_of_one_rank_that_overlap_are_refused() -> None:
    later = replace(PAYER, from_s=10 * HOUR_S)
    assert "overlap" in override_problems([PAYER, later])[0]
    assert "overlap" in override_problems([PAYER, replace(later, skus=frozenset({"AAAA1111"}))])[0]
    assert override_problems([replace(PAYER, to_s=10 * HOUR_S), later]) == []
    assert override_problems([PAYER, replace(PAYER, payer="", account="999988887777")]) == []
    assert override_problems([replace(PAYER, skus=frozenset({"A"})), replace(PAYER, skus=frozenset({"B"}))]) == []


@pytest.mark.parametrize(("change", "told"), [
    ({"price": 0.05}, "valid string"),
    ({"price": "free"}, "'free' is not a price"),
    ({"percent_off": "120"}, "no percentage"),
    ({"from": "2026-11"}, "no full hour"),
    ({"because": "x"}, "extra inputs"),
])  # fmt: skip
def test_a_document_that_is_none_is_refused(change: dict[str, object], told: str) -> None:
    value = overrides_value(1, [PAYER])
    value["overrides"] = [{"payer": "999988887777", "from": "2026-11-01T00:00:00Z", "why": "", **change}]
    with pytest.raises(DocumentRefusedError, match=told):
        read_overrides(json.dumps(value).encode(), "it")
