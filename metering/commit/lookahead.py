"""Looking for verdicts before a commit is attempted: saves work, decides nothing that the transaction does not decide.

A commit that meets one earlier verdict is refused whole and written anew, object and all. At 1 % of resent batches that
is most commits of a hundred batches. Reading a marker costs a fraction of writing it, but where nothing is ever resent
it is wasted; so markers are read first for messages that were received before, and for a while after a commit was
refused.
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

# How many times it looks in vain before it stops.
_PERSISTENCE = 20


class VerdictLookahead:
    """Decides when to look, and looks."""

    def __init__(self, *, items: ItemStore) -> None:
        self._items = items
        self._looks_left = 0

    def met_earlier_verdicts(self) -> None:
        """A commit was refused because of them: look first for a while."""
        self._looks_left = _PERSISTENCE

    def accepted_before(self, contents: Sequence[Content]) -> Mapping[str, Marker]:
        """Markers of those batches that are known to be accepted, by batch id. May miss any."""
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
    # The transaction meets it as well, and its batch is put back then.
    try:
        return Marker.from_item(item)
    except LedgerCorruptError:
        return None
