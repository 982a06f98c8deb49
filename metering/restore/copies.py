"""Batches that only a staging object has, of which nothing says that they were accepted (P41.5e).

Such an object is of a commit that landed in the lost time, or of an attempt that never landed. Each batch is judged by
itself, because an attempt may contain batches that another commit has. A batch that is taken gets a new commit.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import ObjectMissingError
from metering.hours import hour_of, month_of
from metering.ledger import commits
from metering.ledger.markers import (
    ABSENT_OR_REJECTED,
    MarkerLine,
    conflict_key,
    encode_lines,
    marker_key,
)
from metering.quarantine.documents import decode_records, encode_records
from metering.restore.adoption import CHANGES, alias_of
from metering.stores.clock import in_blocks, side_by_side
from metering.stores.objects import held_key, refused_records_key, staging_key
from metering.stores.writes import Absent, AnyOf, Equals, Put, Table
from metering.usage.totals import Total, add_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from metering.intake.batches import RefusedRecord
    from metering.restore.adoption import Adoption
    from metering.restore.decision import AdoptableRows
    from metering.stores.clock import Entropy
    from metering.stores.writes import Action, Condition, Item, Key

_LOOKED_UP = 1_000
# A commit of retries writes an alias beside each marker, and a commit and a waiting entry of its own.
_BATCHES = (CHANGES - 2) // 2


@dataclass(slots=True, kw_only=True)
class Copied:
    """Result of `BatchCopies.run`.

    Attributes:
        batches: Batches that were accepted under a new commit.
        undecided: Ids with several contents of which nothing says which one was accepted.
    """

    batches: int = 0
    undecided: set[str] = field(default_factory=set)


class _Copy(NamedTuple):
    """A staging object that no commit names yet: its lines, and as they were in the object that it copies."""

    commit_id: str
    key: str
    now_ms: int
    lines: Sequence[MarkerLine]
    made: list[MarkerLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCopies:
    """Accepts the batches of staging objects that no commit of the new ledger has.

    Attributes:
        closed: Months that take no further rows.
    """

    adoption: Adoption
    rows: AdoptableRows
    entropy: Entropy
    closed: frozenset[str]

    def run(self, left: Sequence[str], tell: Callable[[str, int, int], None] = lambda *_: None) -> Copied:
        """Judge each batch of the objects, and copy those that were accepted as far as S3 can say.

        Args:
            left: Keys of the objects.
            tell: As for `Adoption.run`.

        Raises:
            OperationFailedError: Another restorer has opened the ledger.
            UnavailableError: A store does not respond; call again.
        """
        copied, contents = Copied(), dict[str, str]()
        # Of several attempts with one content, the first is taken: what came later can have less admitted records.
        decided: dict[str, int] = {}
        threads = self.adoption.threads
        for key, live in zip(
            left, side_by_side(lambda key: self._live(self._lines(key)), left, threads=threads), strict=True
        ):
            for line in live:
                batch_id, content = line.marker.batch_id, content_of(line)
                decided[key] = line.marker.decided_at_ms
                # A marker that said that another commit has it may have expired.
                expired = line.marker.expires_at_s <= self.adoption.clock.now_ms() // 1000
                if expired or contents.setdefault(batch_id, content) != content:
                    copied.undecided.add(batch_id)
        self._keep(left if copied.undecided else (), copied.undecided)
        in_order = sorted(left, key=lambda key: (decided.get(key, 0), key))
        # Transactions that check the same item at the same time cancel each other, so only what precedes is concurrent.
        made = side_by_side(lambda key: self._made(key, copied.undecided), in_order, threads=threads)
        for done, (key, (held, some)) in enumerate(zip(in_order, made, strict=True), start=1):
            if held:
                self._hold(key, held)
            copied.batches += sum(self._commit(key, each) for each in some)
            # Last, because nobody judges the batches of a commit that is known.
            for line in held:
                self.adoption.keep_refused(line.marker)
            tell("staging objects", done, len(left))
        return copied

    def _lines(self, key: str) -> list[MarkerLine]:
        try:
            return self.adoption.lines(key)
        except ObjectMissingError:
            # The old ledger's pass over orphans deleted it: its commit was fenced, and never landed.
            return []

    def _live(self, lines: Iterable[MarkerLine]) -> list[MarkerLine]:
        """Lines of batches that are not accepted yet, and whose content lost no conflict."""
        live: list[MarkerLine] = []
        for some in in_blocks(lines, _LOOKED_UP):
            keys = [key for line in some for key in _asked(line)]
            found = self.adoption.retrier.call(partial(self.adoption.items.get_many, Table.LEDGER, keys))
            for line in some:
                marker, *lost = _asked(line)
                # An alias that names this very retry is of its own torn transaction.
                others = [found[key] for key in lost if key in found]
                if not _is_accepted(found.get(marker, {})) and all(_names(each, line) for each in others):
                    live.append(line)
        return live

    def _made(self, key: str, undecided: Collection[str]) -> tuple[list[MarkerLine], list[_Copy]]:
        """Batches of an object that are to be held, and copies of all others that are to be accepted."""
        live = self._live(self._lines(key))
        held = [line for line in live if line.marker.batch_id in undecided]
        taken = [line for line in live if line.marker.batch_id not in undecided]
        return held, [self._copy(key, some) for some in in_blocks(taken, _BATCHES)]

    def _keep(self, keys: Iterable[str], undecided: Collection[str]) -> None:
        """Keep all contents of each undecided id before its marker: another restorer may know more, and decide."""
        objects, retrier = self.adoption.objects, self.adoption.retrier
        for key in keys:
            if any(line.marker.batch_id in undecided for line in self._lines(key)):
                with suppress(ObjectMissingError):
                    body = retrier.call(partial(objects.get, key))
                    kept = held_key(self.adoption.generation, key)
                    retrier.call(partial(objects.put, kept, body, if_absent=True))

    def _hold(self, key: str, lines: Sequence[MarkerLine]) -> None:
        """Put a marker that accepts nothing: what comes under the id is kept as unverified."""
        adoption = self.adoption
        for line in lines:
            held = replace(
                line.marker,
                content_hash=None,
                hash_version=0,
                commit_id="",
                records=0,
                metered=0,
                refused=0,
                hours={},
                quarantine_key=held_key(adoption.generation, key),
            )
            # Not by a restorer that is late, which may know less than the one that has taken over.
            if not adoption.changes.try_([Put(table=Table.LEDGER, item=held.to_item(), condition=ABSENT_OR_REJECTED)]):
                adoption.changes.check()

    def _copy(self, key: str, lines: Sequence[MarkerLine]) -> _Copy:
        """Write a staging object with some batches of another one."""
        adoption = self.adoption
        commit_id, now_ms = self.entropy.token(), adoption.clock.now_ms()
        new_key = staging_key(commit_id, now_ms // 1000)
        rebooked = self._rebooked(lines, hour_of(now_ms // 1000))
        names = frozenset(line.marker.batch_id for line in lines)
        refused_key = refused_records_key(commit_id, now_ms // 1000)
        refused = self._copy_refused(lines, names, refused_key)
        made = [_booked(line, commit_id, rebooked, refused_key if refused else "") for line in lines]
        body = self.rows.copied(key, names, rebooked=rebooked, markers=encode_lines(made))
        adoption.retrier.call(partial(adoption.objects.put, new_key, body, if_absent=True))
        return _Copy(commit_id, new_key, now_ms, lines, made)

    def _commit(self, key: str, copy: _Copy) -> int:
        """Commit a copy under its new id; returns the number of batches."""
        adoption = self.adoption
        while not adoption.changes.try_(self._actions(copy)):
            adoption.changes.check()
            # Another restorer has accepted some of them; its own retry is what a refused alias means.
            left = self._live(copy.lines)
            if not 0 < len(left) < len(copy.lines):
                return 0
            copy = self._copy(key, left)
        for line in copy.made:
            if line.retry_of:
                adoption.keep_original(line)
        return len(copy.made)

    def _copy_refused(self, lines: Iterable[MarkerLine], names: Collection[str], new_key: str) -> bool:
        """Copy the refused records of some batches; returns whether there are any.

        The pass over orphans deletes the object of the first commit, because that commit never landed (P32).
        """
        objects, retrier = self.adoption.objects, self.adoption.retrier
        refused: dict[str, tuple[RefusedRecord, ...]] = {}
        for key in sorted({line.marker.quarantine_key for line in lines if line.marker.refused} - {""}):
            with suppress(ObjectMissingError):
                for each in decode_records(retrier.call(partial(objects.get, key)), key):
                    if each.batch_id in names:
                        refused[each.batch_id] = (*refused.get(each.batch_id, ()), each.record)
        if refused:
            retrier.call(lambda: objects.put(new_key, encode_records(refused), if_absent=True))
        return bool(refused)

    def _rebooked(self, lines: Iterable[MarkerLine], now_hour_s: int) -> dict[int, int]:
        booked = {hour_s for line in lines for hour_s in line.marker.hours}
        return {hour_s: now_hour_s for hour_s in booked if month_of(hour_s) in self.closed}

    def _actions(self, copy: _Copy) -> list[Action]:
        commit_id, key, now_ms, _, lines = copy
        hours: dict[int, Total] = {}
        for line in lines:
            add_totals(hours, line.marker.hours)
        record = commits.CommitRecord(
            commit_id=commit_id,
            state="committed",
            shard=commits.shard_of(commit_id, self.adoption.shards),
            hours=tuple(sorted(hours)),
            staging_key=key,
            rows=sum(total.records for total in hours.values()),
            bytes=sum(total.bytes for total in hours.values()),
            created_at_ms=now_ms,
        )
        waiting = commits.Waiting(
            shard=record.shard,
            commit_id=commit_id,
            totals=hours,
            staging_key=key,
            created_at_ms=now_ms,
            sent_at_ms=min(line.sent_at_ms for line in lines),
        )
        aliases = [alias_of(line) for line in lines if line.retry_of]
        return [
            Put(table=Table.LEDGER, item=record.to_item(), condition=Absent()),
            Put(table=Table.LEDGER, item=waiting.to_item()),
            *(Put(table=Table.LEDGER, item=each.marker.to_item(), condition=ABSENT_OR_REJECTED) for each in lines),
            *(Put(table=Table.LEDGER, item=each.to_item(), condition=_absent_or(each.retry_id)) for each in aliases),
        ]


def _is_accepted(marker: Item) -> bool:
    """Whether a marker's batch is accepted, and not only held by this restore."""
    held = "hash" not in marker and "quarantine" in marker
    return marker.get("verdict") == "accepted" and not held


