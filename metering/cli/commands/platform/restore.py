"""`metering restore`: bring a lost ledger back, with every accepted batch; `show` and `finish`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import need
from metering.cli import stages
from metering.cli.command import Session, bar, command, say
from metering.cli.commands.platform.deploy import DryRunOption
from metering.cli.commands.platform.region import ended, fail_unless_ready, tell_changes
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import deploying_fleet, home_of
from metering.cli.options import option, switch
from metering.errors import OperationFailedError
from metering.fleet.regions import Phase
from metering.hours import rfc3339
from metering.operations.own_costs import PROCESSING_USD, RESTORE_USD_GB
from metering.reports.answer import KEEP, Json, ListedRows, RowType, copied, integer, timed
from metering.reports.time_range import time_range
from metering.restore.claim import Claim, Request
from metering.restore.ports import Outcome
from metering.restore.steps import DEPLOY, FINISH, Step
from metering.units import DAY_S, GIB, HOUR_S, MINUTE_S, counted
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metering.cli.deeds import Ground
    from metering.fleet.regions import RegionState
    from metering.wiring.fleet import Fleet
    from metering.wiring.restoring import RegionRestore

# AWS promises no time: this is an estimate.
_AWS_HOURS = "20 minutes to 10 hours, which AWS does not foretell"
# Items that an emulator's copy puts in a second; batches that one process adopts in a second (docs/scale.md).
_PUT_PER_S = 1_500
_ADOPTED_PER_S = 240
_FROM_NOTHING_PER_S = 3_800
# A marker is put in a transaction, which takes two write units.
_UNITS = 2
_DEPLOY_MIN = 20
_WRITE_USD = PROCESSING_USD["DynamoDB write request unit (on demand)"]

ToOption = Annotated[
    str | None, option("--to", "TIME", "The time T before the damage. What was accepted since T is adopted from S3.")
]
FromNothingOption = Annotated[
    bool, switch("--from-nothing", "Make the ledger of what S3 has, without a restore point.")
]
FromCopyOption = Annotated[
    str | None, option("--from-copy", "TABLE", "With --to: copy the items of this table, which has the ledger of T.")
]

restore_app = typer.Typer()
_EXAMPLES = """Examples:

    metering restore --to 2026-11-29T10:00:00Z --stage prod --region us-east-1 --dry-run
    metering restore --to 2026-11-29T10:00:00Z --stage prod --region us-east-1
    metering restore show --stage prod --region us-east-1
    metering restore assist --stage prod --region us-east-1
    metering restore finish --stage prod --region us-east-1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Restored:
    claim: Claim
    outcome: Outcome
    late_files: int


def _batches(place: str) -> Callable[[_Restored], int]:
    return lambda it: it.outcome.batches.get(place, 0)


_RESTORED: RowType[_Restored] = RowType(
    integer("generation", of=lambda it: it.claim.generation, about="of the ledger"),
    copied("ledger_table", of=lambda it: it.claim.new_table),
    integer("in_lake", of=_batches("lake"), about="batches whose rows are in lake files"),
    integer("in_staging", of=_batches("staging"), about="batches whose rows are in their own staging object"),
    integer("copied", of=_batches("copied"), about="batches whose rows were copied to a new staging object"),
    integer("hashless", of=lambda it: it.outcome.hashless, about="batches without a content hash"),
    integer("undecided", of=lambda it: len(it.outcome.undecided), about="ids with several contents"),
    integer("unconfirmed", of=lambda it: len(it.outcome.unconfirmed), about="tokens and producers that are off"),
    integer("late_files", about="lake files that came after the decision"),
    integer("damaged", of=lambda it: len(it.outcome.damaged), about="places that could not be adopted"),
)


