"""Exports of AWS's own bill: each content is compared once, however it is delivered and wherever a run is killed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from metering.billing.bill_export import BillCheck, BillExport, decode_exports, encode_exports
from metering.billing.usage.months import UsageLine
from metering.errors import OperationFailedError, ThrottledError, UnavailableError
from metering.hours import month_bounds_s
from metering.ledger.notes.money import BILL_LIFE_S, BILL_PATIENCE_S, BillCheckState, BillState, bill_checks
from metering.reports.bills import bill_checks_answer
from metering.stores.writes import Table
from metering.units import DAY_S
from tests.support.bills import Line, quantity_of, write_bill
from tests.support.memory.clock import DeadlineAt, ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.small_world import Calls, KilledError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from metering.billing.budgets.open_months import ReadRegion
    from metering.reports.answer import Json

MONTH = "2026-11"
FIRST_S = month_bounds_s(MONTH)[0]
NOW_S = FIRST_S + 20 * DAY_S
WHO, OTHER, OUT = "012345678901", "210987654321", "USW2-DataTransfer-Out-Bytes"
EXPORT = BillExport(
    bucket="acme-billing", region="us-east-1", prefix="exports/metering", format="cur2", tolerance=("1%", "10MB")
)
ROOT_KEY = "exports/metering/"
MANIFEST = f"{ROOT_KEY}metadata/BILLING_PERIOD={MONTH}/metering-Manifest.json"
GB = 2**30


@dataclass
class Region:
    """A `ReadRegion` with the metered bytes of one account's days."""

    region: str = "us-west-2"
    metered: dict[tuple[str, int], int] = field(default_factory=dict)
    whole_s: int | None = NOW_S - 2 * DAY_S

    @property
    def index(self) -> Any:
        return SimpleNamespace(days={day_s: "key" for _, day_s in self.metered})

    def last_whole_day(self) -> int | None:
        return self.whole_s

    def month(self, month: str) -> Any:
        assert month == MONTH
        return SimpleNamespace(
            day_lines=lambda: (
                UsageLine(day_s, who, cast("Any", "AmazonEC2"), cast("Any", OUT), "us-west-2", "internet", size)
                for (who, day_s), size in self.metered.items()
            )
        )


