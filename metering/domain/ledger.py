"""The ledger's items: their keys, their attributes, and back again.

One dataclass an item kind; docs/decisions/0004-ledger-keys.md lists all kinds. `to_item` and `from_item` are inverse,
and `from_item` takes nothing but what `to_item` writes: anything else is a `LedgerCorruptError` that names the item.
What may be written when, and on which condition, is the use cases' business.

| item      | pk              | sk               |
|-----------|-----------------|------------------|
| marker    | `B#<batch_id>`  | `M`              |
| conflict  | `B#<batch_id>`  | `X#<hash>`       |
| commit    | `C#<commit_id>` | `C`              |
| pending   | `P#<shard>`     | `<commit_id>`    |
| published | `H#<hour>`      | `1#<shard>#<n>`  |
| pointer   | `H#<hour>`      | `2#<commit_id>`  |
| run       | `R#<shard>`     | `<n>`, 12 digits |
| period    | `T#<month>`     | `T`              |

Others are beside what they are about: aliases and notes of retries (`A#…`, `N#…` of a batch) in
`metering.domain.retries`, `S#shards` in `metering.domain.shards`, regions in `metering.domain.regions`, and what is
kept for people and alarms (`W#…`) in `watch_items`, `queue_memory` and `source_items`. The usage table's items are in
`metering.domain.usage_items`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.domain.fields import Fields
from metering.domain.hours import hour_label
from metering.domain.items import Key
from metering.domain.lake import Source
from metering.domain.usage import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.domain.items import Item, Value

Verdict = Literal["accepted", "rejected"]
CommitState = Literal["open", "applied", "aborted"]
RunState = Literal["planned", "done"]
PeriodState = Literal["closing", "closed"]

_VERDICTS: tuple[Verdict, ...] = ("accepted", "rejected")
_COMMIT_STATES: tuple[CommitState, ...] = ("open", "applied", "aborted")
_RUN_STATES: tuple[RunState, ...] = ("planned", "done")
_PERIOD_STATES: tuple[PeriodState, ...] = ("closing", "closed")

PUBLISHED_PREFIX = "1#"
POINTER_PREFIX = "2#"
# Where those end: the next character after `#`.
AFTER_PUBLISHED = "1$"
AFTER_POINTERS = "2$"


def marker_key(batch_id: str) -> Key:
    """Key of a batch's marker."""
    return Key(f"B#{batch_id}", "M")


def conflict_key(batch_id: str, content_hash: str) -> Key:
    """Key of the proof that other content came under an id."""
    return Key(f"B#{batch_id}", f"X#{content_hash}")


def commit_key(commit_id: str) -> Key:
    """Key of a commit."""
    return Key(f"C#{commit_id}", "C")


def pending_key(shard: int, commit_id: str) -> Key:
    """Key of a commit's list of hours that no run has taken."""
    return Key(f"P#{shard}", commit_id)


def pointer_key(hour_s: int, commit_id: str) -> Key:
    """Key of an hour's pointer to a commit."""
    return Key(f"H#{hour_label(hour_s)}", f"{POINTER_PREFIX}{commit_id}")


def pointed_to(item: Item) -> str:
    """The staging object that a pointer names."""
    return Fields.of_item(item).text("staging")


def published_key(hour_s: int, shard: int, run: int) -> Key:
    """Key of what a run published in an hour."""
    return Key(f"H#{hour_label(hour_s)}", f"{PUBLISHED_PREFIX}{run_name(shard, run)}")


def run_key(shard: int, run: int) -> Key:
    """Key of a shard's run number `run`."""
    return Key(f"R#{shard}", f"{run:012d}")


def run_name(shard: int, run: int) -> str:
    """`<shard>#<n>`: how a pointer names the run that took it, and a published hour the run that wrote it."""
    return f"{shard}#{run:012d}"


