"""Benchmark of the biller on one core: one run after an hour of traffic, with late rows of earlier days.

The region starts with a month of usage: day sums of 10,000 accounts with 20 usage kinds each. The compactor then
publishes an hour of all accounts in four files, and late rows of the three preceding days. The run counts these rows,
and evaluates budgets of the payer, of one account and of a region. Each size runs in its own process, whose peak memory
is printed. A tenth of the accounts should take about a tenth of the time, and never more memory.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from metering.billing.budgets.biller import Biller, BillerResult, Home
from metering.billing.budgets.budget import BudgetStore, Scope, budget_of
from metering.billing.budgets.open_months import Terms
from metering.billing.day_sums.keeper import DaySumKeeper
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.store import Overrides, sample_book
from metering.hours import month_bounds_s
from metering.lake.parquet.reader import ParquetLakeReader, ParquetTotals
from metering.lake.parquet.usage_files import usage_table, usage_writer
from metering.lake.plan import Plan, PlanFile, PlanHour
from metering.ledger.booked_hours import LakeFile, Published
from metering.ledger.notes.watch import Completeness
from metering.ledger.runs import Run, lake_chain
from metering.stores.objects import lake_file_key, plan_key, summary_key
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MIB
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.budget_world import OwnSums
from tests.support.memory.clock import DeadlineAt, ManualClock, MemoryAlerts
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

_ACCOUNTS = 10_000
_KINDS = 20
_DAYS = 24
_FILES = 4
_FIRST_S, _ = month_bounds_s("2026-11")
_NOW_S = _FIRST_S + (_DAYS - 1) * DAY_S + 13 * HOUR_S
_PAYER = "999999999999"
_REGION = "us-east-1"
# Limits for a run at the target, in seconds of one core and in MiB, and the factor of time for ten times the accounts.
_MOST_S = 60.0
_MOST_MIB = 900
_MOST_SLOPE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured run: its seconds of CPU time, and its process's peak memory."""

    accounts: int
    first_s: float
    run_s: float
    mib: int


class _Bench:
    """An in-memory region with the requested number of accounts."""

    def __init__(self, accounts: int) -> None:
        self.accounts = [f"{number:012d}" for number in range(1, accounts + 1)]
        self.clock = ManualClock(_NOW_S * 1000)
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(self.clock)
        self.runs = 0
        self.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=_NOW_S - HOUR_S).to_item()))
        store = BudgetStore(items=self.items, clock=self.clock)
        for name, scope in (
            ("payer", Scope(payer=_PAYER)),
            ("account", Scope(account=self.accounts[0])),
            ("region", Scope(payer=_PAYER, region=_REGION)),
        ):
            store.set(budget_of(name, amount="9000000 USD", thresholds=["actual 80%", "forecast 100%"], scope=scope))

    def publish(self, hour_s: int, accounts: Sequence[str], *, files: int = 1) -> None:
        """Write the compactor's objects for an hour: a run, its plan, and its files' totals."""
        self.runs += 1
        made = [self._file(hour_s, accounts, number) for number in range(files)]
        key = plan_key(lake_chain(0), self.runs, f"{self.runs:032x}")
        planned = tuple(PlanFile(commits=(f"c{number}",), rows=f.rows, bytes=f.bytes) for number, f in enumerate(made))
        plan = Plan(shard=0, hours=(PlanHour(hour_s=hour_s, files=planned),), last=())
        self.objects.put(key, plan.to_json(), if_absent=True)
        published = Published(hour_s=hour_s, shard=0, run=self.runs, files=tuple(made))
        now_ms, chain = _NOW_S * 1000, lake_chain(0)
        run = Run(chain=chain, number=self.runs, state="done", plan_key=key, planned_at_ms=now_ms, done_at_ms=now_ms)
        for item in (published.to_item(), run.to_item()):
            self.items.put(Put(table=Table.LEDGER, item=item))

    def _file(self, hour_s: int, accounts: Sequence[str], number: int) -> LakeFile:
        total = Total(MIB * (number + 1), 1)
        rows = [
            (UsageKey(hour_s, account_id, UsageType(usage_type), Service(service), _REGION, place), total)
            for account_id in accounts
            for usage_type, service, place in _kinds()
        ]
        key = lake_file_key(hour_s, 0, self.runs, number)
        sink = io.BytesIO()
        with usage_writer(sink) as writer:
            writer.write_table(usage_table(rows))
        self.objects.put(summary_key(key), sink.getvalue(), if_absent=True)
        return LakeFile(key=key, rows=len(rows), bytes=len(rows) * total.bytes)

    def bill(self) -> BillerResult:
        """Run the biller once, as its function does."""
        totals = ParquetTotals(self.objects, ParquetLakeReader(self.objects))
        members = tuple(Membership(account_id, 0, None) for account_id in self.accounts)
        payer = Payer(payer_id=_PAYER, name="Bench", issuer="metering", members=members)
        terms = Terms(
            book=replace(sample_book(), name="aws-list"),
            overrides=Overrides(),
            organization=Organization(version=1, payers=(payer,), sha256="bench"),
        )
        home = Home(
            objects=self.objects,
            alerts=MemoryAlerts(),
            regions=lambda: [OwnSums(region=_REGION, objects=self.objects, totals=totals)],
            terms=lambda: terms,
        )
        keeper = DaySumKeeper(items=self.items, objects=self.objects, totals=totals, clock=self.clock, shards=1)
        biller = Biller(items=self.items, keeper=keeper, clock=self.clock, stage="bench", region=_REGION, home=home)
        return biller.run(DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 900_000))


