"""Every write of an item that nothing else brings back is written down in S3 first, and the newest line counts."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import metering
from metering.billing.budgets.budget import BudgetStore, Scope, budget_of
from metering.billing.budgets.messages import AlertBook, alert_of
from metering.errors import ObjectDamagedError, UnavailableError
from metering.fleet.regions import LedgerRegionStates, RegionState
from metering.ledger.commits import SHARDS_KEY
from metering.ledger.notes import access, deeds, money, saved
from metering.ledger.notes.log_sources import LOG_RULING_PK
from metering.ledger.notes.reconciliation import RULING_PK
from metering.ledger.notes.written import WRITTEN_DOWN, WritingDown, is_written_down, newest_lines
from metering.ledger.partitions import REGIONS
from metering.operations.access import TokenBook
from metering.stores.objects import NOTES_PREFIX, note_key
from metering.stores.writes import Absent, Check, Delete, Exists, Item, Key, Put, Table, Update
from metering.units import DAY_S
from tests.support.memory.clock import ManualClock, MemoryAlerts, SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

NOW_MS = 1_796_083_200_000
ARN = "arn:aws:iam::123456789012:user/ann"
MARKER = {"pk": "B#edge/1", "sk": "M", "state": "accepted"}


class Stage:
    """Items that are written down, with the stores behind them."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_MS)
        self.table = MemoryItemStore()
        self.objects = MemoryObjectStore(self.clock)
        self.items = WritingDown(
            items=self.table, objects=lambda: self.objects, clock=self.clock, entropy=SeededEntropy(1)
        )

    def lines(self) -> list[Item]:
        return [json.loads(self.objects.get(info.key)) for info in self.objects.list(NOTES_PREFIX)]

    def newest(self) -> dict[Key, Item | None]:
        return dict(newest_lines(self.objects, threads=1))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def written(stage: Stage) -> Iterator[None]:
    """Writes of every kind, each of which is one step."""
    tokens = TokenBook(items=stage.items, clock=stage.clock)
    made = tokens.create(role=access.Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN)
    yield
    tokens.revoke(made.stored.token_id, revoked_by=ARN)
    yield
    budgets = BudgetStore(items=stage.items, clock=stage.clock)
    budgets.set(budget_of("egress", amount="1 USD", thresholds=["actual 80%"], scope=Scope(region="eu-west-1")))
    yield
    budgets.remove("egress")
    yield
    alerts = AlertBook(items=stage.items, alerts=MemoryAlerts(), clock=stage.clock)
    alert = alert_of(("a",), period="2026-11", severity="ticket", subject="s", fields={}, made_s=1)
    assert alerts.make(alert)
    yield
    assert [each.id for each in alerts.send("2026-11")] == [alert.id]
    assert not alerts.make(alert)
    yield
    LedgerRegionStates(lambda: stage.items).save(RegionState(region="eu-west-1"))
    yield


def test_each_write_has_a_line_with_the_item_as_it_then_is(stage: Stage) -> None:
    for number, _ in enumerate(written(stage), start=1):
        stage.clock.advance_s(1)
        assert len(stage.lines()) == number
        kept = {Key(str(item["pk"]), str(item["sk"])): item for item in stage.table.scan(Table.LEDGER)}
        assert {key: item for key, item in stage.newest().items() if item is not None} == kept


def test_a_write_whose_line_fails_changes_nothing_and_can_be_repeated(stage: Stage) -> None:
    def silent(_call: str) -> None:
        raise UnavailableError("s3.PutObject", "no answer", may_have_applied=False)

    put = Put(table=Table.LEDGER, item={"pk": money.BUDGETS_PK, "sk": "egress"})
    items, delete = stage.items, Delete(table=Table.LEDGER, key=put.key)
    for write in (partial(items.put, put), partial(items.transact, [put]), partial(items.delete, delete)):
        before = list(stage.table.scan(Table.LEDGER))
        stage.objects.on_call = silent
        with pytest.raises(UnavailableError):
            write()
        assert list(stage.table.scan(Table.LEDGER)) == before
        stage.objects.on_call = lambda _call: None
        write()


def test_the_hot_path_puts_no_line_and_no_other_write_of_a_note_is_accepted(stage: Stage) -> None:
    def never(_call: str) -> None:
        raise AssertionError

    stage.objects.on_call = never
    stage.items.put(Put(table=Table.LEDGER, item=MARKER, condition=Absent()))
    stage.items.update(Update(table=Table.LEDGER, key=SHARDS_KEY, set={"number": 2}))
    check = Check(table=Table.LEDGER, key=Key(REGIONS, "eu-west-1"), condition=Absent())
    stage.items.transact([check, Put(table=Table.LEDGER, item={**MARKER, "sk": "X"})])
    stage.items.delete(Delete(table=Table.LEDGER, key=Key("B#edge/1", "X"), condition=Exists()))
    keys = [Key("B#edge/1", "M"), Key("B#edge/1", "X")]
    assert stage.items.get_many(Table.LEDGER, keys) == {keys[0]: MARKER}
    assert list(stage.items.scan(Table.LEDGER, prefixes=["B#"])) == [MARKER]
    with pytest.raises(TypeError, match="put whole"):
        stage.items.update(Update(table=Table.LEDGER, key=access.token_key("a"), set={"revoked_s": 1}))


def test_the_newest_line_of_s3_counts_even_if_the_clock_of_its_writer_was_wrong(stage: Stage) -> None:
    items = replace(stage.items, clock=ManualClock(NOW_MS - 3_600_000))
    for name in ("edge", "x" * 300, "x" * 299 + "y", "a/b #ü"):
        stage.items.put(Put(table=Table.LEDGER, item={"pk": access.PRODUCERS_PK, "sk": name}))
    stage.clock.advance_s(1)
    items.delete(Delete(table=Table.LEDGER, key=access.producer_key("edge")))
    found = {key.sk: item is not None for key, item in newest_lines(stage.objects, threads=4)}
    assert found == {"edge": False, "x" * 300: True, "x" * 299 + "y": True, "a/b #ü": True}
    assert all(len(info.key) < 400 and info.key.isascii() for info in stage.objects.list(NOTES_PREFIX))


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"pk": "K#tokens"}', b'{"pk": "B#a", "sk": "M"}'])
def test_a_line_that_is_none_is_named(stage: Stage, body: bytes) -> None:
    name = note_key(access.TOKENS_PK, "a", NOW_MS, "0" * 32)
    stage.objects.put(name, body, if_absent=True)
    with pytest.raises(ObjectDamagedError, match=name):
        stage.newest()


def test_the_partitions_are_those_of_the_items() -> None:
    partitions = (
        access.TOKENS_PK, access.PRODUCERS_PK, money.BUDGETS_PK, money.ALERTS_PK, saved.QUESTIONS_PK, RULING_PK,
        LOG_RULING_PK,
    )  # fmt: skip
    assert (*partitions, REGIONS) == WRITTEN_DOWN
    assert is_written_down(deeds.deeds_pk(NOW_MS))
    assert not is_written_down(money.BILLER_KEY.pk)


def test_whoever_opens_a_ledger_writes_these_items_down() -> None:
    package = Path(metering.__file__).parent
    opening = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"(?<!class )DynamoDbItemStore\(", path.read_text()) and "WritingDown(" not in path.read_text()
    }
    # One only reads, the other has a table of its own.
    assert opening == {"adapters/aws/deployed_regions.py", "adapters/aws/doctor.py"}