def period_key(month: str) -> Key:
    """Key of a billing month."""
    return Key(f"T#{month}", "T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A batch's one verdict: the fact that totals are derived from.

    Attributes:
        content_hash: Hex; None after `rebuild markers`, which cannot know it.
        records, metered, refused: Numbers of records; `records = metered + refused` if accepted.
        hours: Rows and bytes of each booked hour; empty if rejected.
        reason: Why it was rejected, else empty.
        quarantine_key: Where refused content lies, else empty.
    """

    batch_id: str
    verdict: Verdict
    content_hash: str | None
    hash_version: int
    commit_id: str
    source_id: str
    sequence: int | None
    sender_id: str
    records: int
    metered: int
    refused: int
    hours: Mapping[int, Total]
    decided_at_ms: int
    expires_at_s: int
    reason: str = ""
    quarantine_key: str = ""

    @property
    def key(self) -> Key:
        return marker_key(self.batch_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **_named(self.key),
            "verdict": self.verdict,
            "hash_version": self.hash_version,
            "sender": self.sender_id,
            "records": self.records,
            "metered": self.metered,
            "refused": self.refused,
            "decided_at_ms": self.decided_at_ms,
            "expires_at": self.expires_at_s,
        }
        if self.content_hash is not None:
            item["hash"] = self.content_hash
        if self.commit_id:
            item["commit_id"] = self.commit_id
        if self.source_id:
            item["source"] = self.source_id
        if self.sequence is not None:
            item["sequence"] = self.sequence
        if self.hours or self.verdict == "accepted":
            item["hours"] = _totals_value(self.hours)
        if self.reason:
            item["reason"] = self.reason
        if self.quarantine_key:
            item["quarantine"] = self.quarantine_key
        return item

    @classmethod
    def from_item(cls, item: Item) -> Marker:
        fields = Fields.of_item(item)
        verdict = fields.one_of("verdict", _VERDICTS)
        accepted = verdict == "accepted"
        hash_version = fields.whole("hash_version")
        metered = fields.whole("metered")
        # Only a rebuilt marker is accepted by no version of the hash: what it was accepted by is not known any more.
        rebuilt = accepted and hash_version == 0
        made = cls(
            batch_id=fields.after("pk", "B#"),
            verdict=verdict,
            content_hash=fields.text("hash", absent=None) if rebuilt else fields.text("hash"),
            hash_version=hash_version,
            commit_id=fields.text("commit_id") if accepted and not rebuilt else fields.text("commit_id", absent=""),
            source_id=fields.text("source", absent=""),
            sequence=fields.whole("sequence", absent=None),
            sender_id=fields.any_text("sender"),
            records=fields.whole("records"),
            metered=metered,
            refused=fields.whole("refused"),
            hours=_totals(fields.nested("hours")) if "hours" in fields or (accepted and metered) else {},
            decided_at_ms=fields.whole("decided_at_ms"),
            expires_at_s=fields.whole("expires_at"),
            reason=fields.text("reason", absent=""),
            quarantine_key=fields.text("quarantine", absent=""),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Other content under the id of an accepted batch. Always written with the same content, unconditionally."""

    batch_id: str
    content_hash: str
    hash_version: int
    quarantine_key: str
    sender_id: str
    first_sender_id: str
    records: int

    @property
    def key(self) -> Key:
        return conflict_key(self.batch_id, self.content_hash)

    def to_item(self) -> dict[str, Value]:
        return {
            **_named(self.key),
            "hash_version": self.hash_version,
            "quarantine": self.quarantine_key,
            "sender": self.sender_id,
            "first_sender": self.first_sender_id,
            "records": self.records,
        }

    @classmethod
    def from_item(cls, item: Item) -> Conflict:
        fields = Fields.of_item(item)
        made = cls(
            batch_id=fields.after("pk", "B#"),
            content_hash=fields.after("sk", "X#"),
            hash_version=fields.whole("hash_version"),
            quarantine_key=fields.text("quarantine"),
            sender_id=fields.any_text("sender"),
            first_sender_id=fields.any_text("first_sender"),
            records=fields.whole("records"),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """What the ledger says of a commit. `next_chunk < chunks` only while `open`."""

    commit_id: str
    state: CommitState
    next_chunk: int = 0
    chunks: int = 0
    shard: int = 0
    hours: tuple[int, ...] = ()
    staging_key: str = ""
    rows: int = 0
    bytes: int = 0
    created_at_ms: int = 0
    expires_at_s: int | None = None

    @property
    def key(self) -> Key:
        return commit_key(self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**_named(self.key), "state": self.state}
        if self.state != "aborted":
            item |= {
                "next": self.next_chunk,
                "chunks": self.chunks,
                "shard": self.shard,
                "hours": [hour_label(hour_s) for hour_s in self.hours],
                "staging": self.staging_key,
                "rows": self.rows,
                "bytes": self.bytes,
                "created_at_ms": self.created_at_ms,
            }
        if self.expires_at_s is not None:
            item["expires_at"] = self.expires_at_s
        return item

    @classmethod
    def from_item(cls, item: Item) -> CommitRecord:
        fields = Fields.of_item(item)
        state = fields.one_of("state", _COMMIT_STATES)
        commit_id = fields.after("pk", "C#")
        expires_at_s = fields.whole("expires_at", absent=None)
        if state == "aborted":
            made = cls(commit_id=commit_id, state=state, expires_at_s=expires_at_s)
        else:
            made = cls(
                commit_id=commit_id,
                state=state,
                next_chunk=fields.whole("next"),
                chunks=fields.whole("chunks"),
                shard=fields.whole("shard"),
                hours=tuple(sorted(fields.hours("hours"))),
                staging_key=fields.any_text("staging"),
                rows=fields.whole("rows"),
                bytes=fields.whole("bytes"),
                created_at_ms=fields.whole("created_at_ms"),
                expires_at_s=expires_at_s,
            )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A commit with hours that no run has taken yet. `hours` only ever shrinks; `totals` keeps all of them."""

    shard: int
    commit_id: str
    hours: frozenset[int]
    totals: Mapping[int, Total]
    created_at_ms: int
    wide: bool

    @property
    def key(self) -> Key:
        return pending_key(self.shard, self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **_named(self.key),
            "totals": _totals_value(self.totals),
            "created_at_ms": self.created_at_ms,
            "wide": self.wide,
        }
        if self.hours:
            item["hours"] = frozenset(map(hour_label, self.hours))
        return item

    @classmethod
    def from_item(cls, item: Item) -> Pending:
        fields = Fields.of_item(item)
        made = cls(
            shard=fields.number_after("pk", "P#"),
            commit_id=fields.text("sk"),
            hours=fields.hour_set("hours"),
            totals=_totals(fields.nested("totals")),
            created_at_ms=fields.whole("created_at_ms"),
            wide=fields.flag("wide"),
        )
        if not made.hours <= made.totals.keys():
            fields.fail("totals", "totals of all hours that are left")
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """An hour's pointer to a commit's staging object. `run` is empty until a run marks it."""

    hour_s: int
    commit_id: str
    shard: int
    rows: int
    bytes: int
    staging_key: str
    run: str = ""

    @property
    def key(self) -> Key:
        return pointer_key(self.hour_s, self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **_named(self.key),
            "shard": self.shard,
            "rows": self.rows,
            "bytes": self.bytes,
            "staging": self.staging_key,
        }
        if self.run:
            item["run"] = self.run
        return item

    @classmethod
    def from_item(cls, item: Item) -> Pointer:
        fields = Fields.of_item(item)
        made = cls(
            hour_s=_hour_after(fields),
            commit_id=fields.after("sk", POINTER_PREFIX),
            shard=fields.whole("shard"),
            rows=fields.whole("rows"),
            bytes=fields.whole("bytes"),
            staging_key=fields.text("staging"),
            run=fields.text("run", absent=""),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeFile:
    """One file of an hour: its key, number of rows and exact sum of their bytes."""

    key: str
    rows: int
    bytes: int

    def source(self, hour_s: int) -> Source:
        """The file of an hour, to be read."""
        return Source(key=self.key, hour_s=hour_s, rows=self.rows, bytes=self.bytes, staged=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The files that one run added to an hour."""

    hour_s: int
    shard: int
    run: int
    files: tuple[LakeFile, ...]

    @property
    def key(self) -> Key:
        return published_key(self.hour_s, self.shard, self.run)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Its files, to be read."""
        return tuple(file.source(self.hour_s) for file in self.files)

    def to_item(self) -> dict[str, Value]:
        files: list[Value] = [{"key": file.key, "rows": file.rows, "bytes": file.bytes} for file in self.files]
        return {**_named(self.key), "files": files, "rows": self.rows, "bytes": self.bytes}

    @classmethod
    def from_item(cls, item: Item) -> Published:
        fields = Fields.of_item(item)
        shard, _, run = fields.after("sk", PUBLISHED_PREFIX).partition("#")
        if not (shard.isdecimal() and run.isdecimal()):
            fields.fail("sk", "a shard and a run")
        made = cls(
            hour_s=_hour_after(fields),
            shard=int(shard),
            run=int(run),
            files=tuple(
                LakeFile(key=file.text("key"), rows=file.whole("rows"), bytes=file.whole("bytes"))
                for file in fields.objects("files")
            ),
        )
        if (fields.whole("rows"), fields.whole("bytes")) != (made.rows, made.bytes):
            fields.fail("files", f"files of {fields.whole('rows')} rows and {fields.whole('bytes')} bytes together")
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One compaction of a shard. Its plan is the object at `plan_key`, whoever works on it."""

    shard: int
    run: int
    state: RunState
    plan_key: str
    planned_at_ms: int
    done_at_ms: int | None = None
    cleaned: bool = False

    @property
    def key(self) -> Key:
        return run_key(self.shard, self.run)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **_named(self.key),
            "state": self.state,
            "plan": self.plan_key,
            "planned_at_ms": self.planned_at_ms,
        }
        if self.done_at_ms is not None:
            item["done_at_ms"] = self.done_at_ms
        if self.cleaned:
            item["cleaned"] = True
        return item

    @classmethod
    def from_item(cls, item: Item) -> Run:
        fields = Fields.of_item(item)
        state = fields.one_of("state", _RUN_STATES)
        made = cls(
            shard=fields.number_after("pk", "R#"),
            run=fields.number_after("sk", ""),
            state=state,
            plan_key=fields.text("plan"),
            planned_at_ms=fields.whole("planned_at_ms"),
            done_at_ms=fields.whole("done_at_ms") if state == "done" else None,
            cleaned=fields.flag("cleaned", absent=False),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A billing month that no transaction can book into any more. A month without this item is open."""

    month: str
    state: PeriodState
    manifest_key: str = ""

    @property
    def key(self) -> Key:
        return period_key(self.month)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**_named(self.key), "state": self.state}
        if self.manifest_key:
            item["manifest"] = self.manifest_key
        return item

    @classmethod
    def from_item(cls, item: Item) -> Period:
        fields = Fields.of_item(item)
        state = fields.one_of("state", _PERIOD_STATES)
        made = cls(
            month=fields.after("pk", "T#"),
            state=state,
            manifest_key=fields.text("manifest") if state == "closed" else "",
        )
        fields.check_key(made.key)
        return made


def _named(key: Key) -> dict[str, Value]:
    return {"pk": key.pk, "sk": key.sk}


def _totals_value(totals: Mapping[int, Total]) -> dict[str, Value]:
    return {hour_label(hour_s): [total.records, total.bytes] for hour_s, total in totals.items()}


def _totals(hours: Fields) -> dict[int, Total]:
    totals: dict[int, Total] = {}
    for label in hours:
        total = hours.row(label, ("records", "bytes"))
        totals[hours.hour_named(label)] = Total(total.whole("bytes"), total.whole("records"))
    return totals


def _hour_after(fields: Fields) -> int:
    label = fields.after("pk", "H#")
    return fields.hour_named(label)
