"""Common part of all commands: `--endpoint --region --stage`, `--format --output --wide`, and error messages.

A command is a function whose first parameter is the `Session`; other parameters become its options and arguments:

    app = typer.Typer(help="…", no_args_is_help=True)

    @command(app, "usage", reads=True)
    def usage(session: Session, account: Annotated[str | None, typer.Option("--account")] = None) -> None:
        region = session.region()
        session.write(Answer(...))

Even to show help, the command's module is imported; at its top, it therefore imports only what its options require. The
functions import wiring, adapters and rich when they use them; a test lists slow imports.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, cast

import typer

from metering.cli.connecting import (
    checked_endpoint,
    checked_region,
    checked_stage,
    connect,
    dead_emulator_told,
    emulated,
    reaching,
    refuse_aws_for_emulated,
    refuse_several,
)
from metering.cli.failures import CommandStoppedError, WrongUsageError, drop, machine_troubles_explained, wrong_options
from metering.cli.groups import CommandGroup, OneCommand
from metering.cli.options import CONTEXT, PLACE_OPTIONS, shared_options, signature_of
from metering.cli.printing.output import Format, PageFormat, check_target, chosen_format, write_answer
from metering.errors import MeteringError, OperationFailedError, SettingsError, UnavailableError
from metering.reports import time_range
from metering.reports.answer import Answer, printable, without_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    from metering.cli.deeds import Done, Ground, Person
    from metering.cli.printing import table
    from metering.stores.writes import ItemStore
    from metering.wiring import connection
    from metering.wiring.region import Stage

P = ParamSpec("P")
DEFAULT_STAGE = "local"
DEFAULT_REGION = "us-east-1"
# Exit code after Ctrl-C: 128 plus the number of the signal, as in a shell.
INTERRUPTED = 130
_RUN_AGAIN = "Every command may be stopped, and run again: it does what is left to do."
# As in other tools: `--output -` is stdout.
_STDOUT = "-"
# Values of `--endpoint`, `--region` and `--stage` that precede the command: `metering --region eu-west-1 report usage`.
root_places: ContextVar[Mapping[str, str | None]] = ContextVar("root_places")


@cache
def messages() -> Console:
    """The console of stderr."""
    from rich.console import Console

    return Console(stderr=True)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress display on stderr, removed when it ends; if stderr is not a terminal, it shows nothing."""
    from rich.progress import Progress

    console = messages()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def bar(task: str, *, total: int | None = None, remaining: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar with counts on stderr. Yields what moves it: `completed`, `advance`, `total`, `description`."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    times = (TimeElapsedColumn(), *([TimeRemainingColumn()] if remaining else []))
    with progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times) as shown:
        yield partial(shown.update, shown.add_task(task, total=total))


@contextmanager
def spinner(task: str = "") -> Iterator[Callable[..., None]]:
    """Show a spinner on stderr. Yields a function that sets the spinner's text: `description`."""
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as shown:
        yield partial(shown.update, shown.add_task(task, total=None))


def say(text: str, style: str = "") -> None:
    """Print one line on stderr, with terminal control characters escaped."""
    from rich.text import Text

    try:
        messages().print(Text(printable(without_password(text)), style=style), soft_wrap=True)
    except OSError:
        # stderr is not writable; the result is still in stdout and the exit code.
        drop(sys.stderr)


