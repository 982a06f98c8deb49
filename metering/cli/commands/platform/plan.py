"""What a deployment is about to do, in lines that a person reads before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.cli.failures import CommandFailedError
from metering.errors import FormatTooNewError, FormatTooOldError
from metering.fleet.regions import ROLLUP_EVERY_MIN
from metering.fleet.versions import LAST_SILENT_VERSION, Direction
from metering.operations.own_costs.standing_cost import Tick, standing_month_usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.fleet.stage import StageConfig
    from metering.fleet.survey import Surveyed
    from metering.wiring.fleet import Fleet

# Minutes as they were seen, on AWS of others' reports for the first one: bootstrap, tables, functions and alarms.
_FIRST_MIN = 12
_AGAIN_MIN = 5
# A region on an emulator: 59 to 91 s were seen on two cores.
_EMULATOR_MIN = 2

_WORDS = {
    Direction.SAME: "the same version",
    Direction.UPGRADE: "an upgrade",
    Direction.ROLLBACK: "a ROLLBACK",
    Direction.REFUSED: "refused: the data has another format",
}


def check_formats(surveyed: Sequence[Surveyed]) -> None:
    """Refuse a deployment of code that does not work with the format of a region's data.

    Raises:
        CommandFailedError: With what is possible instead.
    """
    for each in surveyed:
        try:
            each.check_format()
        except FormatTooNewError as error:
            raise CommandFailedError(
                f"{each.region}: {error}",
                "There is no rollback across data formats. Use that version; or restore the tables to a time before "
                "the upgrade, as docs/operator-guide.md says under Restore, and send again what came later.",
            ) from error
        except FormatTooOldError as error:
            raise CommandFailedError(
                f"{each.region}: {error}",
                "Run it from a checkout of release 0.2.0 first, the last one that upgrades format 1 "
                "(docs/releasing.md).",
            ) from error


def plan_lines(fleet: Fleet, surveyed: Sequence[Surveyed], waves: int) -> Iterator[str]:
    """Lines of the plan.

    Args:
        fleet: The stage's regions.
        surveyed: Those that will be deployed to, at least one.
        waves: Number of waves that they are deployed in.
    """
    config = fleet.config
    yield f"{'Rehearsal of' if fleet.rehearsal else 'Deployment of'} stage {config.stage}, version {surveyed[0].own}:"
    for each in surveyed:
        yield f"  {each.region}: {_change(each)}"
    if config.emulated:
        yield f"  time: about {_EMULATOR_MIN * len(surveyed)} minutes; cost: none, for it is an emulator"
        return
    yield from _time_and_cost(fleet, surveyed, waves)
    if not fleet.rehearsal:
        yield "  permissions: a deployer's, as docs/operator-guide.md lists them"
    if not all(each.runs for each in surveyed) and _lacks_pager(fleet):
        yield "  pager: nobody is subscribed, so it will not be ready; add a subscription"
        yield "    with severity page to metering.toml and confirm it, or say --no-pager"


def _time_and_cost(fleet: Fleet, surveyed: Sequence[Surveyed], waves: int) -> Iterator[str]:
    time = f"about {_minutes(fleet, surveyed, waves)} minutes in {waves} wave{'s' if waves > 1 else ''}"
    usd = standing_usd(fleet.config)
    cost = f"about USD {usd} a month and region before the first batch (list prices of us-east-1)"
    rest = "batches, storage and logs come on top"
    if fleet.rehearsal:
        yield f"  time: about {_EMULATOR_MIN * len(surveyed)} minutes here; on AWS {time}"
        yield f"  cost: none here; on AWS {cost}; {rest}"
        return
    yield f"  time: {time}"
    yield f"  cost: {'as now' if all(each.runs for each in surveyed) else cost}; {rest}"


def standing_usd(config: StageConfig) -> str:
    """What one idle region costs in a month, in USD."""
    ticks = [
        Tick(every_min=every_min, memory_mb=memory_mb)
        for every_min, memory_mb in (
            (config.compactor_every_min, config.job_memory_mb),
            (config.reconciler_every_min, config.job_memory_mb),
            (ROLLUP_EVERY_MIN, config.rollup_memory_mb),
            (config.canary_every_min, config.small_job_memory_mb),
            (config.watch_every_min, config.small_job_memory_mb),
            (config.biller_every_min, config.biller_memory_mb),
            *([(config.log_context_every_min, config.onramp_memory_mb)] if config.log_sources else []),
        )
    ]
    return str(
        standing_month_usd(
            ticks,
            composite_alarms=int(config.composite_alarms),
            log_sources=bool(config.log_sources),
            api=config.api,
        )
    )


def from_to(surveyed: Surveyed) -> str:
    """Deployed version and own one: `0.1.0 or older -> 0.2.0`."""
    return f"{deployed_version(surveyed)} -> {surveyed.own}"


def deployed_version(surveyed: Surveyed) -> str:
    """Version that is deployed, as far as its stacks say it."""
    return str(surveyed.deployed) if surveyed.deployed else f"{LAST_SILENT_VERSION} or older"


def _lacks_pager(fleet: Fleet) -> bool:
    """Whether the last step must fail, which is known before the first: a new region has the settings' pagers alone."""
    paged = any(each.severity == "page" for each in fleet.config.subscriptions)
    return fleet.rules.pager_needed and not fleet.no_pager and not paged


def _change(surveyed: Surveyed) -> str:
    if surveyed.way is None:
        broken = "; ".join(f"{stack.name} is {stack.status} and is deleted first" for stack in surveyed.broken)
        return f"nothing is deployed yet{f' ({broken})' if broken else ''}"
    settings = "" if surveyed.same_settings else ", with other settings"
    if not surveyed.runs:
        known = "" if surveyed.way is Direction.SAME else f" ({from_to(surveyed)}, {_WORDS[surveyed.way]})"
        return f"nothing runs there; its data stands, and all else is deployed anew{known}{settings}"
    rest = ", continues a deployment that did not end" if surveyed.unfinished else ""
    return f"{from_to(surveyed)}, {_WORDS[surveyed.way]}{settings}{rest}"


def _minutes(fleet: Fleet, surveyed: Sequence[Surveyed], waves: int) -> int:
    longest = max(_AGAIN_MIN if each.runs else _FIRST_MIN for each in surveyed)
    # The rules of a rehearsal wait for nobody.
    return waves * (longest + fleet.config.rollout.bake_min)
