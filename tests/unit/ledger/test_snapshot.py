"""What verification takes from the ledger: markers, conflicts, open commits; notes of retries are neither."""

from __future__ import annotations

from metering.adapters.memory.items import MemoryItemStore
from metering.ledger.conflicts import Conflict
from metering.ledger.retries import RetryNote
from metering.ledger.snapshot import read_ledger
from metering.stores.writes import Put, Table


def test_the_note_of_a_retry_is_no_conflict() -> None:
    items = MemoryItemStore()
    note = RetryNote(batch_id="b1", retry_id="retry:ff", positions=(1,), expires_at_s=9)
    conflict = Conflict(
        batch_id="b2",
        content_hash="ee",
        hash_version=1,
        quarantine_key="q",
        sender_id="a",
        first_sender_id="b",
        records=1,
    )
    for item in (note.to_item(), conflict.to_item()):
        items.put(Put(table=Table.LEDGER, item=item))
    facts = read_ledger(items)
    assert facts.conflicts == {"b2": {"ee"}}
    assert facts.markers == {}
