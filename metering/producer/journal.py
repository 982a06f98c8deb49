"""Journal of a producer: its keys, the batches not yet confirmed as sent, and records that wait for a batch to fill.

The journal is an SQLite file. Each change is one transaction, synced to disk before the call returns. After a process
is killed, or a machine loses power, the journal therefore has either all batches of a key with their numbers, or none.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from metering.producer.batches import (
    Batch,
    JournalError,
    Line,
    Packed,
    batch_id,
    filled,
    packed_batch_id,
    split,
)
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE = "journal.sqlite"
# A journal with records that wait for a batch is of another form, because earlier releases do not know such records.
_PLAIN_FORM, _FILLING_FORM = "1", "2"
# The keys of this many batches are kept, whatever a clock says.
_KEPT_BATCHES = 200
# If another process holds the journal for longer than this, the journal counts as taken.
_WAIT_S = 1.0
# Maximum number of batches read at once, which is the number of messages per SendMessageBatch and limits memory.
_GROUP = 10
_GROUP_BYTES = 8 * MIB
# After a checkpoint, the write-ahead file is truncated to this size.
_KEPT_LOG_BYTES = 16 * MIB
# One process holds the file until the process closes it or ends. Every transaction is synced before its call returns.
_SETTINGS = (
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=ON",
    f"journal_size_limit={_KEPT_LOG_BYTES}",
)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, digest TEXT NOT NULL, first INTEGER NOT NULL,"
    " batches INTEGER NOT NULL, records INTEGER NOT NULL, at_s INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS unsent (sequence INTEGER PRIMARY KEY, batch_id TEXT NOT NULL,"
    " records INTEGER NOT NULL, inline INTEGER NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS waiting (position INTEGER PRIMARY KEY, key TEXT NOT NULL, number INTEGER NOT NULL,"
    " line BLOB NOT NULL, crc INTEGER NOT NULL, at_s INTEGER NOT NULL)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Batches and records of a key.

    Attributes:
        digest: SHA-256 (hex) of the key's records as lines; those that share batches have another one.
        first: Sequence number of the key's first batch.
        batches: Number of the key's batches, whose sequence numbers have no gap. They may be shared.
    """

    digest: str
    first: int
    batches: int
    records: int


