"""Wide commits of format 1: their usage was written ahead into an object, and applied chunk by chunk.

One that is open when the workers are out is finished as 0.1.0 finished it. A chunk and the step of its number on the
commit are one transaction, so any number of processes may do so at once, and what was applied is never applied again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ledger import partitions
from metering.ledger.booked_hours import Pointer, pending_commit_of, pending_in
from metering.ledger.commits import commit_key
from metering.ledger.shards import known_shards
from metering.stores.fields import Fields
from metering.stores.writes import AllOf, Equals, Key, Put, Table, Update
from metering.upgrade.usage_items import usage_add_before
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Item

_SCHEMA = "metering.wal/1"
_POINTER_COLUMNS = ("hour_s", "shard", "rows", "bytes", "staging")
# The commit's own step takes one of the 100 actions of a transaction.
CHUNK_ACTIONS = 99
_COMMITS_A_READ = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCommit:
    """A wide commit with chunks that are not applied yet: `next_chunk` is the first of them."""

    commit_id: str
    next_chunk: int
    chunks: int
    staging_key: str

    @property
    def ahead_key(self) -> str:
        """Key of the object that was written ahead."""
        return self.staging_key.removesuffix(".parquet") + ".wal"


@dataclass(frozen=True, slots=True, kw_only=True)
class WideCommits:
    """Finishes wide commits.

    Attributes:
        shards: The stage's number of shards.
        chunk_actions: Most actions of a chunk: what the workers of format 1 had.
    """

    items: ItemStore
    objects: ObjectStore
    retrier: Retrier
    shards: int
    chunk_actions: int = CHUNK_ACTIONS

    def finish(self) -> int:
        """Finish all that are open; returns how many were.

        Raises:
            LedgerCorruptError: One is open, and what was written ahead is gone or is not its own.
            UnavailableError: The ledger gives no answer; whoever comes next goes on.
        """
        found = self.retrier.call(self.open_commits)
        for commit in found:
            self._finish(commit)
        return len(found)

    def open_commits(self) -> list[OpenCommit]:
        """Those that are open. Each has an entry among the pending ones, which no run may take before it is applied."""
        wide = [
            commit_key(pending_commit_of(item))
            for shard in known_shards(self.items, self.shards)
            for item in pending_in(self.items, shard)
            if item.get("wide") is True
        ]
        blocks = (wide[at : at + _COMMITS_A_READ] for at in range(0, len(wide), _COMMITS_A_READ))
        found = [item for block in blocks for item in self.items.get_many(Table.LEDGER, block).values()]
        return [commit for item in found if (commit := _open(item)) is not None]

    def _finish(self, commit: OpenCommit) -> None:
        chunks = self._chunks(commit)
        seen: OpenCommit | None = commit
        failures = 0
        while seen is not None:
            try:
                self.items.transact([_step(seen), *chunks[seen.next_chunk]])
            except (TransactionCanceledError, UnavailableError):
                failures += 1
            after = self.retrier.call(lambda: self._look(commit.commit_id))
            failures = failures if after == seen else 0
            if failures >= self.retrier.attempts:
                raise UnavailableError("finish", f"commit {commit.commit_id} stays open")
            if failures:
                self.retrier.pause(failures)
            seen = after

    def _look(self, commit_id: str) -> OpenCommit | None:
        item = self.items.get(Table.LEDGER, commit_key(commit_id))
        return None if item is None else _open(item)

    def _chunks(self, commit: OpenCommit) -> list[list[Put | Update]]:
        key = commit.ahead_key
        document = Fields.of_json(self.retrier.call(lambda: self.objects.get(key)), key)
        document.one_of("schema", (_SCHEMA,))
        actions: list[Put | Update] = [
            *_pointers(document, commit.commit_id),
            *(_delta(row) for row in document.rows("deltas", ("pk", "sk", "hours"))),
        ]
        chunks = [actions[at : at + self.chunk_actions] for at in range(0, len(actions), self.chunk_actions)]
        if document.text("commit_id") != commit.commit_id or len(chunks) != commit.chunks:
            raise LedgerCorruptError(f"{key} is not what commit {commit.commit_id} was opened with")
        return chunks


def _open(item: Item) -> OpenCommit | None:
    if item.get("state") != "open":
        return None
    fields = Fields.of_item(item)
    return OpenCommit(
        commit_id=fields.after("pk", partitions.COMMIT),
        next_chunk=fields.whole("next"),
        chunks=fields.whole("chunks", least=1),
        staging_key=fields.text("staging"),
    )


def _step(commit: OpenCommit) -> Update:
    """The commit's own step of a chunk: it is refused if the chunk was applied."""
    number = commit.next_chunk
    return Update(
        table=Table.LEDGER,
        key=commit_key(commit.commit_id),
        set={"next": number + 1} | ({"state": "applied"} if number + 1 == commit.chunks else {}),
        condition=AllOf((Equals(attribute="state", value="open"), Equals(attribute="next", value=number))),
    )


def _pointers(document: Fields, commit_id: str) -> Iterator[Put]:
    for row in document.rows("pointers", _POINTER_COLUMNS):
        pointer = Pointer(
            hour_s=row.whole("hour_s"),
            commit_id=commit_id,
            shard=row.whole("shard"),
            rows=row.whole("rows"),
            bytes=row.decimal("bytes"),
            staging_key=row.text("staging"),
        )
        yield Put(table=Table.LEDGER, item=pointer.to_item())


def _delta(row: Fields) -> Update:
    hours = {
        each.whole("hour_s"): Total(each.decimal("bytes"), each.whole("records"))
        for each in row.rows("hours", ("hour_s", "bytes", "records"))
    }
    key = Key(row.text("pk"), row.text("sk"))
    return Update(table=Table.USAGE_BEFORE, key=key, add=usage_add_before(hours))