class Session:
    """Region and stage on which a command works, and the format of the command's answer.

    Attributes:
        endpoint: AWS endpoint; None means AWS itself.
        region_name: Name of the region, or `all` if the command merges regions. Default: the home region.
        stage: Stage name.
        page: Whether `--format html` was given, so that the command writes an HTML page.
        named_endpoint: Endpoint named by `--endpoint`; None if only the environment or the default names one.
    """

    def __init__(
        self,
        *,
        endpoint: str | None,
        region: str | None,
        stage: str | None,
        form: Format | PageFormat | None = None,
        output: Path | None = None,
        wide: bool = False,
        changes: bool = False,
        agreed: bool = False,
        person: Person | None = None,
    ) -> None:
        self._stage = stage or os.environ.get("METERING_STAGE") or None
        self.stage = checked_stage(self._stage or DEFAULT_STAGE)
        self.named_endpoint = endpoint
        self._endpoint = checked_endpoint(endpoint or os.environ.get("AWS_ENDPOINT_URL") or None)
        self._region = region
        self.page = form is PageFormat.HTML
        self.form = None if form is None or self.page else Format(form)
        self.output = output
        self.wide = wide
        self._changes = changes
        self._agreed = agreed
        self._asked = person
        if output is not None:
            # A bad target is refused before the work starts.
            check_target(output, Format.TABLE if self.page else self.form)

    @cached_property
    def endpoint(self) -> str | None:
        """The endpoint of all calls; it is checked on first use, so that no call goes to a wrong endpoint.

        Raises:
            CommandFailedError: The stage is for emulators only, and no emulator responds.
            WrongUsageError: The command changes AWS, but there is no terminal for a confirmation, and no `--yes`.
        """
        refuse_aws_for_emulated(self.stage, endpoint=self._found_endpoint, region=self.stated_region)
        if self._changes and not (self._agreed or self._person.present or self.emulated):
            from metering.cli.deeds import need_consent

            raise need_consent(stage=self.stage, region=self.stated_region, endpoint=self._found_endpoint)
        return self._found_endpoint

    @cached_property
    def emulated(self) -> bool:
        """Whether the endpoint is an emulator, judged by its URL and its response, whatever the stage's name.

        Raises:
            CommandFailedError: Nothing answers there.
        """
        return emulated(endpoint=self._found_endpoint, region=self.stated_region)

    @cached_property
    def _found_endpoint(self) -> str | None:
        from metering.adapters.emulator.state import running_endpoint
        from metering.fleet.settings.bases import runs_on_emulator

        if self._endpoint or not runs_on_emulator(self.stage):
            return self._endpoint
        return running_endpoint()

    @property
    def named_region(self) -> str | None:
        """The region of `--region`."""
        return self._region and checked_region(self._region)

    @property
    def named_stage(self) -> str | None:
        """The stage given by `--stage` or the environment."""
        return self._stage

    @property
    def given_region(self) -> str | None:
        """The region given by `--region` or the environment."""
        given = self._region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
        return given and checked_region(given)

    @cached_property
    def stated_region(self) -> str:
        """The region, found without a call to AWS: `--region`, the home region of the settings file, or the default."""
        from metering.cli.stages import stated_home

        return self.given_region or stated_home(self.stage) or DEFAULT_REGION

    @cached_property
    def region_name(self) -> str:
        """Name of the region: `--region`, or otherwise the home region of the stage, which is looked up.

        Raises:
            WrongUsageError: The name is invalid for a region, or the settings file is broken.
            CommandFailedError: Nothing answers.
        """
        return self.given_region or self._home

    @cached_property
    def _connection(self) -> connection.RegionConnection:
        from metering.cli.stages import known_home

        endpoint, region = self.endpoint, self.region_name
        home = partial(known_home, self.stage, endpoint=lambda: endpoint)
        return connect(endpoint=endpoint, region=region, stage=self.stage, home=home)

    @cached_property
    def regions(self) -> Stage[connection.RegionConnection]:
        """The stage with all its regions, whatever `--region` says.

        Raises:
            WrongUsageError: The settings file is invalid.
            CommandFailedError: Nothing answers.
        """
        from metering.adapters.aws.session import Clients
        from metering.fleet.regions import LedgerRegionStates
        from metering.wiring.region import Stage, home_ledger

        home = self._home

        def ledger() -> ItemStore | None:
            with reaching(self.endpoint, home):
                return home_ledger(Clients.from_env(os.environ, region=home, endpoint_url=self.endpoint), self.stage)

        return Stage(home=home, connect=self._connect, states=LedgerRegionStates(ledger))

    @cached_property
    def _home(self) -> str:
        from metering.cli.stages import home_region

        return home_region(self.stage, endpoint=lambda: self.endpoint)

    def _connect(self, region: str) -> connection.RegionConnection:
        if region == self.region_name:
            return self.region()
        return connect(endpoint=self.endpoint, region=region, stage=self.stage)

    def region(self) -> connection.RegionConnection:
        """The deployed region, with its stores, queues and settings.

        Raises:
            CommandFailedError: The endpoint does not respond, or the stage is not deployed there.
        """
        return self._connection

    @property
    def chosen_format(self) -> Format:
        """The format of the answer."""
        return chosen_format(self.form, self.output, terminal=self.output is None and sys.stdout.isatty())

    @contextmanager
    def deed(
        self, *, what: str, subject: str, consequence: str, typed: str | None = None, ground: Ground | None = None
    ) -> Iterator[Done]:
        """Show what will be done (see `Intent`) and where, ask for consent, and record the deed in the audit trail.

        Args:
            what: The command's words, such as `period close`.
            subject: The object that the deed changes, such as `2026-10`.
            consequence: One sentence about the effect of the deed.
            typed: Word that the user must type before an irreversible deed; if None, the question is y or n.
            ground: Where the deed takes place and is recorded; None for the session's region and its ledger.

        Yields:
            The result of the deed, as a sentence that the command may set.

        Raises:
            WrongUsageError: There is no terminal for the question, and `--yes` was not given.
            CommandFailedError: The user did not agree, or the audit trail cannot be written; in both cases, nothing was
                done.
        """
        from metering.cli.deeds import Intent, recorded

        intent = Intent(what=what, subject=subject, consequence=consequence, typed=typed)
        with recorded(intent, ground or self.ground(), agreed=self._agreed, person=self._person, say=say) as done:
            yield done

    @cached_property
    def _person(self) -> Person:
        from metering.cli.deeds import Terminal

        return self._asked or Terminal()

    def ground(
        self,
        region: str | None = None,
        *,
        caller: Callable[[], str] | None = None,
        items: Callable[[], ItemStore | None] | None = None,
    ) -> Ground:
        """Where a deed takes place: the session's region, or another region with the given caller and ledger."""
        from metering.cli.deeds import Ground

        return Ground(
            stage=self.stage,
            region=region or self.region_name,
            endpoint=self.endpoint,
            emulated=self.emulated,
            caller=caller or (lambda: self.region().caller()),
            items=items or (lambda: self.region().items),
        )

    def write(self, answer: Answer, *, chart: table.Chart | None = None) -> None:
        """Print the answer as `--format` and `--output` specify; a chart, if given, is below the table."""
        write_answer(answer, self.form, self.output, chart=chart, wide=self.wide, tell=say)