def _kinds() -> list[tuple[str, str, str]]:
    services = ("AmazonEC2", "AmazonS3", "AWSELB", "AmazonRDS")
    ways = (
        ("DataTransfer-Out-Bytes", "internet"),
        ("DataTransfer-In-Bytes", "internet"),
        ("DataTransfer-Regional-Bytes", "us-east-1/use1-az2"),
        ("USE1-USW2-AWS-Out-Bytes", "us-west-2"),
        ("CloudFront-Out-Bytes", "cloudfront"),
    )
    return [(usage_type, service, place) for service in services for usage_type, place in ways][:_KINDS]


def measured(accounts: int) -> Figure:
    """Measure one size in this process."""
    bench = _Bench(accounts)
    # Tiers begin on the first day, so its hours are read, and all of its hours have usage.
    for hour in range(24):
        bench.publish(_FIRST_S + hour * HOUR_S, bench.accounts)
    for day in range(1, _DAYS):
        bench.publish(_FIRST_S + day * DAY_S, bench.accounts)
    began = time.process_time()
    bench.bill()
    first_s = time.process_time() - began
    bench.publish(_NOW_S - HOUR_S, bench.accounts, files=_FILES)
    for days in range(1, 4):
        bench.publish(_NOW_S - days * DAY_S, bench.accounts[::10])
    began = time.process_time()
    result = bench.bill()
    run_s = time.process_time() - began
    if (result.files, result.budgets) != (_FILES + 3, 3):
        raise SystemExit(f"the run counted {result.files} files and judged {result.budgets} budgets")
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Figure(accounts=accounts, first_s=first_s, run_s=run_s, mib=peak_kib // 1024)


def apart(accounts: int) -> Figure:
    """Measure one size in a separate process."""
    line = [sys.executable, "-m", "load_tests.billing.bench_biller", "--accounts", str(accounts)]
    said = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return Figure(**said)


def main() -> int:
    """Print the figures. Returns 0 if every target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=0, help="measure one size in this process, as JSON")
    asked = parser.parse_args()
    if asked.accounts:
        print(json.dumps(asdict(measured(asked.accounts))))
        return 0
    figures = [apart(_ACCOUNTS // part) for part in (100, 10, 1)]
    for each in figures:
        print(
            f"{each.accounts:>6} accounts x {_KINDS}: a month at once {each.first_s:.1f} s, "
            f"a run with late rows {each.run_s:.2f} s of one core, {each.mib} MiB"
        )
    _, tenth, whole = figures
    slope = whole.run_s / max(tenth.run_s, 0.01)
    print(f"ten times the accounts take {slope:.1f} times the time")
    met = whole.run_s <= _MOST_S and whole.mib <= _MOST_MIB and slope <= _MOST_SLOPE
    if not met:
        print(f"MISSED: at most {_MOST_S} s, {_MOST_MIB} MiB and {_MOST_SLOPE} times the time")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