def content_of(line: MarkerLine) -> str:
    """Text that tells two contents of one id apart: the hash, or the totals of a batch of an earlier release.

    A copy that was sent later may have less admitted records.
    """
    marker = line.marker
    return f"{marker.content_hash} {marker.metered}" if marker.content_hash else str(sorted(marker.hours.items()))


def _absent_or(retry_id: str) -> Condition:
    return AnyOf((Absent(), Equals(attribute="retried_as", value=retry_id)))


def _names(alias: Item, line: MarkerLine) -> bool:
    return alias.get("retried_as") == line.marker.batch_id


def _asked(line: MarkerLine) -> list[Key]:
    """Keys of the batch's marker, and of what says that the content is metered elsewhere or lost a conflict."""
    marker = line.marker
    keys = [marker_key(marker.batch_id)]
    if marker.content_hash:
        keys.append(conflict_key(marker.batch_id, marker.content_hash))
        if line.retry_of:
            keys.append(alias_of(line).key)
    return keys


def _booked(line: MarkerLine, commit_id: str, rebooked: Mapping[int, int], refused_key: str) -> MarkerLine:
    hours: dict[int, Total] = {}
    for hour_s, total in line.marker.hours.items():
        add_totals(hours, {rebooked.get(hour_s, hour_s): total})
    key = refused_key if line.marker.refused and refused_key else line.marker.quarantine_key
    return replace(line, marker=replace(line.marker, commit_id=commit_id, hours=hours, quarantine_key=key))