class Journal:
    """Journal in a folder, used by one process at a time. Threads must take turns.

    Args:
        folder: Folder of the journal, created if missing, readable only by its owner. None for a temporary journal,
            which holds the records of one call outside memory and ends with its process.
        source_id: Source whose batches the journal numbers; a journal always belongs to the same source.
        name: Name of the producer, the prefix of its batch ids.
        first_sequence: Number of the first batch of a new journal.

    Raises:
        JournalError: The journal cannot be created or read, is used by another process, or belongs to another source.
    """

    def __init__(self, folder: Path | None, *, source_id: str, name: str, first_sequence: int) -> None:
        self._name = name
        self._folder = folder
        self._place = "of this call" if folder is None else str(folder / FILE)
        self._database = self._open()
        try:
            self._begin(source_id, first_sequence)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the journal. A second call has no effect."""
        self._database.close()

    def find(self, key: str) -> Promise | None:
        """The journal's entry for a key; None if the key has no entry."""
        with self._explained():
            row = self._database.execute(
                "SELECT digest, first, batches, records FROM keys WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else Promise(digest=row[0], first=row[1], batches=row[2], records=row[3])

    def promise(self, key: str, packed: Iterable[Packed], digest: LineDigest, *, now_s: int) -> Promise:
        """Number a new key's batches, and store either all of them or none. The batches are on disk when this returns.

        Args:
            key: A key without an entry in the journal.
            packed: The key's batches, created while written. An error in `packed` leaves the journal unchanged.
            digest: Digest of the lines, complete once `packed` is exhausted.
            now_s: Current time, epoch seconds.
        """
        with self._explained(), self._transaction():
            first, count, records = self.next_sequence, 0, 0
            for part, each in enumerate(packed):
                self._number(first + part, batch_id(self._name, key, part), each)
                count, records = count + 1, records + each.records
            promise = Promise(digest=digest.hex(), first=first, batches=count, records=records)
            self._remember(key, promise, now_s)
            self._note("next_sequence", str(first + count))
        return promise

    def add(self, key: str, lines: Iterable[bytes], digest: LineDigest, *, now_s: int) -> None:
        """Store the lines of a new key for batches that keys share, in one transaction, and number the full batches.

        The arguments are those of `promise`. The lines are on disk when this returns.
        """
        with self._explained(), self._transaction():
            first, records = self.next_sequence, 0
            for number, line in enumerate(lines):
                self._database.execute(
                    "INSERT INTO waiting (key, number, line, crc, at_s) VALUES (?, ?, ?, ?, ?)",
                    (key, number, line, crc32(line), now_s),
                )
                records += 1
            self._fill(only_full=True)
            # What waits now are the key's own last lines, and they go into the next batch.
            batches = self.next_sequence - first + self._waits if records else 0
            promise = Promise(digest=digest.hex(), first=first, batches=batches, records=records)
            self._remember(key, promise, now_s)

    def fill(self, *, since: tuple[int, int] | None = None) -> None:
        """Number a batch of the lines that wait for one.

        Args:
            since: Do nothing if the oldest line was stored between these times, epoch seconds.
        """
        with self._explained(), self._transaction():
            oldest = self._database.execute("SELECT at_s FROM waiting ORDER BY position LIMIT 1").fetchone()
            if oldest is not None and (since is None or not since[0] < oldest[0] <= since[1]):
                self._fill(only_full=False)

    def _fill(self, *, only_full: bool) -> None:
        """Number batches of the waiting lines, inside a transaction."""
        taken = 0
        rows = self._database.execute("SELECT key, number, line, crc FROM waiting ORDER BY position")
        for group, full in filled(map(self._line, rows)):
            if full or not only_full:
                sequence = self.next_sequence
                [packed] = split(line.text for line in group)
                self._number(sequence, packed_batch_id(self._name, group), packed)
                self._note("next_sequence", str(sequence + 1))
                taken += len(group)
        rows.close()
        self._database.execute(
            "DELETE FROM waiting WHERE position IN (SELECT position FROM waiting ORDER BY position LIMIT ?)", (taken,)
        )
        self._note("version", _FILLING_FORM if self._waits else _PLAIN_FORM)

    def _line(self, row: tuple[str, int, bytes, int]) -> Line:
        if crc32(row[2]) != row[3]:
            raise JournalError(f"A record of the key {row[0]!r} in the journal {self._place} is damaged.", _DAMAGED)
        return Line(key=row[0], number=row[1], text=row[2])

    def _number(self, sequence: int, name: str, packed: Packed) -> None:
        self._database.execute(
            "INSERT INTO unsent VALUES (?, ?, ?, ?, ?, ?)",
            (sequence, name, packed.records, packed.inline, packed.payload, crc32(packed.payload)),
        )

    def _remember(self, key: str, promise: Promise, now_s: int) -> None:
        self._database.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)",
            (key, promise.digest, promise.first, promise.batches, promise.records, now_s),
        )

    @property
    def _waits(self) -> bool:
        """Whether lines wait for a batch."""
        return bool(self._database.execute("SELECT EXISTS (SELECT 1 FROM waiting)").fetchone()[0])

    def unsent(self) -> list[Batch]:
        """The next batches not confirmed as sent, in order: at most ten, and limited in bytes.

        Raises:
            JournalError: A batch differs from its stored digest.
        """
        group: list[Batch] = []
        size_bytes = 0
        with self._explained():
            rows = self._database.execute(
                "SELECT batch_id, sequence, records, inline, payload, crc FROM unsent ORDER BY sequence LIMIT ?",
                (_GROUP,),
            )
            for row in rows:
                if crc32(row[4]) != row[5]:
                    raise JournalError(f"Batch {row[0]} in the journal {self._place} is damaged.", _DAMAGED)
                group.append(
                    Batch(batch_id=row[0], sequence=row[1], records=row[2], inline=bool(row[3]), payload=row[4])
                )
                size_bytes += len(row[4])
                if size_bytes >= _GROUP_BYTES:
                    break
            rows.close()
        return group

    def count_unsent(self) -> int:
        """Number of batches that are not confirmed as sent, with the one that is being filled."""
        with self._explained():
            return int(self._database.execute("SELECT COUNT(*) FROM unsent").fetchone()[0]) + self._waits

    def sent(self, batches: Iterable[Batch]) -> None:
        """Delete batches that the queue has accepted. Their keys stay."""
        with self._explained(), self._transaction():
            self._database.executemany("DELETE FROM unsent WHERE sequence = ?", [(each.sequence,) for each in batches])

    def forget_keys(self, *, before_s: int) -> int:
        """Delete keys that were journalled before this time and sent completely; return the number of deleted keys.

        Those of the newest batches stay, whatever a clock says: a key of `add` that comes again would count twice.
        """
        with self._explained(), self._transaction():
            return self._database.execute(
                "DELETE FROM keys WHERE at_s < ?1 AND first + batches <="
                " MIN(COALESCE((SELECT MIN(sequence) FROM unsent), ?2), ?2)",
                (before_s, self.next_sequence - _KEPT_BATCHES),
            ).rowcount

    @property
    def next_sequence(self) -> int:
        with self._explained():
            return int(self._about("next_sequence") or 0)

    def _open(self) -> sqlite3.Connection:
        path: str | Path = ""
        try:
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                path = self._folder / FILE
            return sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"The journal {self._place} cannot be opened: {error}.", _LOOK) from error

    def _begin(self, source_id: str, first_sequence: int) -> None:
        with self._explained():
            for setting in _SETTINGS:
                self._database.execute(f"PRAGMA {setting}").fetchall()
            with self._transaction():
                for table in _TABLES:
                    self._database.execute(table)
                if self._about("version") is None:
                    self._note("version", _PLAIN_FORM)
                    self._note("source_id", source_id)
                    self._note("name", self._name)
                    self._note("next_sequence", str(first_sequence))
            if self._folder is not None:
                _sync_folder(self._folder)
        self._refuse_others(source_id)

    def _refuse_others(self, source_id: str) -> None:
        if (version := self._about("version")) not in {_PLAIN_FORM, _FILLING_FORM}:
            raise JournalError(
                f"The journal {self._place} is of form {version}, and this version of metering knows {_FILLING_FORM}.",
                "Use the newer version that wrote it.",
            )
        for what, asked in (("source_id", source_id), ("name", self._name)):
            if (found := self._about(what)) != asked:
                raise JournalError(
                    f"The journal {self._place} is of {what} {found!r}, not {asked!r}.",
                    "Give each source a folder of its own. Numbers of two sources in one journal would have gaps.",
                )

    def _about(self, name: str) -> str | None:
        row = self._database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _note(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            # After a full disk, SQLite has already rolled the transaction back.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise JournalError(
                    f"Another process, or another Producer of this one, uses the journal {self._place}.",
                    "Wait until it has ended, or give each its own source id and folder.",
                ) from error
            raise JournalError(f"The journal {self._place} cannot be used: {error}.", _LOOK) from error
        except sqlite3.Error as error:
            raise JournalError(f"The journal {self._place} cannot be used: {error}.", _LOOK) from error


# SQLite detects a malformed page, but not a changed digit in a page.
_DAMAGED = (
    "It is not what was written, and is not sent. Treat the journal as lost (docs/producers.md): begin another one, "
    "with another source id, and send the keys again; each is counted once. That is not so of keys that share batches."
)
_LOOK = "Look at the folder, its owner, and the room on its disk. What was not journalled was not sent."


class LineDigest:
    """Digest of the lines that are passed through this object; `shared` if they share batches with those of others."""

    def __init__(self, *, shared: bool = False) -> None:
        self._digest = hashlib.sha256(b"shared\n" if shared else b"")

    def through(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines unchanged, and add each to the digest."""
        for line in lines:
            self._digest.update(line + b"\n")
            yield line

    def hex(self) -> str:
        """Digest of the lines yielded so far."""
        return self._digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Sync a new file's directory entry to disk; no effect on systems where folders cannot be opened."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
