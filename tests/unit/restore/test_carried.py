"""A restored ledger has the notes of the old one, or those of the lines in S3, after a kill at any call too."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

import metering
from metering.errors import GenerationError
from metering.ledger import partitions
from metering.ledger.format_version import RESTORED_FORMAT, LedgerFormat
from metering.ledger.notes import money
from metering.ledger.notes.access import RegisteredProducer, Role, StoredToken
from metering.ledger.notes.written import WritingDown
from metering.restore import carried
from metering.restore.carried import BEGUN_ANEW, CARRIED, CARRIED_WHOLE, OFF, Carried, Carrier
from metering.stores.clock import Retrier
from metering.stores.writes import Delete, Item, Key, Put, Table, key_of
from tests.support.memory.clock import ManualClock, SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.small_world import Calls, KilledError

NOW_S = 1_796_083_200
ISSUED = money.IssuedInvoice(
    billing_month="2026-11", payer_id="acme", month="2026-11", number=1, kind="invoice", sha256="a" * 64, issued_s=5
)
Run = Callable[["World"], Carried]


def token(name: str, **changes: str | int) -> Item:
    made = StoredToken(
        token_id=name,
        secret_sha256="0" * 64,
        role=Role.ANALYST,
        accounts=None,
        label="",
        made_by="arn:me",
        made_s=1,
        expires_s=NOW_S + 9,
    )
    return {**made.to_item(), **changes}


def producer(name: str, role_id: str = "AROA1") -> Item:
    return RegisteredProducer(
        name=name,
        role_id=role_id,
        role_arn="arn:role",
        trusted_arn="arn:trusted",
        accounts=None,
        registered_s=1,
        registered_by="arn:me",
    ).to_item()


def note(pk: str, sk: str = "a", **values: str | int) -> Item:
    return {"pk": pk, "sk": sk, **values}


# Items of both ledgers; items of the moment T that the old one has changed or deleted; items that came after T.
KEPT = [token("kept"), note("D#1", "N#000000"), note("W#source", n=1), note("B#b", "M"), note("T#2026-10", "M")]
AT_T = [token("revoked"), token("expired-since"), producer("gone"), note("W#budgets", usd=1), note("W#held", "m1")]
JOBS = [note(pk, str(number)) for pk in BEGUN_ANEW for number in range(2)]
SINCE = [
    token("revoked", revoked_by="arn:boss", revoked_s=7),
    note("W#budgets", usd=2),
    *(note("D#2", f"N#{number:06d}", filling="x" * 30_000) for number in range(150)),
    *(note(pk, "new") for pk in ("W#deed-2026-11", "I#2026-11", "G", "S#kinds", "S#shards", "W#budget-alerts")),
    producer("new"),
    note("W#source", n=2),
    note("B#later", "M"),
]


@dataclass
class World:
    """An old and a new ledger, and the bucket. `calls` are those of the restore."""

    old: MemoryItemStore = field(default_factory=MemoryItemStore)
    new: MemoryItemStore = field(default_factory=MemoryItemStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(1000 * NOW_S))
    calls: Calls = field(default_factory=Calls)

    def __post_init__(self) -> None:
        self.objects = MemoryObjectStore(self.clock)
        own = LedgerFormat(
            number=RESTORED_FORMAT, written_by="1.0.0", usage_generation=1, generation=2, state="adopting"
        )
        self.fill(self.old, *KEPT, *SINCE)
        self.fill(self.new, own.to_item(), *KEPT, *AT_T, *JOBS)

    def fill(self, items: MemoryItemStore | WritingDown, *things: Item) -> None:
        for item in things:
            items.put(Put(table=Table.LEDGER, item=item))

    def written(self) -> WritingDown:
        """Another ledger whose items are written down."""
        return WritingDown(
            items=MemoryItemStore(), objects=lambda: self.objects, clock=self.clock, entropy=SeededEntropy(1)
        )

    def carrier(self, threads: int = 1) -> Carrier:
        for store in (self.old, self.new, self.objects):
            store.on_call, store.on_reply = self.calls.on_call, self.calls.on_reply
        retrier = Retrier(clock=self.clock, entropy=SeededEntropy(1), attempts=1)
        return Carrier(items=self.new, generation=2, clock=self.clock, retrier=retrier, threads=threads)

    def found(self) -> dict[Key, Item]:
        for store in (self.old, self.new, self.objects):
            store.on_call = store.on_reply = lambda _call: None
        return {key_of(item): item for item in self.new.scan(Table.LEDGER)}


def from_table(world: World) -> Carried:
    return world.carrier().from_table(world.old)


def with_lines() -> World:
    """A world whose bucket has lines, but not about everything."""
    world = World()
    written = world.written()
    world.fill(written, token("revoked"), producer("new"), producer("gone"), note("W#deed-2026-11", "x", state="begun"))
    world.clock.advance_s(1)
    world.fill(written, token("revoked", revoked_by="arn:boss", revoked_s=7), note("W#deed-2026-11", "x", state="ok"))
    world.fill(written, token("expired-since", expires_at=NOW_S - 1), note("G", "eu-west-1"))
    written.delete(Delete(table=Table.LEDGER, key=key_of(producer("gone"))))
    world.fill(world.new, producer("unknown"), token("off", revoked_by="arn:old", revoked_s=3))
    return world


def from_lines(world: World) -> Carried:
    return world.carrier().from_lines(world.objects, iter([ISSUED]))


def test_items_of_the_old_ledger_replace_those_of_the_moment_and_jobs_begin_anew() -> None:
    world = World()
    done = world.carrier(threads=4).from_table(world.old)
    found = world.found()
    left = [item for item in SINCE if item not in (note("W#source", n=2), note("B#later", "M"))]
    assert found == {
        Key("S#format", "S"): found[Key("S#format", "S")],
        **{key_of(item): item for item in (*KEPT, *left)},
    }
    assert (done.put, done.deleted, done.begun_anew) == (len(left), 3, len(JOBS))
    assert from_table(world) == Carried(put=0, deleted=0, begun_anew=0)


def test_without_the_old_ledger_the_newest_lines_count_and_what_has_none_is_off() -> None:
    world = with_lines()
    done = from_lines(world)
    found = world.found()
    assert found[key_of(token("revoked"))]["revoked_by"] == "arn:boss"
    assert key_of(token("expired-since")) not in found
    assert key_of(producer("gone")) not in found
    assert found[Key("W#deed-2026-11", "x")]["state"] == "ok"
    assert found[Key("G", "eu-west-1")] == note("G", "eu-west-1")
    assert found[key_of(producer("new"))] == producer("new")
    # What cannot be confirmed by a line is off, and named; what was off before is not.
    assert done.unconfirmed == ("token kept", "producer unknown")
    assert not StoredToken.from_item(found[key_of(token("kept"))]).good_at(NOW_S)
    assert RegisteredProducer.from_item(found[key_of(producer("unknown"))]).role_id == OFF
    assert found[key_of(token("off"))]["revoked_by"] == "arn:old"
    # What has no line otherwise is as of the moment.
    assert found[Key("W#budgets", "a")]["usd"] == 1
    assert money.IssuedInvoice.from_item(found[ISSUED.key]) == ISSUED
    assert money.BillerFigures.from_item(found[money.BILLER_KEY]).quiet
    assert not [item for item in found.values() if item["pk"] in set(BEGUN_ANEW) - {money.BILLER_KEY.pk}]
    assert from_lines(world).unconfirmed == done.unconfirmed


def test_a_document_that_was_issued_is_not_issued_again() -> None:
    world = with_lines()
    world.fill(world.new, {**ISSUED.to_item(), "issued_s": 4})
    from_lines(world)
    assert world.found()[ISSUED.key]["issued_s"] == 4


@pytest.mark.parametrize(("made", "run"), [(World, from_table), (with_lines, from_lines)])
def test_every_call_may_be_the_last_and_a_repetition_ends_the_same(made: Callable[[], World], run: Run) -> None:
    whole = made()
    run(whole)
    expected = whole.found()
    # Items that no list names are many, and alike.
    for place in (*range(40), *range(40, len(whole.calls.names), 7), len(whole.calls.names) - 1):
        for faults in ("before", "after"):
            world = made()
            getattr(world.calls, faults)[place] = KilledError()
            with suppress(KilledError):
                run(world)
            getattr(world.calls, faults).clear()
            names = run(world).unconfirmed
            assert world.found() == expected, f"{faults} call {place}, {whole.calls.names[place]}"
            assert names == (() if run is from_table else ("token kept", "producer unknown"))


@pytest.mark.parametrize("run", [from_table, from_lines])
def test_a_late_restorer_changes_nothing_in_a_ledger_that_is_open(run: Run) -> None:
    world = with_lines()
    key = Key("S#format", "S")
    world.fill(world.new, {name: value for name, value in world.found()[key].items() if name != "state"})
    before = world.found()
    with pytest.raises(GenerationError, match="generation 2 is not being restored"):
        run(world)
    assert world.found() == before


def decided() -> Iterator[tuple[str, str]]:
    """Each partition of the table of `carried`, and what becomes of it."""
    for line in (carried.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`([A-Z](?:#[^`]*)?)`", cells[0]) if len(cells) == 3 else ():
            yield name, cells[1]


def begins(name: str) -> str:
    """The fixed part of a partition's name, such as `W#deed-` of `W#deed-<month>`."""
    return name.partition("<")[0]