@command(restore_app, "restore", reads=True, changes=True, group=True, epilog=_EXAMPLES)
def restore(
    session: Session,
    to: ToOption = None,
    from_nothing: FromNothingOption = False,
    from_copy: FromCopyOption = None,
    dry_run: DryRunOption = False,
    no_pager: stages.NoPagerOption = False,
    verbose: stages.VerboseOption = False,
) -> None:
    """Bring a lost or damaged ledger back: to a point in time or from nothing, with every accepted batch.

    A new table is prepared while the old one stays as it is: what was accepted since T is adopted from S3, so producers
    send nothing again. Functions are stopped from the fence to the deployment at the end; the queue keeps batches. The
    command may be stopped and run again, also by somebody else: it goes on where it stopped.
    """
    request = _request(to, from_copy, from_nothing=from_nothing)
    need("deploy")
    parts = _parts(session)
    _check_version(parts)
    claim = parts.restores.asked(request, parts.who())
    fleet = _fleet(session, claim, no_pager=no_pager, verbose=verbose)
    region = session.region_name
    for line in _plan(parts, claim, retention_s=fleet.settings.of(region).config.queue_retention_s):
        say(line)
    changes = tell_changes(fleet, [region])
    if dry_run:
        return
    consequence = (
        f"{claim.new_table} becomes the ledger and {claim.old_table} is closed; batches wait in the queue meanwhile. "
        f"{changes}"
    )
    ground = _ground(session, fleet, parts, claim)
    with session.deed(what="restore", subject=str(request), consequence=consequence, ground=ground) as done:
        claim = parts.claims.put(claim)
        with bar("restoring") as move:
            outcome = parts.restorer(
                claim, say=_say_step, tell=lambda what, count, of: move(description=what, completed=count, total=of)
            ).run()
        states = _deploy(fleet, region)
        parts.set_aside(claim.old_table)
        found = _Restored(claim=claim, outcome=outcome, late_files=len(parts.ledger(claim).late_files()))
        done.result, done.failed = (
            f"{_told(found)} {ended(states)}",
            any(each.phase is not Phase.READY for each in states),
        )
    named = {"undecided_ids": [*outcome.undecided], "off": [*outcome.unconfirmed], "damage": [*outcome.damaged]}
    session.write(_RESTORED.one(found, document={**_RESTORED.document(found), **named}))
    fail_unless_ready(states)
    _tell(found, parts.claims.place)


def _parts(session: Session) -> RegionRestore:
    from metering.wiring import restoring

    return restoring.RegionRestore(session.region())


def _request(to: str | None, from_copy: str | None, *, from_nothing: bool) -> Request:
    if from_nothing == bool(to):
        raise WrongUsageError("Name either a time with --to, or --from-nothing.")
    if from_copy and from_nothing:
        raise WrongUsageError("--from-copy has the ledger of a time: it needs --to, and --from-nothing has no copy.")
    if to is None:
        return Request(kind="nothing")
    _, to_s = time_range(None, to, default_s=(0, 0), now_s=int(time.time()))
    return Request(kind="copy" if from_copy else "time", to_s=to_s, copy_of=from_copy or "")


def _check_version(parts: RegionRestore) -> None:
    """Refuse to change the version at the end of a restore: an older stack would delete its ledger."""
    own = package_version()
    if parts.version != own:
        raise CommandFailedError(
            f"Version {parts.version or 'unknown'} is deployed, and {own} is installed.",
            f"Restore with the deployed version; or first: metering upgrade {parts.claims.place}",
        )


def _fleet(session: Session, claim: Claim, *, no_pager: bool, verbose: bool) -> Fleet:
    """The fleet that deploys the region with the new tables. The home region's ledger may be the one that is lost."""
    given = [f"ledger_table={claim.new_table}"]
    if claim.usage_table:
        given += [f"usage_table={claim.usage_table}", f"tunables.usage_generation={claim.usage_generation}"]
    options = stages.SettingsOptions(given=given)
    return deploying_fleet(
        session,
        options=options,
        no_pager=no_pager,
        verbose=verbose,
        names_home=False,
        restores=session.region_name,
    )


def _ground(session: Session, fleet: Fleet, parts: RegionRestore, claim: Claim) -> Ground:
    if session.region_name != fleet.home:
        return home_of(session, fleet)
    # The trail of the home region is in the ledger that is restored.
    return session.ground(fleet.home, caller=parts.who, items=lambda: parts.restores.trail(claim))


def _deploy(fleet: Fleet, region: str) -> list[RegionState]:
    """Give the new tables to the functions, and start them."""
    say(f"{DEPLOY}: the stacks of {region} get the new ledger, and the functions start again")
    return [fleet.manager.add(region, redeploy=True)]


_STEPS: Mapping[str, str] = {
    Step.TABLE: "the new ledger's table is made",
    Step.FENCE: "the functions stop, and the old ledger is closed to them",
    Step.DECIDE: "what S3 has is listed, and the decision what counts is stored",
    Step.ADOPT: "the new ledger gets what was accepted, and usage is corrected",
    Step.OPEN: "the new ledger is opened",
}


def _say_step(step: str) -> None:
    say(f"{step}: {_STEPS[step]}")


