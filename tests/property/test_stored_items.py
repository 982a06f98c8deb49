"""Laws of stored items and objects: what is written is read again, and nothing else is read as something legal."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.audit.sequences import Gap, SeenSequences
from metering.audit.source_keeping import SourceMemory
from metering.errors import LedgerCorruptError
from metering.fleet.regions import Answered, Finding, Phase, RegionState, Step
from metering.intake.batches import Claim
from metering.lake.plan import Plan, PlanFile, PlanHour
from metering.ledger.booked_hours import LakeFile, Pending, Pointer, Published, RowSource
from metering.ledger.commits import CommitRecord, Waiting
from metering.ledger.format_version import LedgerFormat
from metering.ledger.markers import Conflict, Marker, conflict_of, conflict_seen_item
from metering.ledger.notes.access import LargeRequest, LargeRequests, RegisteredProducer, Role, StoredToken
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.ledger.notes.money import BillerFigures, StoredAlert, StoredBudget
from metering.ledger.notes.reconciliation import (
    Backlog,
    Reconciliation,
    Ruling,
    RulingKind,
    SourceFigures,
    SourceState,
    Suspects,
    WorkList,
)
from metering.ledger.notes.watch import Completeness, HeldMessage, Hold, QueueMemory, WatchFigures, WatchState
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows, Period
from metering.ledger.retries import Alias, RetryNote
from metering.ledger.runs import Run
from metering.ledger.shards import UsedShards
from metering.ledger.usage.items import BUCKET_KINDS, UsageItem, newest_run_of, usage_add, usage_item_key
from metering.ledger.usage.kinds import KindNames, kind_items
from metering.onramps.ingest.places import Note
from metering.onramps.plans import Part, Share
from metering.onramps.plans import Plan as LogPlan
from metering.onramps.reading import Balance
from metering.quarantine.documents import KeptLine, QuarantinedBatch, QuarantinedLog
from metering.rollup.plan import PlannedCommit, PlannedHour, RollupPlan
from metering.stores.writes import Item, Put, Table, Value
from metering.units import DAY_S
from metering.usage.totals import ZERO, Total, UsageKey, UsageKind
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUR_S = 1_800_000_000 - 1_800_000_000 % 3600
HOURS = st.integers(0, 400).map(lambda number: HOUR_S + 3600 * number)
NUMBERS = st.integers(0, 10**20)
NAMES = st.text("abcdefghij0123456789._:/-", min_size=1, max_size=12)
TOTALS = st.builds(Total, bytes=NUMBERS, records=NUMBERS)
HOUR_TOTALS = st.dictionaries(HOURS, TOTALS, min_size=1, max_size=3)
FILES = st.lists(st.builds(LakeFile, key=NAMES, rows=NUMBERS, bytes=NUMBERS), min_size=1, max_size=3).map(tuple)

ACCEPTED = st.builds(
    Marker,
    batch_id=NAMES,
    verdict=st.just("accepted"),
    content_hash=NAMES,
    hash_version=st.integers(1, 3),
    commit_id=NAMES,
    source_id=NAMES | st.just(""),
    sequence=st.none() | NUMBERS,
    sender_id=NAMES | st.just(""),
    records=NUMBERS,
    metered=st.integers(1, 9),
    refused=NUMBERS,
    hours=HOUR_TOTALS,
    decided_at_ms=NUMBERS,
    expires_at_s=NUMBERS,
    quarantine_key=NAMES | st.just(""),
)
REJECTED = st.builds(
    Marker,
    batch_id=NAMES,
    verdict=st.just("rejected"),
    content_hash=NAMES,
    hash_version=st.integers(0, 3),
    commit_id=st.just(""),
    source_id=NAMES | st.just(""),
    sequence=st.none() | NUMBERS,
    sender_id=NAMES | st.just(""),
    records=NUMBERS,
    metered=st.just(0),
    refused=NUMBERS,
    hours=st.just({}),
    decided_at_ms=NUMBERS,
    expires_at_s=NUMBERS,
    reason=NAMES,
    quarantine_key=NAMES,
)
COMMITS = st.builds(
    CommitRecord,
    commit_id=NAMES,
    state=st.just("committed"),
    shard=NUMBERS,
    hours=st.sets(HOURS, min_size=1, max_size=3).map(lambda hours: tuple(sorted(hours))),
    staging_key=NAMES,
    rows=NUMBERS,
    bytes=NUMBERS,
    created_at_ms=NUMBERS,
    expires_at_s=st.none() | NUMBERS,
)
PENDING = st.builds(
    lambda hours, **others: Pending(hours=frozenset(hours), totals=hours, **others),
    HOUR_TOTALS,
    shard=st.integers(0, 63),
    commit_id=NAMES,
    created_at_ms=NUMBERS,
)
WAITING = st.builds(
    Waiting,
    shard=st.integers(0, 63),
    commit_id=NAMES,
    totals=HOUR_TOTALS,
    staging_key=NAMES,
    created_at_ms=NUMBERS,
    sent_at_ms=NUMBERS,
)
CHAINS = st.sampled_from(("U0", "L0", "U63"))
SOURCES = st.builds(RowSource, key=NAMES, hour_s=HOURS, rows=NUMBERS, bytes=NUMBERS, staged=st.just(False))
GAPS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple)
STEPS = st.sampled_from(tuple(Step))
STATES = st.builds(
    RegionState,
    region=NAMES,
    phase=st.sampled_from(tuple(Phase)),
    step=st.none() | STEPS,
    done=st.dictionaries(STEPS, NUMBERS, max_size=3),
    reason=st.text(max_size=5),
    advice=st.text(max_size=5),
    listed=st.booleans(),
    left_out=st.lists(NAMES, max_size=2).map(tuple),
    findings=st.lists(
        st.builds(Finding, check=NAMES, answered=st.sampled_from(tuple(Answered)), detail=st.text(max_size=5)),
        max_size=2,
    ).map(tuple),
    architecture=NAMES,
    attempts=NUMBERS,
    deployments=NUMBERS,
    canary_from_s=NUMBERS,
    updated_s=NUMBERS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKind:
    """One kind of item. `optional` are the attributes that it may go without; of those that it has, none may change."""

    name: str
    values: st.SearchStrategy[object]
    read: Callable[[Item], object]
    optional: frozenset[str] = frozenset()
    # Written for TTL or for people, and read by nobody.
    unread: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


KINDS = (
    ItemKind(
        name="accepted marker",
        values=ACCEPTED,
        read=Marker.from_item,
        optional=frozenset({"source", "sequence", "reason", "quarantine"}),
    ),
    ItemKind(
        name="rejected marker",
        values=REJECTED,
        read=Marker.from_item,
        optional=frozenset({"source", "sequence", "reason", "quarantine"}),
    ),
    ItemKind(
        name="conflict",
        values=st.builds(
            Conflict,
            batch_id=NAMES,
            content_hash=NAMES,
            hash_version=NUMBERS,
            quarantine_key=NAMES,
            sender_id=NAMES,
            first_sender_id=NAMES,
            records=NUMBERS,
        ),
        read=Conflict.from_item,
    ),
    ItemKind(name="commit", values=COMMITS, read=CommitRecord.from_item, optional=frozenset({"expires_at"})),
    ItemKind(
        name="fence",
        values=st.builds(CommitRecord, commit_id=NAMES, state=st.just("aborted")),
        read=CommitRecord.from_item,
    ),
    ItemKind(name="waiting", values=WAITING, read=Waiting.from_item),
    ItemKind(name="pending", values=PENDING, read=Pending.from_item, optional=frozenset({"hours"})),
    ItemKind(
        name="pointer",
        values=st.builds(
            Pointer,
            hour_s=HOURS,
            commit_id=NAMES,
            shard=NUMBERS,
            rows=NUMBERS,
            bytes=NUMBERS,
            staging_key=NAMES,
            run=NAMES | st.just(""),
        ),
        read=Pointer.from_item,
        optional=frozenset({"run"}),
    ),
    ItemKind(
        name="published",
        values=st.builds(Published, hour_s=HOURS, shard=st.integers(0, 63), run=st.integers(1, 10**9), files=FILES),
        read=Published.from_item,
    ),
    ItemKind(
        name="planned run",
        values=st.builds(
            Run,
            chain=CHAINS,
            number=st.integers(1, 10**9),
            state=st.just("planned"),
            plan_key=NAMES,
            planned_at_ms=NUMBERS,
        ),
        read=Run.from_item,
    ),
    ItemKind(
        name="done run",
        values=st.builds(
            Run,
            chain=CHAINS,
            number=st.integers(1, 10**9),
            state=st.just("done"),
            plan_key=NAMES,
            planned_at_ms=NUMBERS,
            done_at_ms=NUMBERS,
            cleaned=st.booleans(),
        ),
        read=Run.from_item,
        optional=frozenset({"cleaned"}),
    ),
    ItemKind(
        name="period",
        values=st.builds(Period, month=st.just("2026-11"), state=st.just("closed"), frozen_key=NAMES)
        | st.just(Period(month="2026-10", state="closing")),
        read=Period.from_item,
    ),
    ItemKind(
        name="canary run",
        values=st.builds(
            CanaryRun,
            slot_s=HOURS,
            sent_s=HOURS,
            verdict=st.sampled_from(tuple(CanaryVerdict)),
            settled_s=NUMBERS,
        ),
        read=CanaryRun.from_item,
        unread=frozenset({"expires_at"}),
    ),
    ItemKind(
        name="watch state",
        values=st.builds(WatchState, first_s=NUMBERS, queue_empty_s=NUMBERS),
        read=WatchState.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="watch figures",
        values=st.builds(
            WatchFigures,
            measured_s=NUMBERS,
            figures=st.dictionaries(NAMES, st.integers(-(1 << 40), 1 << 40), max_size=3),
        ),
        read=WatchFigures.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="completeness",
        values=st.builds(
            Completeness,
            through_s=NUMBERS,
            held_by=st.lists(st.builds(Hold, holder=NAMES, since_s=NUMBERS, count=NUMBERS), max_size=3).map(tuple),
            measured_s=st.none() | NUMBERS,
        ),
        read=Completeness.from_item,
        optional=frozenset({"held_by", "measured_s"}),
        unread=frozenset({"pk", "sk", "published"}),
    ),
    ItemKind(
        name="reconciliation",
        values=st.builds(
            Reconciliation,
            finished_s=NUMBERS,
            hours=NUMBERS,
            differences=NUMBERS,
            gaps_since_s=st.none() | NUMBERS,
            backlog=st.builds(Backlog, waiting=NUMBERS, since_s=st.none() | NUMBERS),
        ),
        read=Reconciliation.from_item,
        optional=frozenset({"gaps_since_s", "waiting", "waiting_since_s"}),
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="work list",
        values=st.builds(
            WorkList,
            runs=st.dictionaries(st.integers(0, 63), NUMBERS, max_size=3),
            hours=st.dictionaries(HOURS, NUMBERS, max_size=3),
            files=st.dictionaries(SOURCES, NUMBERS, max_size=3),
            suspects=st.dictionaries(
                HOURS, st.builds(Suspects, accounts=st.frozensets(NAMES), batches=st.frozensets(NAMES)), max_size=3
            ),
            unjudged=st.dictionaries(HOURS, NUMBERS, max_size=3),
            scanned_s=NUMBERS,
            scan_tries=NUMBERS,
            scan_runs=st.dictionaries(st.integers(0, 63), NUMBERS, max_size=3),
        ),
        read=WorkList.from_item,
        # Without any of them, more is compared again.
        optional=frozenset({"waiting", "runs", "suspects", "unjudged", "scan_tries", "scan_runs"}),
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="source",
        values=st.builds(
            SourceState,
            source_id=NAMES,
            last_sequence=NUMBERS,
            last_seen_s=NUMBERS,
            gaps=GAPS,
            unlisted_gaps=NUMBERS,
            unlisted_numbers=NUMBERS,
            incredible=st.integers(1, 9),
            incredible_first=NUMBERS,
        ),
        read=SourceState.from_item,
        optional=frozenset({"unlisted_gaps", "unlisted_numbers", "incredible", "incredible_first"}),
        unread=frozenset({"pk"}),
    ),
    ItemKind(
        name="ruling",
        values=st.builds(
            Ruling,
            source_id=NAMES,
            kind=st.sampled_from(tuple(RulingKind)),
            at_ms=NUMBERS,
            by=NAMES,
            expires_at=NUMBERS,
            numbers=st.none() | st.tuples(NUMBERS, NUMBERS),
        ),
        read=Ruling.from_item,
    ),
    ItemKind(
        name="deed",
        values=st.builds(
            Deed,
            deed_id=NAMES,
            at_ms=HOURS.map(lambda hour_s: 1000 * hour_s + 7),
            what=NAMES,
            subject=st.text(max_size=5),
            consequence=st.text(max_size=5),
            who=NAMES,
            stage=NAMES,
            region=NAMES,
            version=NAMES,
            consent=st.sampled_from(tuple(Consent)),
            state=st.sampled_from(tuple(DeedState)),
            ended_ms=NUMBERS,
            result=st.text(max_size=5),
        ),
        read=Deed.from_item,
    ),
    ItemKind(
        name="token",
        values=st.builds(
            StoredToken,
            token_id=NAMES,
            secret_sha256=NAMES,
            role=st.sampled_from(tuple(Role)),
            accounts=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
            label=st.text(max_size=5),
            made_by=NAMES,
            made_s=NUMBERS,
            expires_s=NUMBERS,
            costs=st.booleans(),
            revoked_by=st.text(max_size=5),
            revoked_s=NUMBERS,
        ),
        read=StoredToken.from_item,
        # Tokens of releases before it keep costs.
        optional=frozenset({"costs"}),
    ),
    ItemKind(
        name="large requests",
        values=st.builds(
            LargeRequests,
            version=NUMBERS,
            entries=st.dictionaries(NAMES, st.builds(LargeRequest, token_id=NAMES, until_ms=NUMBERS), max_size=3),
        ),
        read=LargeRequests.from_item,
    ),
    ItemKind(
        name="producer",
        values=st.builds(
            RegisteredProducer,
            name=NAMES,
            role_id=NAMES,
            role_arn=NAMES,
            trusted_arn=NAMES,
            accounts=st.none() | st.lists(NAMES, max_size=3).map(tuple),
            registered_s=NUMBERS,
            registered_by=st.text(max_size=5),
        ),
        read=RegisteredProducer.from_item,
    ),
    ItemKind(
        name="figures of sources",
        values=st.builds(
            SourceFigures,
            scanned_ms=NUMBERS,
            ruled_ms=NUMBERS,
            sources=NUMBERS,
            silent=NUMBERS,
            gaps=NUMBERS,
            incredible=NUMBERS,
            unkept=NUMBERS,
            names=st.lists(NAMES, max_size=3).map(tuple),
        ),
        read=SourceFigures.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="queue memory",
        values=st.builds(
            QueueMemory,
            looked_s=NUMBERS,
            began_s=NUMBERS,
            least_s=NUMBERS,
            before_s=NUMBERS,
            decided_s=NUMBERS,
            floor_s=NUMBERS,
            unseen=st.booleans(),
            unseen_s=NUMBERS,
        ),
        read=QueueMemory.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="held message",
        values=st.builds(HeldMessage, message_id=NAMES, sent_s=NUMBERS, noted_s=HOURS),
        read=HeldMessage.from_item,
        unread=frozenset({"expires_at"}),
    ),
    ItemKind(
        name="alias",
        values=st.builds(Alias, batch_id=NAMES, content_hash=NAMES, retry_id=NAMES, expires_at_s=NUMBERS),
        read=Alias.from_item,
    ),
    ItemKind(
        name="format",
        values=st.builds(LedgerFormat, number=st.just(2), written_by=NAMES, usage_generation=st.integers(1, 99)),
        read=LedgerFormat.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="used shards",
        values=st.builds(UsedShards, number=st.integers(1, 64)),
        read=UsedShards.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
    ItemKind(
        name="retry note",
        values=st.builds(
            RetryNote,
            batch_id=NAMES,
            retry_id=NAMES,
            positions=st.lists(st.integers(0, 50_000), max_size=3).map(tuple),
            expires_at_s=NUMBERS,
        ),
        read=RetryNote.from_item,
    ),
    ItemKind(name="region", values=STATES, read=RegionState.from_item),
    ItemKind(
        name="budget",
        values=st.builds(
            StoredBudget,
            name=NAMES,
            document=st.dictionaries(NAMES, st.text(max_size=5), max_size=3),
            set_s=NUMBERS,
        ),
        read=StoredBudget.from_item,
    ),
    ItemKind(
        name="alert",
        values=st.builds(
            StoredAlert,
            id=NAMES,
            period=NAMES,
            severity=NAMES,
            subject=NAMES,
            fields=st.dictionaries(NAMES, st.text(max_size=5), max_size=3),
            made_s=NUMBERS,
            state=st.sampled_from(("new", "sent")),
        ),
        read=StoredAlert.from_item,
    ),
    ItemKind(
        name="figures of the biller",
        values=st.builds(
            BillerFigures,
            first_s=NUMBERS,
            finished_s=NUMBERS,
            counted_s=NUMBERS,
            unpriced_bytes=NUMBERS,
            unpriced_types=NUMBERS,
            blocked_months=st.lists(NAMES, max_size=2).map(tuple),
            crossed_s=st.lists(NUMBERS, max_size=2).map(tuple),
            left_out=st.lists(NAMES, max_size=2).map(tuple),
            looked=st.dictionaries(NAMES, NAMES, max_size=2),
            why=st.text(max_size=5),
        ),
        read=BillerFigures.from_item,
        unread=frozenset({"pk", "sk"}),
    ),
)


def _item(value: object) -> dict[str, Value]:
    made: dict[str, Value] = value.to_item()  # type: ignore[attr-defined]  # all items have it
    return made


def _others(value: object) -> Iterator[object]:
    """Values of other types, or that nobody writes: each in the place of one that was written."""
    yield None
    yield 1.5
    yield -7
    yield b"bytes"
    if not isinstance(value, str):
        yield "no such word"
    if isinstance(value, bool) or not isinstance(value, int):
        yield 3
    if not isinstance(value, bool):
        yield True
    if not isinstance(value, list):
        yield []
    if not isinstance(value, dict):
        yield {}
    yield frozenset({"no such word"})


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_an_item_comes_back_as_it_was(kind: ItemKind, data: st.DataObject) -> None:
    value = data.draw(kind.values)
    assert kind.read(_item(value)) == value


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_an_item_without_a_required_attribute_is_named_and_not_read(kind: ItemKind, data: st.DataObject) -> None:
    item = _item(data.draw(kind.values))
    name = data.draw(st.sampled_from(sorted(item.keys() - kind.optional - kind.unread)))
    del item[name]
    with pytest.raises(LedgerCorruptError, match=name if name not in {"pk", "sk"} else None):
        kind.read(item)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_an_attribute_of_another_kind_is_never_a_legal_value(kind: ItemKind, data: st.DataObject) -> None:
    item = _item(data.draw(kind.values))
    name = data.draw(st.sampled_from(sorted(item.keys() - kind.unread)))
    item[name] = data.draw(st.sampled_from(list(_others(item[name]))))  # type: ignore[assignment]  # of another kind
    with pytest.raises(LedgerCorruptError):
        kind.read(item)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_nested_is_read_as_strictly(kind: ItemKind, data: st.DataObject) -> None:
    item = _item(data.draw(kind.values))
    places = [place for name in item for place in _places((name,), item[name]) if len(place) > 1]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    damaged = deepcopy(dict(item))
    parent: object = damaged
    for step in place[:-1]:
        parent = parent[step]  # type: ignore[index]  # a dict or a list
    before = parent[place[-1]]  # type: ignore[index]  # the same
    wrong = data.draw(st.sampled_from([other for other in _others(before) if other not in ([], {})]))
    parent[place[-1]] = wrong  # type: ignore[index]  # the same
    with pytest.raises(LedgerCorruptError):
        kind.read(damaged)


def _places(place: tuple[str | int, ...], value: object) -> Iterator[tuple[str | int, ...]]:
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from _places((*place, name), each)


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [
        ("accepted marker", "verdict"),
        ("commit", "state"),
        ("planned run", "state"),
        ("period", "state"),
        ("canary run", "verdict"),
        ("region", "phase"),
        ("region", "step"),
    ],
)
@settings(max_examples=25)
@given(data=st.data())
def test_an_unknown_word_is_named_and_never_taken_for_a_known_one(
    kind: str, attribute: str, data: st.DataObject
) -> None:
    [found] = [each for each in KINDS if each.name == kind]
    item = {
        **_item(data.draw(found.values)),
        attribute: data.draw(st.sampled_from(["opened", "ABORTED", "done ", "x"])),
    }
    with pytest.raises(LedgerCorruptError, match=attribute):
        found.read(item)


@given(NAMES, st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=3), NUMBERS)
def test_what_the_reconciler_remembers_of_a_source_comes_back(
    source_id: str, gaps: list[tuple[int, int, int, int]], last: int
) -> None:
    seen = SeenSequences(last=last, last_ms=7, gaps=tuple(Gap(*gap) for gap in gaps))
    memory = SourceMemory(seen=seen, last_seen_s=5, forgotten_ms=3, ruled_ms=4)
    item = memory.to_item(memory.state(source_id, noticed_by_ms=0), life_s=DAY_S)
    assert SourceMemory.from_item(item) == memory
    for name in ("noticed", "last_ms"):
        with pytest.raises(LedgerCorruptError, match=name):
            SourceMemory.from_item({key: value for key, value in item.items() if key != name})


def test_a_conflict_that_was_seen_comes_back() -> None:
    item = conflict_seen_item("b-1", "ff", HOUR_S)
    assert conflict_of(item) == ("b-1", "ff")
    for sk in ("b-1", "a#b", "a##c", "a#b#c#d", 5):
        with pytest.raises(LedgerCorruptError):
            conflict_of({**item, "sk": sk})


USAGE_KEYS = st.builds(
    UsageKey,
    hour_s=HOURS,
    account_id=st.just("123456789012"),
    usage_type=NAMES,
    service=NAMES,
    from_location=NAMES,
    to_location=NAMES,
    corrects_s=st.none() | HOURS,
)


@given(
    USAGE_KEYS, TOTALS, st.integers(0, 5_000), st.dictionaries(st.integers(0, 63), st.integers(1, 10**9), max_size=3)
)
def test_a_usage_item_comes_back_and_nothing_else_is_read(
    key: UsageKey, total: Total, number: int, runs: dict[int, int]
) -> None:
    at = usage_item_key(key, number)
    numbers = {newest_run_of(shard): run for shard, run in runs.items()}
    item: dict[str, Value] = {**at._asdict(), **usage_add({number: total}), **numbers}
    read = UsageItem.from_item(item)
    assert (read.key, read.bucket, read.revision, read.runs) == (at, number // BUCKET_KINDS, 1, runs)
    assert read.totals == ({number: total} if total != ZERO else {})
    assert read.usage_key(key.kind) == key
    for name in item.keys() - {"pk", "sk"}:
        for wrong in ("7", True, 1.5, [1]):
            with pytest.raises(LedgerCorruptError, match=name):
                UsageItem.from_item({**item, name: wrong})  # type: ignore[dict-item]  # of another kind
    other = number + BUCKET_KINDS
    for name in (f"b{other}", f"r{other}", "b", "r", "b-1", "bx", "n", "nx", "m0", "v0"):
        with pytest.raises(LedgerCorruptError, match=name):
            UsageItem.from_item({**item, name: 1})
    for sk in ("", "2026-11-25", f"{at.sk}#1", f"{at.sk}x", at.sk.replace("#", "|")):
        with pytest.raises(LedgerCorruptError):
            UsageItem.from_item({**item, "sk": sk})


@given(USAGE_KEYS, TOTALS)
def test_a_usage_item_of_a_kind_without_a_number_comes_back(key: UsageKey, total: Total) -> None:
    at = usage_item_key(key, None)
    item: dict[str, Value] = {**at._asdict(), **usage_add({None: total})}
    read = UsageItem.from_item(item)
    assert (read.key, read.bucket, read.totals) == (at, None, {key.kind: total})
    for name in ("b0", "r7"):
        with pytest.raises(LedgerCorruptError, match=name):
            UsageItem.from_item({**item, name: 1})


@given(st.lists(USAGE_KEYS.map(lambda key: key.kind), min_size=1, max_size=5, unique=True), st.data())
def test_numbers_of_kinds_come_back_and_a_damaged_name_is_never_read(
    kinds: list[UsageKind], data: st.DataObject
) -> None:
    store = MemoryItemStore()
    account_id = "123456789012"
    for number, kind in enumerate(kinds):
        for item in kind_items(account_id, number, kind):
            store.put(Put(table=Table.LEDGER, item=item))
    assert KindNames(store).of(account_id) == dict(enumerate(kinds))
    number = data.draw(st.integers(0, len(kinds) - 1))
    item, _ = kind_items(account_id, number, kinds[number])
    name = data.draw(st.sampled_from(("usage_type", "service", "from", "to")))
    for wrong in (None, 7, "", ["x"]):
        damaged = {each: value for each, value in item.items() if each != name or wrong is not None}
        if wrong is not None:
            damaged[name] = wrong  # type: ignore[assignment]  # of another kind
        store.put(Put(table=Table.LEDGER, item=damaged))
        with pytest.raises(LedgerCorruptError, match=name):
            KindNames(store).of(account_id)


PLANS = st.builds(
    Plan,
    shard=st.integers(0, 63),
    hours=st.lists(
        st.builds(
            PlanHour,
            hour_s=HOURS,
            files=st.lists(
                st.builds(
                    PlanFile, commits=st.lists(NAMES, min_size=1, max_size=2).map(tuple), rows=NUMBERS, bytes=NUMBERS
                ),
                min_size=1,
                max_size=2,
            ).map(tuple),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    last=st.lists(NAMES, min_size=1, max_size=2).map(tuple),
)


FROZEN_ROWS = st.builds(FrozenRows, key=NAMES, rows=NUMBERS, digest=NAMES)


@st.composite
def closed_months(draw: st.DrawFn) -> FrozenMonth:
    hours = []
    for hour_s in sorted(draw(st.sets(HOURS, min_size=1, max_size=2))):
        hours.append(FrozenHour(hour_s=hour_s, files=draw(FILES), frozen=draw(FROZEN_ROWS)))
    month = FrozenMonth(month="2027-01", hours=tuple(hours), accounts=draw(FROZEN_ROWS), days=draw(FROZEN_ROWS))
    return month.closed()


KIND_TOTALS = st.dictionaries(USAGE_KEYS.map(lambda key: key.kind), TOTALS, max_size=2)
ROLLUP_PLANS = st.builds(
    RollupPlan,
    shard=st.integers(0, 63),
    commits=st.lists(
        st.builds(
            PlannedCommit,
            commit_id=NAMES,
            staging_key=NAMES,
            totals=HOUR_TOTALS,
            created_at_ms=NUMBERS,
            sent_at_ms=NUMBERS,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    hours=st.lists(
        st.builds(
            PlannedHour,
            account_id=NAMES,
            hour_s=HOURS,
            corrects_s=st.none() | HOURS,
            numbered=KIND_TOTALS,
            named=KIND_TOTALS,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
)


QUARANTINED = st.builds(
    QuarantinedBatch,
    kind=st.sampled_from(["refused", "conflict"]),
    batch_id=NAMES,
    content_hash=NAMES,
    hash_version=NUMBERS,
    problems=st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=2).map(tuple),
    source_id=NAMES,
    sequence=NUMBERS,
    sender_id=NAMES,
    first_sender_id=NAMES,
    records=NUMBERS,
    body=NAMES,
    evidence=NAMES,
)


COUNTS = st.lists(st.tuples(NAMES, NUMBERS, NUMBERS), min_size=1, max_size=2).map(tuple)
QUARANTINED_LOG = st.builds(
    QuarantinedLog,
    kind=st.sampled_from(["lines", "file"]),
    place=NAMES,
    version_id=NAMES,
    etag=NAMES,
    identity=NAMES,
    log_kind=NAMES,
    source=NAMES,
    content_sha256=NAMES,
    refusals=COUNTS,
    detail=NAMES,
    lines=st.lists(
        st.builds(KeptLine, number=NUMBERS, reason=NAMES, detail=NAMES, text=NAMES, bytes=NUMBERS), max_size=2
    ).map(tuple),
)
PLACE_NOTE = st.builds(
    Note,
    place=NAMES,
    number=NUMBERS,
    from_byte=NUMBERS,
    until_byte=NUMBERS,
    content_sha256=NAMES,
    after=NAMES,
    whole_lines=st.booleans(),
    sent=st.booleans(),
)
LOG_PLAN = st.builds(
    LogPlan,
    identity=NAMES,
    kind=NAMES,
    source=NAMES,
    account_id=NAMES,
    region=NAMES,
    slot_s=NUMBERS,
    place=NAMES,
    etag=NAMES,
    content_sha256=NAMES,
    contexts=st.dictionaries(HOURS, NAMES, min_size=1, max_size=2),
    rules=NAMES,
    parts=st.lists(
        st.builds(Part, batch_id=NAMES, records=st.integers(1, 50_000), bytes=NUMBERS, sha256=NAMES), max_size=2
    ).map(tuple),
    balance=st.builds(Balance, **{each.name: NUMBERS for each in fields(Balance)}),
    shares=st.lists(
        st.builds(Share, usage_type=NAMES, rule=NAMES, reason=NAMES, bytes=NUMBERS, lines=NUMBERS), max_size=2
    ).map(tuple),
    shadowed=COUNTS,
    refusals=COUNTS,
    planned_s=NUMBERS,
    from_byte=NUMBERS,
    after=NAMES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One kind of JSON object."""

    name: str
    values: st.SearchStrategy[object]
    write: Callable[[object], bytes]
    read: Callable[[bytes, str], object]
    # Members that plans of releases before do not have.
    optional: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


