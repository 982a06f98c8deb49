"""`metering`: the command line as a program. `groups.py` lists its families of commands."""

import os
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from metering.cli import command, failures, groups
from metering.cli.options import EndpointOption, RegionOption, StageOption
from metering.version import CONTRACT_VERSION, package_version


class Program(groups.RootGroup):
    """The command line as a program: every usage error ends in a message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: object,
    ) -> int:
        failures.mend_width()
        if groups.COMPLETION in os.environ:
            from typer._completion_classes import completion_init

            completion_init()
        try:
            ended = super().main(
                args=args,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            code = ended if isinstance(ended, int) else 0
        except typer.TyperException as error:
            code = error.exit_code
            if groups.is_bare(error):
                typer.echo(error.message, err=True)
            command.tell_of(groups.explained(error))
        except failures.WrongUsageError as error:
            code = 2
            command.tell_of(error)
        if standalone_mode:
            sys.exit(code)
        return code


app = typer.Typer(
    name="metering",
    cls=Program,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Data-transfer metering for AWS regions: every byte counted once, and you can check.",
    epilog="Data goes to stdout, messages to stderr. "
    "Exit codes: 0 done, 1 the check or operation failed, 2 wrong usage.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from metering.ledger.format_version import FORMAT_VERSION

        typer.echo(f"metering {package_version()} (data format {FORMAT_VERSION}, contract {CONTRACT_VERSION})")
        raise typer.Exit


@app.callback()
def metering(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions and exit.")
    ] = False,
    endpoint: EndpointOption = None,
    region: RegionOption = None,
    stage: StageOption = None,
) -> None:
    """Data-transfer metering for AWS regions: every byte counted once, and you can check."""
    command.root_places.set({"endpoint": endpoint, "region": region, "stage": stage})


def main() -> None:
    """Run the command line, and exit with its exit code."""
    code = ended()
    if isinstance(code, int) and any(thread.daemon for thread in threading.enumerate()):
        # A cancelled query may leave a thread inside DuckDB or Arrow. The interpreter's normal exit would kill that
        # thread and abort the process with another exit code. All output has been flushed by now.
        os._exit(code)
    sys.exit(code)


def ended() -> int | str | None:
    """Run the command line as a program, and return its exit code.

    If stdout cannot be flushed, for example on a full disk, a message reports this, too.
    """
    code: int | str | None = 0
    failures.mend_streams()
    try:
        with failures.machine_troubles_explained():
            try:
                app()
            except SystemExit as done:
                code = done.code
            sys.stdout.flush()
    except BrokenPipeError:
        failures.drop(sys.stdout)
    except failures.CommandFailedError as error:
        failures.drop(sys.stdout)
        if not code:
            code = 1
            command.tell_of(error)
    try:
        sys.stderr.flush()
    except OSError:
        failures.drop(sys.stderr)
    return code
