"""`metering settings`: a stage's deployed settings, the settings file, and the difference between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import failures, stages
from metering.cli.command import Session, command, say
from metering.cli.fleet import deploying_fleet, fleet_of
from metering.cli.options import argument, family, switch
from metering.cli.printing.output import write_page
from metering.reports.answer import KEEP, ROOMY, Json, ListedRows, RowType, copied, integer, prose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.fleet.settings.layers import Planned, SettingField
    from metering.wiring.fleet import Fleet

settings = family("Settings of a stage: the deployed values, the values in metering.toml, and the difference.")

_SHOWN = ListedRows(
    copied("region", "setting", "value", priority=KEEP), copied("by", about="what the value comes from")
)
_DIFFERENCES = ListedRows(
    copied("region", "setting", "deployed", "next", priority=KEEP), copied("by", about="what the value comes from")
)

_SHOW_EXAMPLES = """Examples:

    metering settings show --stage prod
    metering settings show --stage prod --region all --format csv
    metering settings show --stage prod --toml > metering.toml
    metering settings show --stage prod --as-set
"""


@command(settings, "show", reads=True, everywhere=True, epilog=_SHOW_EXAMPLES)
def show(
    session: Session,
    everything: Annotated[bool, switch("--all", "Also show settings that have their default.")] = False,
    toml: Annotated[bool, switch("--toml", "Print the given settings as a table of a settings file.")] = False,
    as_set: Annotated[bool, switch("--as-set", "Print the given settings as --set options.")] = False,
) -> None:
    """Show the deployed settings of a stage, and where each came from: default, base, file or set.

    The command does not read the settings file; `metering settings diff` compares the file with the deployed values.
    """
    fleet = fleet_of(session)
    found = _deployed(fleet, _regions(session, fleet))
    if toml or as_set:
        _write_text(session, fleet, found, toml=toml)
        return
    rows = [
        (region, name, _text(value), _source(each, name))
        for region, each in found.items()
        for name, value in each.config.effective().items()
        if everything or each.source(name) != "default"
    ]
    bases: dict[str, Json] = {region: each.given.like for region, each in found.items()}
    empty = "Every setting has its default. Show them: metering settings show --all"
    session.write(_SHOWN.answer(rows, meta={"stage": session.stage, "like": bases}, empty=empty))


@command(settings, "diff", reads=True, everywhere=True)
def diff(
    session: Session,
    given: stages.SetOption = None,
    unset: stages.UnsetOption = None,
    file: stages.FileOption = None,
    check: Annotated[bool, switch("--check", "Exit with 1 if anything differs.")] = False,
) -> None:
    """Show which settings the next deployment of a region would change; this changes nothing."""
    from metering.fleet.settings.regions import consequences, differences

    fleet = deploying_fleet(session, options=stages.SettingsOptions.of(given, unset, file))
    rows: list[tuple[str, str, str, str, str]] = []
    for region, current in _deployed(fleet, _regions(session, fleet)).items():
        with stages.settings_explained():
            found = differences(current, fleet.settings.of(region))
        rows += [(region, each.name, _text(each.before), _text(each.after), each.by) for each in found]
        for note in consequences(found):
            say(f"{region}: {note}.", "yellow")
    session.write(_DIFFERENCES.answer(rows, meta={"stage": session.stage}, empty="Nothing differs."))
    if rows and check:
        raise typer.Exit(1)


@command(settings, "validate", reads=True)
def validate(
    session: Session,
    file: Annotated[str | None, argument("FILE", "Default: the settings file that a deployment would use.")] = None,
) -> None:
    """Check every stage of a settings file, without AWS. All problems are listed, and the exit code is then 2."""
    from metering.fleet.settings.layers import read

    with stages.settings_explained():
        found = read(Path(file)) if file is not None else stages.settings_file(None)
    if found is None:
        raise failures.WrongUsageError(
            "There is no metering.toml in this folder or those around it.",
            "Name a file (metering settings validate FILE), or write one.",
        )
    problems = found.problems()
    for problem in problems:
        say(stages.sentence(problem), "red")
    if problems:
        raise failures.WrongUsageError(
            f"{found.path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}.", stages.ADVICE
        )
    tables = [(stage, given) for stage in found.stages if (given := found.table(stage)) is not None]
    table = ListedRows(copied("stage", "like", priority=KEEP), integer("settings", priority=KEEP))
    rows = [(stage, given.like, len(given.values)) for stage, given in tables]
    title, empty = f"Stages of {found.path}, without a problem", f"{found.path} has no stage."
    session.write(table.answer(rows, meta={"file": str(found.path)}, title=title, empty=empty))


@command(settings, "fields", reads=True)
def fields(session: Session) -> None:
    """List every setting with its name, allowed values, default and meaning."""
    from metering.fleet.settings.layers import setting_fields

    table: RowType[SettingField] = RowType(
        copied("setting", of=lambda it: it.name, priority=KEEP),
        prose("kind", priority=ROOMY),
        copied("default", of=lambda it: _text(it.default)),
        prose("meaning", priority=KEEP),
    )
    session.write(table.answer(setting_fields()))


def _regions(session: Session, fleet: Fleet) -> list[str]:
    """The region of `--region`, or all regions that hold data according to the home region's records."""
    if session.region_name != "all":
        return [session.region_name]
    return fleet.regions.holding_data


def _deployed(fleet: Fleet, regions: Sequence[str]) -> dict[str, Planned]:
    """Settings of each deployed region; warnings about the settings go to stderr."""
    found: dict[str, Planned] = {}
    for region in regions:
        with fleet.reaching_home():
            before = fleet.settings.before(region)
        if before.note:
            say(stages.sentence(before.note), "yellow")
        if (current := fleet.settings.current(region)) is not None:
            found[region] = current
    if not found:
        other = f"Its home region is {fleet.home}: add --region {fleet.home}. " if fleet.home not in regions else ""
        raise failures.CommandFailedError(
            f"Stage {fleet.asked.stage} has no settings in {', '.join(regions)}: it is not deployed there.",
            f"{other}Name another --region or --stage. What a file says: metering settings validate",
        )
    return found


def _write_text(session: Session, fleet: Fleet, found: dict[str, Planned], *, toml: bool) -> None:
    from metering.fleet.settings.layers import as_options, as_toml

    if len({each.given.model_dump_json() for each in found.values()}) > 1:
        raise failures.WrongUsageError("The regions have different settings.", "Name one of them with --region.")
    given = next(iter(found.values())).given
    write_page(as_toml(fleet.asked.stage, given) if toml else f"{as_options(given)}\n", session.output)


def _source(each: Planned, name: str) -> str:
    source = each.source(name)
    return f"base {each.given.like}" if source == "base" else source


def _text(value: object) -> str:
    """A value as it is written in a settings file or with `--set`."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