def test_it_is_decided_of_each_partition_what_becomes_of_it() -> None:
    table = [name for name, _ in decided()]
    assert len(set(table)) == len(table)
    listed = re.findall(r"^\| `([^`]+)`", partitions.__doc__ or "", re.MULTILINE)
    sources = "\n".join(path.read_text() for path in Path(metering.__file__).parent.rglob("*.py"))
    notes = [f"W#{kind}" for kind in re.findall(r'f"\{(?:partitions\.)?NOTE\}([a-z][a-z-]*[a-z-])', sources)]
    assert len(listed) > 15
    assert len(notes) > 25
    assert {begins(name) for name in (*listed, *notes)} - {"W#"} == {begins(name) for name in table}


def test_the_lists_are_those_of_the_table() -> None:
    becomes = {"carried": set(CARRIED), "begun anew": set(BEGUN_ANEW)}
    for word, names in becomes.items():
        assert {begins(name) for name, became in decided() if became == word} == names
    assert set(CARRIED_WHOLE) < set(CARRIED)
    assert {became for _, became in decided()} == {*becomes, "as of T"}


def test_items_too_large_for_one_transaction_are_put_in_several() -> None:
    world, numbers = World(), count()
    world.fill(world.old, *(note("W#budgets", f"b{next(numbers):03d}", text="x" * 300_000) for _ in range(20)))
    assert from_table(world).put == len(SINCE) - 2 + 20
