"""A day's costs by each billing of the ledger, from the same counted run.

Provisioned units are paid whether they are used or not. How much of them is in use follows from the simulated day of
`load_tests.capacity`: less than auto scaling's target of 70 %, because it scales late. The usage table stays on demand.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from load_tests.capacity import Curve, Lags, simulated
from load_tests.stage import POLICY
from load_tests.wire.counts import total
from load_tests.wire.day_costs import day_costs
from metering.ledger.usage.items import ACCOUNT_PREFIX
from metering.operations.own_costs import break_even_use
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from load_tests.wire.counts import WireRun

DAILY = "on demand, a scan a day"
WEEKLY = "on demand, a scan a week"
PROVISIONED = "provisioned, a scan a week"
_WEEK_S = 7 * DAY_S


@cache
def use() -> float:
    """Share of the provisioned units that a day of the target uses."""
    return simulated(Lags(), Curve()).use


def bills(run: WireRun) -> dict[str, float]:
    """USD a day of everything, by billing and interval of the scan."""
    daily, weekly = (
        day_costs(run, POLICY.model_copy(update={"scan_every_s": every_s, "rollup_every_s": run.load.rollup_every_s}))
        for every_s in (DAY_S, _WEEK_S)
    )
    provisioned = with_provisioned(weekly, run)
    return {DAILY: sum(daily.values()), WEEKLY: sum(weekly.values()), PROVISIONED: sum(provisioned.values())}


def with_provisioned(costs: Mapping[str, float], run: WireRun) -> dict[str, float]:
    """The lines of a day with the ledger's capacity provisioned instead of on demand."""
    ratio = float(break_even_use()) / use()
    return {name: usd * (1 - (share := _of_ledger(name, run)) + share * ratio) for name, usd in costs.items()}


def _of_ledger(line: str, run: WireRun) -> float:
    """Share of a line that is capacity of the ledger; the rest stays as it is."""
    if line.startswith("DynamoDB writes: roll up"):
        return 1 - total(run.counts, f"write UpdateItem {ACCOUNT_PREFIX}") / (run.units["roll up"] * run.batches or 1)
    if line.startswith("DynamoDB reads: scans"):
        return 1 - run.stored.bytes.get(ACCOUNT_PREFIX, 0) / sum(run.stored.bytes.values())
    ledger = ("DynamoDB writes:", "DynamoDB reads: roll-up", "DynamoDB reads: quick pass")
    return float(line.startswith(ledger))


def print_bills(runs: Sequence[WireRun]) -> None:
    """Print what a day costs by each billing, for the loads that have a limit of it."""
    print(f"\nUSD a day of everything by the ledger's billing; {use():.0%} of what is provisioned is in use")
    print(f"{'':<45}{DAILY:>27}{WEEKLY:>27}{PROVISIONED:>27}{'bar':>6}")
    for run in runs:
        if run.load.most_provisioned_usd is not None:
            name = f"{run.load.name}, roll-up each {run.load.rollup_every_s} s"
            figures = "".join(f"{usd:>27.2f}" for usd in bills(run).values())
            print(f"{name:<45}{figures}{run.load.most_provisioned_usd:>6.0f}")
