"""Laws of stored items and objects: readers accept every written value, and reject all other bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.audit.sequences import Gap, SeenSequences
from metering.audit.source_keeping import SourceMemory
from metering.errors import LedgerCorruptError
from metering.fleet.regions import RegionState
from metering.intake.batches import Claim
from metering.lake.plan import Plan, PlanFile, PlanHour
from metering.ledger.booked_hours import HourTotals, LakeFile, Pending, Pointer, Published, RowSource
from metering.ledger.commits import CommitRecord, UsedShards, Waiting
from metering.ledger.format_version import LedgerFormat
from metering.ledger.markers import Conflict, Marker, conflict_of, conflict_seen_item
from metering.ledger.notes.access import LargeRequests, RegisteredProducer, StoredToken
from metering.ledger.notes.checks import CanaryRun, DroppedObjects
from metering.ledger.notes.deeds import Deed
from metering.ledger.notes.lake import Cleaning, LakeFigures, OrphanPasses
from metering.ledger.notes.log_sources import LogFigures, LogRuling, LogSourceState, LogSums
from metering.ledger.notes.money import BillerFigures, IssuedInvoice, StoredAlert, StoredBudget
from metering.ledger.notes.reconciliation import Reconciliation, Ruling, SourceFigures, SourceState, Suspects, WorkList
from metering.ledger.notes.watch import Completeness, HeldMessage, Hold, QueueMemory, WatchFigures, WatchState
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows, Period
from metering.ledger.retries import Alias, RetryNote
from metering.ledger.runs import Run
from metering.ledger.usage.items import BUCKET_KINDS, UsageItem, newest_run_of, usage_add, usage_item_key
from metering.ledger.usage.kinds import KindNames, KindsBeyondCap, kind_items
from metering.onramps.ingest.taking import Note
from metering.onramps.plans import Plan as LogPlan
from metering.onramps.reading import NO_OTHERS
from metering.quarantine.documents import QuarantinedBatch, QuarantinedLog
from metering.rollup.plan import PlannedHour, RollupPlan
from metering.stores.codec import AnyText, DecimalText, Form, FromOne, Hour, Spans, WholeOrNull
from metering.stores.writes import Item, Put, Table, Value
from metering.units import DAY_S
from metering.usage.totals import ZERO, Total, UsageKey, UsageKind
from tests.support.memory.items import MemoryItemStore

HOUR_S = 1_800_000_000 - 1_800_000_000 % 3600
HOURS = st.integers(0, 400).map(lambda number: HOUR_S + 3600 * number)
NUMBERS = st.integers(0, 10**20)
NAMES = st.text("abcdefghij0123456789._:/-", min_size=1, max_size=12)
TEXTS = st.text(max_size=5)
TOTALS = st.builds(Total, bytes=NUMBERS, records=NUMBERS)
HOUR_TOTALS = st.dictionaries(HOURS, TOTALS, min_size=1, max_size=3)
SHARDS = st.integers(0, 63)
RUNS = st.integers(1, 10**9)
SOURCES = st.builds(RowSource, key=NAMES, hour_s=HOURS, rows=NUMBERS, bytes=NUMBERS, staged=st.just(False))
# Strategies for a type, and for a field whose stored form differs from that of its type.
OF_TYPES: dict[object, st.SearchStrategy[Any]] = {str: NAMES, int: NUMBERS, bool: st.booleans()}
OF_FORMS: dict[object, st.SearchStrategy[Any]] = {
    get_args(alias)[1]: values
    for alias, values in (
        *((AnyText, TEXTS), (DecimalText, NUMBERS), (FromOne, RUNS), (Hour, HOURS), (HourTotals, HOUR_TOTALS)),
        (Spans, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple)),
        (WholeOrNull, st.none() | NUMBERS),
    )
}


def few(values: st.SearchStrategy[Any], *, least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=least, max_size=least + 2).map(tuple)


def built(cls: Any, **special: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Strategy for a dataclass or NamedTuple: fields are drawn by type, except `special` ones."""
    hints = get_type_hints(cls, localns={"Mapping": Mapping}, include_extras=True)
    defaults = getattr(cls, "_field_defaults", None)
    if defaults is None:
        defaults = {each.name: each.default for each in fields(cls)}
    names = getattr(cls, "_fields", defaults)
    drawn = {name: _drawn(hints[name], empty=defaults.get(name) == "") for name in names if name not in special}
    return st.builds(cls, **drawn, **special)