DOCUMENTS = (
    Document(name="plan", values=PLANS, write=lambda value: value.to_json(), read=Plan.from_json),  # type: ignore[attr-defined]  # a plan
    Document(
        name="closed month",
        values=closed_months(),
        write=lambda value: value.to_json(),  # type: ignore[attr-defined]  # a frozen month
        read=FrozenMonth.from_json,
    ),
    Document(
        name="plan of a roll-up",
        values=ROLLUP_PLANS,
        write=lambda value: value.to_json(),  # type: ignore[attr-defined]  # a plan
        read=RollupPlan.from_json,
    ),
    Document(
        name="quarantined batch",
        values=QUARANTINED,
        write=lambda value: value.to_json(),  # type: ignore[attr-defined]  # a quarantined batch
        read=QuarantinedBatch.from_json,
    ),
    Document(
        name="quarantined log",
        values=QUARANTINED_LOG,
        write=lambda value: value.to_json(),  # type: ignore[attr-defined]  # a quarantined log
        read=QuarantinedLog.from_json,
    ),
    Document(
        name="note of a place",
        values=PLACE_NOTE,
        write=lambda value: value.to_json(),  # type: ignore[attr-defined]  # a note
        read=Note.from_json,
    ),
    Document(
        name="plan of a log file",
        values=LOG_PLAN,
        write=lambda value: value.to_json(),  # type: ignore[attr-defined]  # a plan
        read=LogPlan.from_json,
        optional=frozenset({"billed_as", "others"}),
    ),
)