def _plan(parts: RegionRestore, claim: Claim, *, retention_s: int) -> Iterator[str]:
    """Lines of the plan: what becomes of the ledger, how long it takes, what it costs."""
    items, stored_bytes = parts.tables.size(claim.old_table)
    adopted = items if claim.kind == "nothing" else _since(claim, items, parts.marker_life_s)
    adopt_s = adopted // (_FROM_NOTHING_PER_S if claim.kind == "nothing" else _ADOPTED_PER_S)
    yield f"Restore of the ledger, generation {claim.generation} ({claim.request}):"
    if step := parts.restores.begun(claim):
        yield f"  begun {claim.begun}; it goes on with the step: {step}"
    yield f"  {_meaning(claim)}"
    yield f"  tables: {claim.new_table} becomes the ledger; {claim.old_table} stays until metering restore finish"
    usage = (
        f"a new one, {claim.usage_table}, filled from the rows" if claim.usage_table else "the one in use is corrected"
    )
    yield f"  usage table: {usage}"
    window = parts.tables.window(claim.old_table)
    if window is not None:
        yield f"  restore window: {rfc3339(window[0])} to {rfc3339(window[1])}"
    yield f"  time: {', '.join(_times(parts, claim, items, adopt_s))}"
    yield f"  cost: {_cost(parts, claim, items, adopted, stored_bytes)}"
    kept = f"the queue keeps messages for {_span(retention_s)}"
    yield f"  meanwhile: no batch is metered from the fence to the end, and {kept}"
    if adopt_s > retention_s // 2:
        yield "    that may be too short: first raise queue_retention_s, up to 14 days"