def command(
    app: typer.Typer,
    name: str,
    *examples: str,
    reads: bool = False,
    changes: bool = False,
    everywhere: bool = False,
    epilog: str | None = None,
    group: bool = False,
    page: bool = False,
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as the command `name` of `app`.

    Args:
        app: The family of the command.
        name: The word to type.
        examples: Example command lines, shown below the options in the help.
        reads: Whether the command returns data, and therefore has `--format`, `--output` and `--wide`.
        changes: Whether the command changes or deletes something, and therefore has `--yes`; see `Session.deed`. A run
            with `--dry-run` or `--check` changes nothing.
        everywhere: Whether `--region all` is allowed, because the command merges regions or always covers all of them.
        epilog: Help text that replaces the examples: headings, command lines, sentences, lists (`- name: text`).
        page: Whether the command returns data and, with `--format html`, writes a page; see `Session.page`.
        group: Whether the function runs when the family is named without a command; `name` is then the family's name.
    """
    if examples:
        epilog = "\n    ".join(("Examples:\n" if examples[1:] else "Example:\n", *examples))

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        shared = shared_options(reads=reads, changes=changes, everywhere=everywhere, page=page)

        def run(*args: object, **options: object) -> None:
            places = {key: options.pop(key) for key in shared}
            places["changes"] = changes and not (options.get("dry_run") or options.get("check"))
            context = cast("typer.Context", options.pop(CONTEXT))
            if context.invoked_subcommand is not None:
                given = {key: text for key in PLACE_OPTIONS if (text := _text(places[key]))}
                root_places.set({**root_places.get({}), **given})
                return
            _guarded(function, places, args, options, path=context.command_path, everywhere=everywhere)

        run.__signature__ = signature_of(function, shared)  # type: ignore[attr-defined]  # read by inspect.signature
        run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]  # as above
        run.everywhere = everywhere  # type: ignore[attr-defined]  # read by the help page
        # Each paragraph becomes one line, which the terminal wraps to its width.
        about = [" ".join(paragraph.split()) for paragraph in (function.__doc__ or "").split("\n\n")]
        run.__name__, run.__doc__ = function.__name__, "\n\n".join(about)
        if group:
            app.callback(cls=CommandGroup, invoke_without_command=True, epilog=epilog)(run)
        else:
            app.command(name, cls=OneCommand, short_help=first_sentence(function.__doc__ or ""), epilog=epilog)(run)
        return function

    return register


def first_sentence(text: str) -> str:
    """The first sentence of a help text."""
    begun, stop, _ = " ".join(text.split()).partition(". ")
    return f"{begun}{stop}".strip()


def _session(places: dict[str, object]) -> Session:
    before = root_places.get({})
    endpoint, region, stage = (_text(places.get(key)) or before.get(key) for key in ("endpoint", "region", "stage"))
    form, output = places.get("format"), places.get("output")
    return Session(
        endpoint=endpoint,
        region=region,
        stage=stage,
        form=form if isinstance(form, Format | PageFormat) else None,
        output=output if isinstance(output, Path) and str(output) != _STDOUT else None,
        wide=bool(places.get("wide")),
        changes=bool(places.get("changes")),
        agreed=bool(places.get("yes")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _guarded(
    function: Callable[..., None],
    places: dict[str, object],
    args: tuple[object, ...],
    options: dict[str, object],
    *,
    path: str,
    everywhere: bool,
) -> None:
    from metering.adapters.aws.errors import refusals_explained

    try:
        with refusals_explained(), machine_troubles_explained(), dead_emulator_told():
            session = _session(places)
            if not everywhere:
                refuse_several(session.given_region, command=path)
            function(session, *args, **options)
            # If stdout is on a full disk, the error must be raised before the exit code is decided.
            sys.stdout.flush()
    except time_range.InvalidParametersError as error:
        fail(wrong_options(error), code=2, look_up=path)
    except WrongUsageError as error:
        fail(error, code=2, look_up=path)
    except CommandStoppedError as error:
        fail(error, code=INTERRUPTED)
    except KeyboardInterrupt:
        fail(CommandStoppedError("You stopped it before its end.", _RUN_AGAIN), code=INTERRUPTED)
    except MeteringError as error:
        fail(error, code=1, look_up=path)
    except BrokenPipeError:
        # The reader of stdout has closed the pipe (`| head`): this is not an error, and no more output is possible.
        drop(sys.stdout)
        raise typer.Exit(0) from None


def fail(error: MeteringError, *, code: int, look_up: str = "") -> NoReturn:
    """Report an error on stderr, and end the command. If it has no advice, refer to the help of command `look_up`."""
    tell_of(error, look_up=look_up)
    raise typer.Exit(code)


def tell_of(error: MeteringError, *, look_up: str = "") -> None:
    """Report an error on stderr: first what happened, then what to do."""
    say(f"Error: {error}", style="bold red")
    if isinstance(error, OperationFailedError) and error.advice:
        say(error.advice)
    elif isinstance(error, UnavailableError):
        say("A service gave no answer; nothing is lost. Run the command again.")
    elif look_up and isinstance(error, OperationFailedError | SettingsError):
        # Errors of other classes already state what the user can do.
        say(f"See: {look_up} --help")
