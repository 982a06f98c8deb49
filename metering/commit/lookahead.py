"""Lookahead: reads verdicts before a commit is attempted. It saves work; the transaction still decides.

One earlier verdict makes the ledger refuse the whole commit, which is then written anew with its object. At 1 % of
resent batches this hits most commits of a hundred batches. Reading a marker costs a fraction of writing it, but the
read is wasted where nothing is resent. So markers are read first only for messages that were received before, and for a
while after a commit was refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError, UnavailableError
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.commit.deduplication import Content
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item

# Number of looks in vain after which it stops looking.
_PERSISTENCE = 20


class VerdictLookahead:
    """Reads markers ahead of a commit when that is likely to pay.

    A plain class, because it remembers whether it paid lately.
    """

    def __init__(self, *, items: ItemStore) -> None:
        self._items = items
        self._looks_left = 0

    def met_earlier_verdicts(self) -> None:
        """Look first for a while, because a commit was refused for earlier verdicts."""
        self._looks_left = _PERSISTENCE

    def accepted_before(self, contents: Sequence[Content]) -> Mapping[str, Marker]:
        """Markers of accepted batches, by batch id. May omit some; the transaction still decides."""
        worth_it = contents if self._looks_left else [each for each in contents if each.delivery.receive_count > 1]
        if not worth_it:
            return {}
        try:
            items = self._items.get_many(Table.LEDGER, [marker_key(each.batch.batch_id) for each in worth_it])
        except UnavailableError:
            return {}
        markers = filter(None, map(_readable, items.values()))
        accepted = {marker.batch_id: marker for marker in markers if marker.verdict == "accepted"}
        self._looks_left = _PERSISTENCE if accepted else max(self._looks_left - 1, 0)
        return accepted


def _readable(item: Item) -> Marker | None:
    # The transaction meets the same marker, and its batch is put back then.
    try:
        return Marker.from_item(item)
    except LedgerCorruptError:
        return None