def _since(claim: Claim, items: int, marker_life_s: int) -> int:
    """Items written since T, if all days are alike: nearly all items are markers, which expire."""
    return items * min(claim.begun_at_ms // 1000 - claim.to_s, marker_life_s) // marker_life_s


def _meaning(claim: Claim) -> str:
    adopted = "adopted from S3, so producers send nothing again"
    if claim.kind == "nothing":
        return f"no restore point: all that was accepted is {adopted}"
    return f"T is {rfc3339(claim.to_s)}: what was accepted since is {adopted}"


def _times(parts: RegionRestore, claim: Claim, items: int, adopt_s: int) -> Iterator[str]:
    if claim.kind == "time":
        yield f"table {_AWS_HOURS} (functions run meanwhile)"
    elif claim.kind == "copy":
        yield f"table about {_span(items // _PUT_PER_S)} (functions run meanwhile)"
    yield f"fence {_span(parts.fence.longest_timeout_s())}"
    yield f"decide and adopt about {_span(adopt_s)} for today's table"
    yield f"deploy about {_DEPLOY_MIN} minutes"


def _cost(parts: RegionRestore, claim: Claim, items: int, adopted: int, stored_bytes: int) -> str:
    if parts.restores.emulated:
        return "none, for it is an emulator"
    table = RESTORE_USD_GB * stored_bytes / GIB if claim.kind == "time" else 0
    writes = _WRITE_USD * (_UNITS * adopted + (items if claim.kind == "copy" else 0))
    return (
        f"about USD {table:.2f} for the restored table and USD {writes:.2f} for writes (list prices of us-east-1); two "
        "tables are stored until metering restore finish"
    )


def _span(seconds: int) -> str:
    for unit_s, name in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds >= unit_s:
            return counted(-(-seconds // unit_s), name)
    return "a minute"


def _told(found: _Restored) -> str:
    """The result for the audit trail."""
    places = ", ".join(f"{number} {place}" for place, number in found.outcome.batches.items())
    undecided = f"; undecided: {', '.join(found.outcome.undecided[:_NAMED])}" if found.outcome.undecided else ""
    return f"Ledger {found.claim.generation}: batches adopted: {places or 'none'}{undecided}."


# In a sentence or a line of the trail, at most this many are named; JSON has all.
_NAMED = 20


def _tell(found: _Restored, place: str) -> None:
    outcome = found.outcome
    for each in outcome.damaged[:_NAMED]:
        say(each, "bold red")
    for batch_id in outcome.undecided[:_NAMED]:
        say(f"Undecided: {batch_id} came with several contents, and nothing says which was accepted.", "bold red")
    if outcome.undecided:
        say(
            f"Their contents are below quarantine/restore/{found.claim.generation}/ and do not count. What comes under "
            f"these ids is kept as unverified: metering quarantine list --reason unverified {place}"
        )
    for each in outcome.unconfirmed[:_NAMED]:
        say(f"Off until you confirm it, because nothing says whether it was revoked: {each}", "yellow")
    if found.late_files:
        say(f"{counted(found.late_files, 'lake file')} came late; metering restore finish {place} withdraws them.")
    since = f"--from {rfc3339(found.claim.to_s)[:10]} " if found.claim.to_s else ""
    say(f"Verify it: metering reconcile --deep {since}{place}")
    say(f"After some days without a finding: metering restore finish {place}")
    if outcome.undecided or outcome.damaged:
        raise typer.Exit(1)


_SHOWN = ListedRows(copied("step", "state", priority=KEEP), timed("ended"), copied("who"))


@command(restore_app, "show", "metering restore show --stage prod --region us-east-1", reads=True)
def show(session: Session) -> None:
    """Show in which step the newest restore of the ledger is, and what it has adopted."""
    parts = _parts(session)
    claim = parts.restores.newest()
    if claim is None:
        session.write(_SHOWN.answer([], meta={"generation": 1}, empty="The ledger was never restored."))
        return
    following = parts.restores.step(claim)
    rows: list[tuple[str, str, int | None, str]] = []
    for step in (*Step, DEPLOY, FINISH):
        record = parts.claims.ended(claim, step)
        done = record is not None or (step == DEPLOY and following in {FINISH, ""})
        state = "done" if done else "next" if step == following else "open"
        rows.append((step, state, record.ended_at_ms // 1000 if record else None, record.who if record else ""))
    adopted = parts.claims.ended(claim, Step.ADOPT)
    outcome = adopted.outcome if adopted else Outcome()
    meta: dict[str, Json] = {
        "generation": claim.generation,
        "request": str(claim.request),
        "begun": rfc3339(claim.begun_at_ms // 1000),
        "who": claim.who,
        "old_table": claim.old_table,
        "ledger_table": claim.new_table,
        "usage_table": claim.usage_table,
        "step": following,
        "batches": dict(outcome.batches),
        "undecided_ids": [*outcome.undecided],
        "off": [*outcome.unconfirmed],
        "damage": [*outcome.damaged],
    }
    title = f"Restore {claim.request}, begun {claim.begun}: {claim.old_table} -> {claim.new_table}"
    again = f"metering restore {'finish' if following == FINISH else claim.request} {parts.claims.place}"
    session.write(_SHOWN.answer(rows, meta=meta, title=title, commands=(again,) if following else ()))


@command(restore_app, "assist", "metering restore assist --stage prod --region us-east-1")
def assist(session: Session) -> None:
    """Put markers beside a restore from nothing that is under way, from any machine.

    The restore uses one core. Each process with this command uses another one, and ends when no file is left.
    """
    parts = _parts(session)
    claim = parts.restores.newest()
    if claim is None or claim.kind != "nothing" or parts.restores.step(claim) != Step.ADOPT:
        raise OperationFailedError(
            "No restore from nothing is in the step adopt.", f"See metering restore show {parts.claims.place}"
        )
    with bar("assisting") as move:
        put = parts.ledger(claim).assist(lambda what, count, of: move(description=what, completed=count, total=of))
    say(f"This process has put {counted(put, 'marker')}.")


_FINISHED = ListedRows(integer("generation"), copied("dropped_table", priority=KEEP), integer("withdrawn_files"))


@command(restore_app, "finish", "metering restore finish --stage prod --region us-east-1", reads=True, changes=True)
def finish(session: Session, dry_run: DryRunOption = False) -> None:
    """End a restore, days later: withdraw late lake files, and drop the old ledger for good.

    The command is refused while the restore is under way. Files go to `withdrawn/`, where they are kept for some weeks.
    """
    parts = _parts(session)
    unfinished = parts.restores.unfinished()
    # The newest lift is above the earlier ones, and the tables of earlier restores may be gone.
    newest = parts.ledger(unfinished[-1]) if unfinished else None
    late = len(newest.late_files()) if newest else 0
    rows = [(each.generation, each.old_table, late if each is unfinished[-1] else 0) for each in unfinished]
    answer = _FINISHED.answer(rows, empty="No restore is to be finished.")
    if newest is None or dry_run:
        session.write(answer)
        return
    tables = ", ".join(each.old_table for each in unfinished)
    consequence = (
        f"{counted(late, 'late lake file')} are moved to withdrawn/. Table {tables} is dropped, with its "
        "restore points: the ledger cannot be restored to a time before its own restore any more."
    )
    with session.deed(what="restore finish", subject=tables, consequence=consequence, typed=session.stage) as done:
        moved = len(newest.withdraw())
        for claim in unfinished:
            parts.restores.finish(claim, parts.who())
        done.result = f"{tables} dropped, {counted(moved, 'lake file')} withdrawn"
    session.write(answer)
