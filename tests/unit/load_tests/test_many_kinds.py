"""A region of many kinds: what is sent is what is claimed, and each account's items stay as narrow as they were."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from load_tests.wire import as_on_aws
from load_tests.wire.many_kinds import ManyKinds
from load_tests.wire.region import SEED, Load
from metering.intake.batches import DecodedBatch
from tests.support.reading import Desk

if TYPE_CHECKING:
    from metering.usage.totals import UsageKind

LOAD = Load(scenario="load", accounts=500, most_units=3.2, most_usd=None, kinds=20_000)
# Kinds that share a usage item (docs/decisions/0043-rollup.md).
BUCKET = 64


def kinds_of(many: ManyKinds) -> dict[str, set[UsageKind]]:
    found: dict[str, set[UsageKind]] = defaultdict(set)
    for key in many.all(SEED):
        found[key.account_id].add(key.kind)
    return found


def test_a_region_has_as_many_kinds_as_are_asked_for_and_an_account_one_bucket_of_them() -> None:
    assert LOAD.many is not None
    accounts = kinds_of(LOAD.many)
    assert len(accounts) == 500
    assert 20_000 <= len(set().union(*accounts.values())) < 20_100
    assert max(map(len, accounts.values())) <= BUCKET
    few = kinds_of(ManyKinds(kinds=20_000, accounts=10_000))
    assert max(map(len, few.values())) < min(map(len, accounts.values()))


def test_what_the_service_counts_is_what_was_sent_and_was_claimed() -> None:
    desk = Desk()
    now_s = desk.sent_at_ms // 1_000
    plain = Load(scenario="load", accounts=500, most_units=3.2, most_usd=None).shipments(30, now_s=now_s)
    assert LOAD.many is not None
    claimed = kinds_of(LOAD.many)
    for before, shipment in zip(plain, LOAD.shipments(30, now_s=now_s), strict=True):
        batch = desk.decoded(shipment.body)
        assert isinstance(batch, DecodedBatch)
        assert batch.refused == ()
        assert batch.usage == shipment.sent.totals
        assert len(batch.usage) == len(before.sent.totals)
        assert all(key.kind in claimed[key.account_id] for key in batch.usage)


def test_with_many_kinds_the_load_of_16_keys_is_measured_beside_itself() -> None:
    plain, many = as_on_aws._of_kinds(20_000, 500)
    assert plain in as_on_aws.LOADS
    assert (plain.kinds, many.kinds) == (0, 20_000)
    assert (many.scenario, many.accounts, many.most_units) == (plain.scenario, plain.accounts, plain.most_units)
    assert plain.many is None


def test_with_fewer_accounts_each_has_more_of_the_kinds() -> None:
    _, many = as_on_aws._of_kinds(20_000, 50)
    assert many.many is not None
    accounts = kinds_of(many.many)
    assert len(accounts) == 50
    assert {len(kinds) for kinds in accounts.values()} == {20 * 20 + 2}
    assert len(set().union(*accounts.values())) == 20_002