@dataclass
class World:
    """A bucket with an export of November, and what was metered of it. Mutable."""

    tmp_path: Path
    export: BillExport = EXPORT
    form: str = "CUR 2.0"
    suffix: str = ".csv.gz"
    clock: ManualClock = field(default_factory=lambda: ManualClock(1000 * NOW_S))
    items: MemoryItemStore = field(default_factory=MemoryItemStore)
    region: Region = field(default_factory=Region)
    left_out: tuple[str, ...] = ()
    explained: Any = nullcontext
    remaining_ms: int = 800_000

    def __post_init__(self) -> None:
        self.bucket = MemoryObjectStore(self.clock)
        self.region.metered = {(WHO, FIRST_S + day * DAY_S): (day + 1) * GB for day in range(18)}

    def lines(self, *, days: int = 19) -> list[Line]:
        return [Line(WHO, OUT, FIRST_S + day * DAY_S, quantity_of((day + 1) * GB)) for day in range(days)]

    def deliver(self, *parts: Sequence[Line], manifest: str = MANIFEST, keys: Sequence[str] = ()) -> None:
        names = [f"{ROOT_KEY}data/BILLING_PERIOD={MONTH}/metering-{n:05d}{self.suffix}" for n in range(len(parts))]
        for name, lines in zip(names, parts, strict=True):
            path = write_bill(self.tmp_path / f"bill{self.suffix}", lines, self.form)
            self.bucket.put(name, path.read_bytes(), if_absent=False)
        uris = [f"s3://{self.export.bucket}/{key}" for key in (keys or names)]
        self.clock.advance_s(1)
        body = json.dumps({"executionId": str(self.clock.now_ms()), "dataFiles": uris})
        self.bucket.put(manifest, body.encode(), if_absent=False)

    @property
    def check(self) -> BillCheck:
        return BillCheck(
            export=self.export,
            bucket=self.bucket,
            items=self.items,
            regions=lambda: ([cast("ReadRegion", self.region)], self.left_out),
            explained=self.explained,
            clock=self.clock,
        )

    def run(self) -> BillCheckState:
        found = self.check.run(DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + self.remaining_ms))
        assert bill_checks(self.items) == [found]
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize(("form", "name"), [("CUR 2.0", "cur2"), ("FOCUS", "focus")])
def test_a_bill_that_agrees_has_no_row_beyond_the_tolerance(tmp_path: Path, form: str, name: str, suffix: str) -> None:
    world = World(tmp_path, form=form, suffix=suffix, export=replace(EXPORT, format=name))
    lines = world.lines()
    world.deliver(lines[:9], lines[9:])
    found = world.run()
    assert (found.state, found.compared_s) == (BillState.COMPARED, world.clock.now_ms() // 1000)
    month = found.months[MONTH]
    # Lines of a day may come for two days.
    assert (month.from_day, month.to_day, month.rows, month.beyond) == ("2026-11-01", "2026-11-19", 18, 0)
    assert month.billed == month.metered == sum(range(1, 19)) * GB
    assert found.problems(NOW_S) == 0


def test_what_differs_is_named_with_day_account_and_bytes_and_raises_the_figure(world: World) -> None:
    world.region.metered[WHO, FIRST_S + 3 * DAY_S] = 5 * GB
    del world.region.metered[WHO, FIRST_S + 8 * DAY_S]
    world.deliver(world.lines())
    found = world.run()
    month = found.months[MONTH]
    assert [(each.day, each.billed, each.metered) for each in month.differences] == [
        ("2026-11-09", 9 * GB, 0),
        ("2026-11-04", 4 * GB, 5 * GB),
    ]
    assert (month.beyond, found.problems(NOW_S)) == (2, 2)
    assert month.why == "2 of 18 rows differ by more than is tolerated."
    answer = bill_checks_answer([found])
    assert answer.footer[1].startswith(f"2026-11-09 {WHO} {OUT}: billed 9,663,676,416 bytes = 9.00 GB")
    looks = cast("list[dict[str, Json]]", answer.meta["exports"])
    assert looks[0]["state"] == "compared"


def test_a_content_is_compared_once_and_a_rewritten_one_again(world: World) -> None:
    world.deliver(world.lines())
    first = world.run()
    read: list[str] = []
    world.bucket.on_call = read.append
    world.clock.advance_s(3_600)
    again = world.run()
    assert again.months == first.months
    assert not [name for name in read if name.startswith(("objects.open", "objects.get"))]
    assert again.looked_s == first.looked_s + 3_600

    world.bucket.on_call = lambda _: None
    world.deliver([*world.lines(), Line(WHO, OUT, FIRST_S, "3")])
    later = world.run()
    assert later.months[MONTH].beyond == 1
    # Another tolerance is another comparison of the same content.
    world.export = replace(EXPORT, tolerance=("1000%",))
    assert world.run().months[MONTH].beyond == 0


def test_usage_that_comes_late_is_compared_a_day_later_with_the_same_content(world: World) -> None:
    late = {key: world.region.metered.pop(key) for key in [(WHO, FIRST_S + 2 * DAY_S), (WHO, FIRST_S + 7 * DAY_S)]}
    world.deliver(world.lines())
    assert world.run().months[MONTH].beyond == 2
    world.region.metered |= late
    world.clock.advance_s(19 * 3_600)
    assert world.run().months[MONTH].beyond == 2
    world.clock.advance_s(2 * 3_600)
    assert world.run().months[MONTH].beyond == 0


def test_of_executions_beside_each_other_the_newest_counts(world: World) -> None:
    for name, lines in (("b", world.lines()), ("a", [*world.lines(), Line(WHO, OUT, FIRST_S, "9")])):
        world.deliver(lines, manifest=f"{ROOT_KEY}metadata/billing_period={MONTH}/{name}/metering-Manifest.json")
    assert world.run().months[MONTH].beyond == 1


def test_a_file_that_is_not_there_or_newer_than_its_manifest_is_waited_for(world: World) -> None:
    world.deliver(world.lines(), keys=[f"{ROOT_KEY}data/missing.csv.gz"])
    found = world.run()
    assert (found.state, found.months) == (BillState.WAITING, {})
    assert "is being written" in found.why
    world.deliver(world.lines())
    kept = world.run()
    world.clock.advance_s(60)
    name = f"{ROOT_KEY}data/BILLING_PERIOD={MONTH}/metering-00000.csv.gz"
    world.bucket.put(name, world.bucket.get(name), if_absent=False)
    world.export = replace(EXPORT, tolerance=("0",))
    waiting = world.run()
    assert (waiting.state, waiting.months) == (BillState.WAITING, kept.months)
    assert "newer than its manifest" in waiting.why


def test_an_export_that_is_written_anew_while_it_is_read_is_waited_for(world: World) -> None:
    world.deliver(world.lines())
    opened: list[str] = []

    def rewrite(call: str) -> None:
        if call == "objects.open" and not opened:
            opened.append(call)
            world.deliver([*world.lines(), Line(WHO, OUT, FIRST_S, "9")])

    world.bucket.on_call = rewrite
    assert world.run().state is BillState.WAITING
    assert world.run().months[MONTH].beyond == 1


def denied() -> Any:
    @contextmanager
    def explained() -> Iterator[None]:
        raise OperationFailedError("ListObjectsV2 was refused: no.", "Use other credentials.")
        yield

    return explained


def other_bucket(world: World) -> None:
    world.bucket.put(MANIFEST, b'{"dataFiles": ["s3://secrets/exports/metering/a.csv"]}', if_absent=False)


def outside(world: World) -> None:
    world.deliver(world.lines(), keys=["exports/other/a.csv"])


def delivered(*, damaged: bytes = b"", packed: bool = False, **changes: object) -> Callable[[World], None]:
    """Change attributes of the world or of its region, deliver the export, and damage its first file."""

    def do(world: World) -> None:
        for name, value in changes.items():
            setattr(world if hasattr(world, name) else world.region, name, value)
        world.deliver(world.lines())
        if damaged:
            damage(world, damaged, packed=packed)

    return do


STATES: list[tuple[BillState, str, Any]] = [
    (BillState.ABSENT, "is no manifest of this month or the last one", lambda world: None),
    (BillState.REFUSED, "policy", lambda world: setattr(world, "explained", denied())),
    (BillState.UNREADABLE, "no list of data files", lambda world: world.bucket.put(MANIFEST, b"{}", if_absent=True)),
    (BillState.UNREADABLE, "no list of data files", lambda world: world.bucket.put(MANIFEST, b"x", if_absent=True)),
    (BillState.UNREADABLE, "outside of acme-billing/exports/metering", other_bucket),
    (BillState.UNREADABLE, "outside of acme-billing/exports/metering", outside),
    (BillState.UNREADABLE, "columns are those of FOCUS", delivered(form="FOCUS")),
    (BillState.UNREADABLE, "with these columns", delivered(damaged=b"line_item_usage_type,x\na,b\n")),
    (BillState.UNREADABLE, "read to its end", delivered(damaged=gzip.compress(b"a" * 10_000)[:40], packed=True)),
    (BillState.UNREADABLE, "1 lines of data transfer cannot be read", lambda world: world.deliver(
        [*world.lines(), Line(WHO, OUT, FIRST_S, "1", unit="Requests")])),
    (BillState.ABSENT, "None of the 1 lines of 2026-11 is data transfer", lambda world: world.deliver(
        [Line(WHO, "BoxUsage:m5.large", FIRST_S, "1", unit="Hrs")])),
    (BillState.OTHER_ACCOUNTS, "None of the 1 accounts of the bill is metered", lambda world: world.deliver(
        [Line(OTHER, OUT, FIRST_S + day * DAY_S, "1") for day in range(19)])),
    (BillState.OTHER_ACCOUNTS, "account that is compared", delivered(export=replace(EXPORT, accounts=(OTHER,)))),
    (BillState.WAITING, "No day sums of eu-west-1", delivered(left_out=("eu-west-1",))),
    (BillState.WAITING, "No whole day", delivered(whole_s=None)),
    (BillState.WAITING, "is complete both here and in the export yet", lambda world: world.deliver(
        world.lines(days=1))),
]  # fmt: skip


def damage(world: World, body: bytes, *, packed: bool = False) -> None:
    """Replace the first data file by something that was put before the manifest."""
    name = f"{ROOT_KEY}data/BILLING_PERIOD={MONTH}/metering-00000.csv.gz"
    world.bucket.put(name, body if packed else gzip.compress(body), if_absent=False)
    world.clock.advance_s(1)
    world.bucket.put(MANIFEST, world.bucket.get(MANIFEST) + b" ", if_absent=False)


@pytest.mark.parametrize(("state", "words", "prepare"), STATES)
def test_each_way_to_fail_is_a_state_with_a_sentence(world: World, state: BillState, words: str, prepare: Any) -> None:
    prepare(world)
    found = world.run()
    assert (found.state, found.compared_s) == (state, 0)
    assert words in found.why
    # Nobody is told before three days have passed, because AWS delivers once a day.
    assert found.problems(NOW_S + BILL_PATIENCE_S) == 0
    assert replace(found, looked_s=NOW_S + BILL_PATIENCE_S + 60).problems(NOW_S + BILL_PATIENCE_S + 60) == 1
    assert found.problems(NOW_S + BILL_LIFE_S + 60) == 0


def test_a_read_that_s3_denies_is_refused_and_one_that_fails_ends_the_run(world: World) -> None:
    world.deliver(world.lines())

    def fail(error: Exception) -> Any:
        def at(call: str) -> None:
            if call == "objects.get":
                raise error

        return at

    world.bucket.on_call = fail(UnavailableError("s3.GetObject", "AccessDenied: a", may_have_applied=False))
    found = world.run()
    assert (found.state, "AccessDenied: a cannot be read" in found.why) == (BillState.REFUSED, True)
    for error in (ThrottledError("s3.GetObject", "SlowDown", may_have_applied=False), UnavailableError("s3.X", "503")):
        world.bucket.on_call = fail(error)
        with pytest.raises(UnavailableError):
            world.run()
    world.bucket.on_call = lambda _: None
    assert world.run().state is BillState.COMPARED


def test_an_export_that_no_run_can_read_in_time_is_too_large_and_is_not_read_each_hour(world: World) -> None:
    world.deliver(world.lines() * 600)
    world.remaining_ms = 100_000
    assert world.run().state is BillState.TOO_LARGE
    world.remaining_ms = 800_000
    again = world.run()
    assert (again.state, again.months[MONTH].state) == (BillState.TOO_LARGE, BillState.TOO_LARGE)


def test_accounts_of_the_bill_that_are_not_metered_are_told_unless_they_were_asked_for(world: World) -> None:
    lines = [*world.lines(), *(Line(OTHER, OUT, FIRST_S + day * DAY_S, "1") for day in range(19))]
    world.deliver(lines)
    found = world.run().months[MONTH]
    assert (found.beyond, found.rows) == (0, 18)
    assert "1 accounts of the bill are not metered here" in found.why
    world.export = replace(EXPORT, accounts=(WHO, OTHER))
    assert world.run().months[MONTH].beyond == 18


def test_every_call_of_the_job_may_be_its_last(tmp_path: Path) -> None:
    def watched() -> tuple[World, Calls]:
        world, calls = World(tmp_path), Calls()
        world.region.metered[WHO, FIRST_S] = 9 * GB
        world.deliver(world.lines()[:9], world.lines()[9:])
        for store in (world.items, world.bucket):
            store.on_call, store.on_reply = calls.on_call, calls.on_reply
        return world, calls

    world, calls = watched()
    expected = world.check.run(DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms() + 800_000))
    names = list(calls.names)
    assert "items.put" in names
    assert "objects.open" in names
    for place in range(len(names)):
        for after in (False, True):
            world, calls = watched()
            (calls.after if after else calls.before)[place] = KilledError()
            with suppress(KilledError):
                world.run()
            calls.before, calls.after = {}, {}
            world.items.on_call = world.bucket.on_call = lambda _: None
            assert world.run() == expected, f"{'after' if after else 'before'} call {place}, {names[place]}"


def test_exports_survive_their_way_through_the_environment() -> None:
    exports = (EXPORT, replace(EXPORT, format="focus", accounts=(WHO,)))
    assert decode_exports(encode_exports(exports)) == exports
    with pytest.raises((TypeError, ValueError)):
        decode_exports('[{"bucket": "b"}]')


def test_the_state_expires_and_no_state_is_no_figure(world: World) -> None:
    assert bill_checks(world.items) == []
    world.run()
    [item] = world.items.everything(Table.LEDGER)
    assert item["expires_at"] == NOW_S + BILL_LIFE_S