@pytest.mark.parametrize("kind", DOCUMENTS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_an_object_comes_back_as_it_was(kind: Document, data: st.DataObject) -> None:
    value = data.draw(kind.values)
    assert kind.read(kind.write(value), "a/key.json") == value


CLAIMS = st.builds(Claim, batch_id=st.text(max_size=5), content_hash=NAMES, hash_version=NUMBERS)


@settings(max_examples=25)
@given(batch=QUARANTINED, claim=CLAIMS)
def test_a_batch_whose_sender_may_not_send_it_comes_back_with_its_claim(batch: QuarantinedBatch, claim: Claim) -> None:
    # The claim is optional: versions without registered producers write none, and read one as a batch without an id.
    claimed = replace(batch, claim=claim)
    assert QuarantinedBatch.from_json(claimed.to_json()) == claimed
    for wrong in (None, [], [claim.batch_id, claim.content_hash], "b/1", [1, 2, 3]):
        document = json.loads(claimed.to_json()) | {"claims": wrong}
        with pytest.raises(LedgerCorruptError):
            QuarantinedBatch.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("kind", DOCUMENTS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_object_is_named_and_not_read(kind: Document, data: st.DataObject) -> None:
    document = json.loads(kind.write(data.draw(kind.values)))
    place = data.draw(st.sampled_from([place for name in document for place in _places((name,), document[name])]))
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    before = parent[place[-1]]
    # Totals by hour have the hours that there are: one less is another value, not a damaged one.
    may_go = isinstance(parent, dict) and place[-2:-1] != ("totals",) and place[-1] not in kind.optional
    if may_go and data.draw(st.booleans()):
        del parent[place[-1]]
    else:
        wrong = [each for each in _others(before) if each is None or isinstance(each, str | int | float | dict)]
        if place[-1] == "sequence":
            wrong.remove(None)
        parent[place[-1]] = data.draw(st.sampled_from(wrong))
    with pytest.raises(LedgerCorruptError, match=r"a/key\.json"):
        kind.read(json.dumps(document).encode(), "a/key.json")


@pytest.mark.parametrize("kind", DOCUMENTS, ids=str)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b"\xff", b"{}", b"[" * 100_000])
def test_what_is_no_such_object_is_named(kind: Document, body: bytes) -> None:
    with pytest.raises(LedgerCorruptError, match=r"a/key\.json"):
        kind.read(body, "a/key.json")
