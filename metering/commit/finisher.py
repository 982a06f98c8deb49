"""The finisher: applies what is left of a wide commit. Any number of processes may do so at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.commit.write_ahead import WriteAhead
from metering.errors import LedgerCorruptError, ObjectMissingError, TransactionCanceledError, UnavailableError
from metering.ledger.commits import CommitRecord, commit_key
from metering.stores.bucket import wal_key
from metering.stores.writes import DYNAMODB_LIMITS, AllOf, Equals, Table, Update

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """An open commit as it was last seen: chunk `next_chunk` is to be applied."""

    ahead: WriteAhead
    next_chunk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finisher:
    """Finishes open commits.

    Attributes:
        chunk_actions: Most actions of a chunk; the same number for all processes of a region.
    """

    items: ItemStore
    objects: ObjectStore
    retrier: Retrier
    chunk_actions: int = DYNAMODB_LIMITS.chunk

    def finish(self, commit_id: str, *, opened: WriteAhead | None = None) -> None:
        """Apply the chunks that are left, if the commit is open; afterwards it is not open any more.

        Args:
            commit_id: Any commit; one that is not open is left as it is.
            opened: What was just written ahead, by the process that just opened the commit: it need not read it again.

        Raises:
            UnavailableError: It may still be open; whoever comes next goes on.
            LedgerCorruptError: It is open, and what was written ahead is gone or is not its own.
        """
        work = self._look(commit_id, None) if opened is None else _Work(ahead=opened, next_chunk=0)
        failures = 0
        while work is not None:
            if self._apply(commit_id, work):
                failures = 0
                last = work.next_chunk + 1 == work.ahead.chunks
                work = None if last else replace(work, next_chunk=work.next_chunk + 1)
                continue
            seen = self._look(commit_id, work.ahead)
            failures = failures + 1 if seen is not None and seen.next_chunk == work.next_chunk else 0
            if failures >= self.retrier.attempts:
                raise UnavailableError("finish", f"commit {commit_id} stays open")
            if failures:
                self.retrier.pause(failures)
            work = seen

    def _look(self, commit_id: str, ahead: WriteAhead | None) -> _Work | None:
        record = self._open(commit_id)
        if record is None:
            return None
        ahead = ahead or self._read(record)
        return None if ahead is None else _Work(ahead=ahead, next_chunk=record.next_chunk)

    def _open(self, commit_id: str) -> CommitRecord | None:
        item = self.retrier.call(lambda: self.items.get(Table.LEDGER, commit_key(commit_id)))
        record = None if item is None else CommitRecord.from_item(item)
        return record if record is not None and record.state == "open" else None

    def _read(self, record: CommitRecord) -> WriteAhead | None:
        key = wal_key(record.staging_key)
        try:
            body = self.retrier.call(lambda: self.objects.get(key))
        except ObjectMissingError as error:
            # We may be days late: finished and cleaned by others since the item was read.
            if self._open(record.commit_id) is None:
                return None
            raise LedgerCorruptError(f"commit {record.commit_id} is open, and {key} is missing") from error
        ahead = WriteAhead.decode(body, key, chunk_actions=self.chunk_actions)
        if ahead.commit_id != record.commit_id or ahead.chunks != record.chunks:
            raise LedgerCorruptError(f"{key} is not what commit {record.commit_id} was opened with")
        return ahead

    def _apply(self, commit_id: str, work: _Work) -> bool:
        """T-CHUNK. True only if this call applied it for sure."""
        number = work.next_chunk
        step = Update(
            table=Table.LEDGER,
            key=commit_key(commit_id),
            set={"next": number + 1} | ({"state": "applied"} if number + 1 == work.ahead.chunks else {}),
            condition=AllOf((Equals(attribute="state", value="open"), Equals(attribute="next", value=number))),
        )
        try:
            self.items.transact([step, *work.ahead.chunk(number)])
        except (TransactionCanceledError, UnavailableError):
            return False
        return True
