"""What every command shares: `--endpoint --region --stage`, `--format --output`, and errors as sentences.

A command is a function whose first parameter is the `Session`; the others become its own options and arguments:

    app = typer.Typer(help="…", no_args_is_help=True)

    @command(app, "usage", reads=True)
    def usage(session: Session, account: Annotated[str | None, typer.Option("--account")] = None) -> None:
        region = session.region()
        session.write(Answer(...))

Modules of commands do without `from __future__ import annotations`: Typer reads the annotations while the program runs.
"""

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Annotated, Concatenate, NoReturn, ParamSpec, cast
from urllib.parse import urlsplit

import typer
from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn
from rich.text import Text

from metering.adapters.aws.errors import refusals_explained
from metering.cli.connecting import connect
from metering.cli.endings import drop, machine_troubles_explained
from metering.cli.failures import WrongUsageError, wrong_options
from metering.cli.output import Format, write_answer
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.reports.answer import Answer
from metering.reports.parameters import InvalidParametersError
from metering.reports.safe_text import printable
from metering.wiring.connection import RegionConnection

P = ParamSpec("P")

DEFAULT_STAGE = "local"
DEFAULT_REGION = "us-east-1"

_PLACE_OPTIONS = {
    "endpoint": Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="URL",
            help="AWS endpoint, such as http://127.0.0.1:4566. Default: AWS_ENDPOINT_URL, else the emulator that "
            "`metering local up` started (stage local), else AWS itself.",
            rich_help_panel="Where",
        ),
    ],
    "region": Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="NAME",
            help="AWS region. Default: AWS_REGION, AWS_DEFAULT_REGION, else us-east-1.",
            rich_help_panel="Where",
        ),
    ],
    "stage": Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="NAME", help="Stage, part of the stack names. Default: local.", rich_help_panel="Where"
        ),
    ],
}
_FORMAT_OPTIONS = {
    "format": Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Default: table on a terminal, json otherwise.", rich_help_panel="Output"),
    ],
    "output": Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write here, not to stdout; the suffix gives the format if --format does not.",
            rich_help_panel="Output",
        ),
    ],
}

# Parameter by which a family learns whether one of its commands was named.
_CONTEXT = "context"

# `--endpoint`, `--region` and `--stage` given before the command: `metering --region eu-west-1 report usage`.
root_places: ContextVar[Mapping[str, str | None]] = ContextVar("root_places")

messages = Console(stderr=True)


def progress(*columns: ProgressColumn) -> Progress:
    """Progress on stderr that leaves nothing behind; silent where nobody watches, as in a file or a pipe."""
    return Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)


def say(text: str, style: str = "") -> None:
    """One line to people, on stderr; text from outside is made harmless."""
    messages.print(Text(printable(text), style=style), soft_wrap=True)


class Session:
    """One run of a command: where it works and how it answers.

    Attributes:
        endpoint: AWS endpoint, or None for AWS itself.
        region_name: Region asked for; `all` where a command merges regions.
        stage: Stage name.
    """

    def __init__(
        self,
        *,
        endpoint: str | None,
        region: str | None,
        stage: str | None,
        form: Format | None = None,
        output: Path | None = None,
    ) -> None:
        self.stage = stage or os.environ.get("METERING_STAGE") or DEFAULT_STAGE
        self._endpoint = _checked_endpoint(endpoint or os.environ.get("AWS_ENDPOINT_URL") or None)
        self._region = region
        self.form = form
        self.output = output
        if output is not None and not output.parent.is_dir():
            # Said now, and not when the answer is there.
            raise WrongUsageError(
                f"Cannot write {output}: there is no folder {output.parent}.", "Name another --output."
            )

    @cached_property
    def endpoint(self) -> str | None:
        if self._endpoint or self.stage != DEFAULT_STAGE:
            return self._endpoint
        from metering.adapters.emulator.state import running_endpoint

        return running_endpoint()

    @property
    def named_region(self) -> str | None:
        """The region that `--region` names, if it was given; not what the environment says."""
        return self._region

    @property
    def region_name(self) -> str:
        """The region, by option, environment or default."""
        env = os.environ
        return self._region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or DEFAULT_REGION

    @cached_property
    def _connection(self) -> RegionConnection:
        return connect(endpoint=self.endpoint, region=self.region_name, stage=self.stage)

    def region(self) -> RegionConnection:
        """The deployed region: its stores, queues and settings. Connects on first use.

        Raises:
            CommandFailedError: Nothing answers there, or the stage is not deployed.
        """
        return self._connection

    def write(self, answer: Answer, *, chart: RenderableType | None = None) -> None:
        """Print the answer as `--format` and `--output` say; a chart goes below its table."""
        write_answer(answer, self.form, self.output, chart=chart)


