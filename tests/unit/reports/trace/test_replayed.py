"""Every line of replayed accounts: its sums are equal, and its batches are those that were sent, to the byte."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from metering.usage.totals import Total, add_totals
from tests.support.lake_world import World, load_batches
from tests.support.usage_items import usage_of
from tests.unit.reports.trace.test_tracing import line, traced

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACCOUNTS = 2


def test_every_line_of_a_replayed_account_comes_down_to_what_was_sent() -> None:
    world, sent = World(), defaultdict[str, dict[str, Total]](dict)
    batches = list(load_batches(3_000))
    half = len(batches) // 2
    ids = world.send(*batches[:half])
    world.compact_all()
    ids += world.send(*batches[half:])
    for batch_id, records in zip(ids, batches, strict=True):
        for each in records:
            add_totals(sent[str(each["account_id"])], {batch_id: Total(int(each["bytes"]), 1)})
    for account in sorted(sent, key=lambda name: -len(sent[name]))[:_ACCOUNTS]:
        found = _batches_of_lines(world, account)
        assert found == sent[account]
        whole = traced(world, line(account=account), most=10_000)
        assert {batch.batch_id: batch.total for batch in whole.batches} == sent[account]


def _batches_of_lines(world: World, account: str) -> Mapping[str, Total]:
    """What all lines of an account have of each batch, after each was found equal."""
    found: dict[str, Total] = {}
    keys = {(each.key.usage_type, each.key.service, each.key.from_location, each.key.to_location)
            for each in usage_of(world.items) if each.key.account_id == account}  # fmt: skip
    assert keys
    for usage_type, service, from_location, to_location in sorted(keys):
        asked = line(
            account=account,
            usage_type=usage_type,
            service=service,
            from_location=from_location,
            to_location=to_location,
        )
        trace = traced(world, asked, most=10_000)
        assert trace.equal
        assert trace.usage == trace.rows == trace.markers
        for batch in trace.batches:
            add_totals(found, {batch.batch_id: batch.total})
    return found
