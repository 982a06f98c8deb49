"""`metering`: the command line. Each family of commands is a module; this one only lists them."""

import sys
from typing import Annotated

import typer

from metering.cli.command import root_places, tell_of
from metering.cli.commands.alerts import alerts
from metering.cli.commands.demo import demo_app
from metering.cli.commands.dlq import dlq
from metering.cli.commands.lake import lake_app
from metering.cli.commands.local import local
from metering.cli.commands.periods import period, rebuild
from metering.cli.commands.quarantine import quarantine
from metering.cli.commands.region import region
from metering.cli.commands.replay import replay_app
from metering.cli.commands.report import report
from metering.cli.commands.sources import sources_app
from metering.cli.commands.storage import storage
from metering.cli.commands.verify import verify_app
from metering.cli.endings import drop, machine_troubles_explained
from metering.cli.failures import CommandFailedError
from metering.intake.messages import CONTRACT_VERSION
from metering.ledger.format_version import FORMAT_VERSION
from metering.version import package_version

app = typer.Typer(
    name="metering",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Data-transfer metering for AWS regions: every byte counted once, and you can check.",
    epilog="Start with `metering demo`. Data goes to stdout, messages to stderr. "
    "Exit codes: 0 done, 1 the check or operation failed, 2 wrong usage.",
)

_DEFAULT_FOR_ALL = "Default for all commands; a command's own option wins."

# Families whose commands stand below a name: `metering report usage`.
FAMILIES: dict[str, typer.Typer] = {
    "local": local,
    "region": region,
    "report": report,
    "storage": storage,
    "period": period,
    "rebuild": rebuild,
    "dlq": dlq,
    "quarantine": quarantine,
    "alerts": alerts,
    "sources": sources_app,
}

# Families whose commands stand alone: `metering verify`.
TOP_LEVEL: tuple[typer.Typer, ...] = (
    demo_app,
    replay_app,
    verify_app,
    lake_app,
)

for _name, _family in FAMILIES.items():
    app.add_typer(_family, name=_name)
for _family in TOP_LEVEL:
    app.add_typer(_family)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metering {package_version()} (data format {FORMAT_VERSION}, contract {CONTRACT_VERSION})")
        raise typer.Exit


@app.callback()
def metering(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions and exit.")
    ] = False,
    endpoint: Annotated[str | None, typer.Option("--endpoint", metavar="URL", help=_DEFAULT_FOR_ALL)] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="NAME", help=_DEFAULT_FOR_ALL)] = None,
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help=_DEFAULT_FOR_ALL)] = None,
) -> None:
    """Data-transfer metering for AWS regions: every byte counted once, and you can check."""
    root_places.set({"endpoint": endpoint, "region": region, "stage": stage})


def main() -> None:
    """Run the command line, and end with its exit code."""
    sys.exit(ended())


def ended() -> int | str | None:
    """Run the command line as a program, and return its exit code.

    An error after the command is a sentence too: the disk may be full when the last bytes of stdout are written.
    """
    code: int | str | None = 0
    try:
        with machine_troubles_explained():
            try:
                app()
            except SystemExit as done:
                code = done.code
            sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    except CommandFailedError as error:
        drop(sys.stdout)
        if not code:
            code = 1
            tell_of(error)
    try:
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)
    return code