def _checked_endpoint(endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right or any(character.isspace() for character in endpoint):
        raise WrongUsageError(
            f"The endpoint {endpoint} is no URL.", "Write it as http://127.0.0.1:4566 (--endpoint or AWS_ENDPOINT_URL)."
        )
    return endpoint


def command(
    app: typer.Typer, name: str, *, reads: bool = False, epilog: str | None = None, group: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as the command `name` of `app`.

    Args:
        app: The family it belongs to.
        name: As typed.
        reads: It answers with data: gives it `--format` and `--output`.
        epilog: Shown below the options, for examples.
        group: It is what a family does that is named without one of its commands; `name` is the family's.
    """

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        shared = _PLACE_OPTIONS | (_FORMAT_OPTIONS if reads else {})

        def run(*args: object, **options: object) -> None:
            places = {key: options.pop(key) for key in shared}
            context = cast("typer.Context | None", options.pop(_CONTEXT, None))
            if context is not None and context.invoked_subcommand is not None:
                given = {key: text for key in _PLACE_OPTIONS if (text := _text(places[key]))}
                root_places.set({**root_places.get({}), **given})
                return
            _guarded(function, places, args, options)

        run.__signature__ = _signature(function, shared, {_CONTEXT: typer.Context} if group else {})  # type: ignore[attr-defined]  # read by inspect.signature
        run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]  # as above
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        if group:
            app.callback(invoke_without_command=True, epilog=epilog)(run)
        else:
            app.command(name, epilog=epilog)(run)
        return function

    return register


def _signature(
    function: Callable[..., None], shared: Mapping[str, object], required: Mapping[str, object]
) -> inspect.Signature:
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    options = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for key, annotation in shared.items()
    ]
    needed = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        for key, annotation in required.items()
    ]
    return inspect.Signature([*needed, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *options])


def _session(places: dict[str, object]) -> Session:
    before = root_places.get({})
    endpoint, region, stage = (_text(places.get(key)) or before.get(key) for key in ("endpoint", "region", "stage"))
    form, output = places.get("format"), places.get("output")
    return Session(
        endpoint=endpoint,
        region=region,
        stage=stage,
        form=form if isinstance(form, Format) else None,
        output=output if isinstance(output, Path) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _guarded(
    function: Callable[..., None], places: dict[str, object], args: tuple[object, ...], options: dict[str, object]
) -> None:
    try:
        with refusals_explained(), machine_troubles_explained():
            function(_session(places), *args, **options)
            # A full disk behind stdout shows here, and not after the exit code is decided.
            sys.stdout.flush()
    except InvalidParametersError as error:
        fail(wrong_options(error), code=2)
    except WrongUsageError as error:
        fail(error, code=2)
    except MeteringError as error:
        fail(error, code=1)
    except BrokenPipeError:
        # The reader of our stdout has seen enough (`| head`): not an error, and nothing more can be written.
        drop(sys.stdout)
        raise typer.Exit(0) from None


def fail(error: MeteringError, *, code: int) -> NoReturn:
    """Say what went wrong on stderr, and end."""
    tell_of(error)
    raise typer.Exit(code)


def tell_of(error: MeteringError) -> None:
    """Say on stderr what went wrong, and what to do about it."""
    try:
        say(f"Error: {error}", style="bold red")
        if isinstance(error, OperationFailedError) and error.advice:
            say(error.advice)
        elif isinstance(error, UnavailableError):
            say("The service behind it gave no answer; nothing is lost. Run the command again.")
    except OSError:
        # Nobody can be told; the exit code still says it.
        drop(sys.stderr)