def _drawn(hint: Any, *, empty: bool = False) -> st.SearchStrategy[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        form = next((note for note in args if isinstance(note, Form) and note in OF_FORMS), None)
        return _drawn(args[0], empty=empty) if form is None else OF_FORMS[form]
    if empty or hint in OF_TYPES:
        return TEXTS if empty else OF_TYPES[hint]
    if origin in (Literal, UnionType):
        return st.sampled_from(args) if origin is Literal else st.one_of(*map(_drawn, args))
    if origin is Mapping:
        return st.dictionaries(*map(_drawn, args), max_size=3)
    if origin in (tuple, frozenset):
        return few(_drawn(args[0])) if args[-1] is ... else st.tuples(*map(_drawn, args))
    if hint is NoneType:
        return st.none()
    return st.sampled_from(tuple(hint)) if issubclass(hint, StrEnum) else built(hint)


FILES = few(built(LakeFile), least=1)
MARKER: dict[str, Any] = {"source_id": NAMES | st.just(""), "sender_id": NAMES | st.just("")}
ACCEPTED = built(
    Marker, **MARKER, verdict=st.just("accepted"), content_hash=NAMES, hash_version=st.integers(1, 3),
    metered=st.integers(1, 9), hours=HOUR_TOTALS, reason=st.just(""), quarantine_key=NAMES | st.just(""),
)  # fmt: skip
REJECTED = built(
    Marker, **MARKER, verdict=st.just("rejected"), content_hash=NAMES, hash_version=st.integers(0, 3),
    commit_id=st.just(""), metered=st.just(0), hours=st.just({}), reason=NAMES, quarantine_key=NAMES,
)  # fmt: skip
SOME_HOURS = st.sets(HOURS, min_size=1, max_size=3).map(lambda hours: tuple(sorted(hours)))
COMMITS = built(CommitRecord, state=st.just("committed"), hours=SOME_HOURS, staging_key=NAMES)
PENDING = st.builds(
    lambda hours, **others: Pending(hours=frozenset(hours), totals=hours, **others),
    HOUR_TOTALS, shard=SHARDS, commit_id=NAMES, created_at_ms=NUMBERS,
)  # fmt: skip
CLOSED = st.builds(Period, month=st.just("2026-11"), state=st.just("closed"), frozen_key=NAMES)
CHAINS = st.sampled_from(("U0", "L0", "U63"))
RUN: dict[str, Any] = {"chain": CHAINS, "number": RUNS, "expires_at_s": st.none()}
HOLDS = few(st.builds(Hold, holder=NAMES, since_s=NUMBERS, count=NUMBERS))
SUSPECTS = st.builds(Suspects, accounts=st.frozensets(NAMES), batches=st.frozensets(NAMES))


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKind:
    """One kind of item. Only `optional` attributes may be absent; an item with a changed attribute is invalid."""

    name: str
    values: st.SearchStrategy[object]
    read: Callable[[Item], object]
    optional: frozenset[str] = frozenset()
    # These attributes are written for TTL or for people, and are never read.
    unread: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def kind(
    name: str,
    cls: Any,
    drawn: st.SearchStrategy[Any] | None = None,
    *,
    optional: str = "",
    unread: str = "",
    **special: Any,
) -> ItemKind:
    values = built(cls, **special) if drawn is None else drawn
    may_go, ignored = frozenset(optional.split()), frozenset(unread.split())
    return ItemKind(name=name, values=values, read=cls.from_item, optional=may_go, unread=ignored)


KINDS = (
    kind("accepted marker", Marker, ACCEPTED, optional="source sequence reason quarantine"),
    kind("rejected marker", Marker, REJECTED, optional="source sequence reason quarantine"),
    kind("conflict", Conflict),
    kind("commit", CommitRecord, COMMITS, optional="expires_at"),
    kind("fence", CommitRecord, st.builds(CommitRecord, commit_id=NAMES, state=st.just("aborted"))),
    kind("waiting", Waiting, shard=SHARDS),
    kind("pending", Pending, PENDING, optional="hours"),
    kind("pointer", Pointer, optional="run", hour_s=HOURS, run=NAMES | st.just("")),
    kind("published", Published, hour_s=HOURS, shard=SHARDS, run=RUNS, files=FILES),
    kind("planned run", Run, **RUN, state=st.just("planned"), done_at_ms=st.none(), cleaned=st.just(False)),
    kind("done run", Run, **RUN, state=st.just("done"), done_at_ms=NUMBERS, optional="cleaned"),
    kind("period", Period, CLOSED | st.just(Period(month="2026-10", state="closing"))),
    kind("canary run", CanaryRun, slot_s=HOURS, unread="expires_at"),
    kind("watch state", WatchState),
    kind("watch figures", WatchFigures, figures=st.dictionaries(NAMES, st.integers(-(1 << 40), 1 << 40), max_size=3)),
    kind("completeness", Completeness, held_by=HOLDS, optional="held_by measured_s"),
    kind("reconciliation", Reconciliation, optional="gaps_since_s scan_due_s waiting waiting_since_s day_s batches "
         "records batches_before records_before"),
    # If any of these attributes is missing, more data is compared again.
    kind("work list", WorkList, files=st.dictionaries(SOURCES, NUMBERS, max_size=3),
         suspects=st.dictionaries(HOURS, SUSPECTS, max_size=3),
         optional="waiting runs suspects unjudged scan_tries scan_runs"),
    kind("source", SourceState, incredible=st.integers(1, 9), incredible_first=NUMBERS,
         optional="unlisted_gaps unlisted_numbers incredible incredible_first"),
    kind("ruling", Ruling),
    kind("deed", Deed, at_ms=HOURS.map(lambda hour_s: 1000 * hour_s + 7)),
    # Tokens of earlier releases may see costs.
    kind("token", StoredToken, accounts=few(NAMES, least=1), optional="costs"),
    kind("large requests", LargeRequests),
    kind("producer", RegisteredProducer),
    kind("figures of sources", SourceFigures),
    kind("queue memory", QueueMemory),
    kind("held message", HeldMessage, noted_s=HOURS, unread="expires_at"),
    kind("alias", Alias),
    kind(
        "format", LedgerFormat, optional="generation state restorer drop_identity", number=st.just(2),
        usage_generation=st.integers(1, 99),
    ),
    kind("used shards", UsedShards, number=st.integers(1, 64)),
    kind("retry note", RetryNote),
    kind("region", RegionState),
    kind("budget", StoredBudget),
    kind("alert", StoredAlert),
    kind("figures of the biller", BillerFigures, optional="quiet"),
    kind("invoice", IssuedInvoice),
    kind("state of a log source", LogSourceState, optional="first_s newest_s through_s",
         recent=few(st.tuples(NAMES, NUMBERS)).map(dict).map(lambda sums: tuple(sums.items()))),
    kind("ruling on a log source", LogRuling),
    kind("figures of log sources", LogFigures, optional="held_s"),
    kind("sums of a log source", LogSums),
    kind("dropped objects", DroppedObjects, optional="refused_to_s"),
    kind("cleaning", Cleaning, optional="due_ms"),
    kind("figures of the lake", LakeFigures, optional="oldest_ms"),
    kind("passes over orphans", OrphanPasses),
    kind("kinds beyond the cap", KindsBeyondCap, unread="expires_at"),
)  # fmt: skip


def _item(value: object) -> dict[str, Value]:
    made: dict[str, Value] = value.to_item()  # type: ignore[attr-defined]  # all items have it
    return made


def _others(value: object) -> Iterator[object]:
    """Invalid replacements for a written value: values of other types, or values that no code writes."""
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


@pytest.mark.parametrize(("kind", "attribute"), [
    ("accepted marker", "verdict"), ("canary run", "verdict"), ("commit", "state"), ("planned run", "state"),
    ("period", "state"), ("region", "phase"), ("region", "step"),
])  # fmt: skip
@settings(max_examples=25)
@given(data=st.data())
def test_an_unknown_word_is_named_and_never_taken_for_a_known_one(
    kind: str, attribute: str, data: st.DataObject
) -> None:
    [found] = [each for each in KINDS if each.name == kind]
    item = _item(data.draw(found.values))
    item[attribute] = data.draw(st.sampled_from(["opened", "ABORTED", "done ", "x"]))
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


TEXT_FIELDS = dict.fromkeys(("usage_type", "service", "from_location", "to_location"), NAMES)
USAGE_KEYS = st.builds(
    UsageKey, hour_s=HOURS, account_id=st.just("123456789012"), corrects_s=st.none() | HOURS, **TEXT_FIELDS
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


FROZEN_ROWS = built(FrozenRows)


@st.composite
def closed_months(draw: st.DrawFn) -> FrozenMonth:
    starts = sorted(draw(st.sets(HOURS, min_size=1, max_size=2)))
    hours = [FrozenHour(hour_s=hour_s, files=draw(FILES), frozen=draw(FROZEN_ROWS)) for hour_s in starts]
    month = FrozenMonth(month="2027-01", hours=tuple(hours), accounts=draw(FROZEN_ROWS), days=draw(FROZEN_ROWS))
    return month.closed()


KIND_TOTALS = st.dictionaries(USAGE_KEYS.map(lambda key: key.kind), TOTALS, max_size=2)
PLANNED_HOURS = built(PlannedHour, corrects_s=st.none() | HOURS, numbered=KIND_TOTALS, named=KIND_TOTALS)
PLAN_FILES = built(PlanFile, commits=few(NAMES, least=1))
PROBLEMS = few(st.tuples(NAMES, NAMES), least=1)
QUARANTINED = built(QuarantinedBatch, problems=PROBLEMS, sequence=NUMBERS, claim=st.none())
COUNTS = few(st.tuples(NAMES, NUMBERS, NUMBERS), least=1)
PINS = st.dictionaries(HOURS, NAMES, min_size=1, max_size=2)
LOG_PLANS = built(LogPlan, slot_s=NUMBERS, contexts=PINS, shadowed=COUNTS, refusals=COUNTS, others=st.just(NO_OTHERS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One kind of JSON object. `optional` names the members that earlier releases do not write."""

    name: str
    values: st.SearchStrategy[Any]
    read: Callable[[bytes, str], object]
    optional: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def document(name: str, cls: Any, values: st.SearchStrategy[Any], *, optional: str = "") -> Document:
    return Document(name=name, values=values, read=cls.from_json, optional=frozenset(optional.split()))


DOCUMENTS = (
    document("plan", Plan, built(Plan, hours=few(built(PlanHour, files=few(PLAN_FILES, least=1)), least=1))),
    document("closed month", FrozenMonth, closed_months()),
    document("plan of a roll-up", RollupPlan, built(RollupPlan, hours=few(PLANNED_HOURS, least=1))),
    document("quarantined batch", QuarantinedBatch, QUARANTINED),
    document("quarantined log", QuarantinedLog, built(QuarantinedLog, refusals=COUNTS)),
    document("note of a place", Note, built(Note)),
    document("plan of a log file", LogPlan, LOG_PLANS, optional="billed_as others"),
)


@pytest.mark.parametrize("kind", DOCUMENTS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_an_object_comes_back_as_it_was(kind: Document, data: st.DataObject) -> None:
    value = data.draw(kind.values)
    assert kind.read(value.to_json(), "a/key.json") == value


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
    document = json.loads(data.draw(kind.values).to_json())
    place = data.draw(st.sampled_from([place for name in document for place in _places((name,), document[name])]))
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    before = parent[place[-1]]
    # Hourly totals contain the existing hours: removing an hour gives another valid value, and not a damaged value.
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
