"""Parts that all commands share: `--endpoint --region --stage`, `--format --output`, and errors as sentences.

A command is a function whose first parameter is the `Session`; the others become its own options and arguments:

    app = typer.Typer(help="…", no_args_is_help=True)

    @command(app, "usage", reads=True)
    def usage(session: Session, account: Annotated[str | None, typer.Option("--account")] = None) -> None:
        region = session.region()
        session.write(Answer(...))

Modules of commands do not use `from __future__ import annotations`: Typer reads the annotations at run time.
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
            "`metering local up` started (stage local only), else AWS itself.",
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
            "--stage",
            metavar="NAME",
            help="Stage; its name is part of the stack names. Default: local.",
            rich_help_panel="Where",
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
            help="Write to this file, not to stdout. Without --format, its suffix gives the format.",
            rich_help_panel="Output",
        ),
    ],
}

# Name of the parameter that tells a family whether one of its commands was named.
_CONTEXT = "context"

# `--endpoint`, `--region` and `--stage` given before the command: `metering --region eu-west-1 report usage`.
root_places: ContextVar[Mapping[str, str | None]] = ContextVar("root_places")

messages = Console(stderr=True)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress display on stderr, removed at the end; it shows nothing if stderr is not a terminal."""
    return Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)


def say(text: str, style: str = "") -> None:
    """Print one line on stderr; characters that could steer a terminal are escaped."""
    messages.print(Text(printable(text), style=style), soft_wrap=True)


class Session:
    """The place that a command works on, and the form of its answer.

    Attributes:
        endpoint: AWS endpoint; None for AWS itself.
        region_name: Name of the region; `all` if the command merges regions.
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
            # Refused before the work is done, not after it.
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
        """The region that `--region` names; None if only the environment or the default names one."""
        return self._region

    @property
    def region_name(self) -> str:
        """Name of the region, from the option, the environment or the default."""
        env = os.environ
        return self._region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or DEFAULT_REGION

    @cached_property
    def _connection(self) -> RegionConnection:
        return connect(endpoint=self.endpoint, region=self.region_name, stage=self.stage)

    def region(self) -> RegionConnection:
        """Connect to the deployed region on first use: its stores, queues and settings.

        Raises:
            CommandFailedError: The endpoint does not answer, or the stage is not deployed there.
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
            f"The endpoint {endpoint} is not a URL.",
            "Write it as http://127.0.0.1:4566 (--endpoint or AWS_ENDPOINT_URL).",
        )
    return endpoint


def command(
    app: typer.Typer, name: str, *, reads: bool = False, epilog: str | None = None, group: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as the command `name` of `app`.

    Args:
        app: The family that the command belongs to.
        name: The word to type.
        reads: The command answers with data, and gets `--format` and `--output`.
        epilog: Text below the options, for examples.
        group: The function is the family itself, run when none of its commands is named; `name` is the family's.
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
        run.__name__, run.__doc__ = function.__name__, _unwrapped(function.__doc__ or "")
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


def _unwrapped(text: str) -> str:
    """Each paragraph as one line, which the terminal wraps to its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


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
            # A full disk behind stdout must show before the exit code is decided.
            sys.stdout.flush()
    except InvalidParametersError as error:
        fail(wrong_options(error), code=2)
    except WrongUsageError as error:
        fail(error, code=2)
    except MeteringError as error:
        fail(error, code=1)
    except BrokenPipeError:
        # The reader of our stdout has closed it (`| head`): that is not an error, and nothing more can be written.
        drop(sys.stdout)
        raise typer.Exit(0) from None


def fail(error: MeteringError, *, code: int) -> NoReturn:
    """Report an error on stderr, and end the command."""
    tell_of(error)
    raise typer.Exit(code)


def tell_of(error: MeteringError) -> None:
    """Report an error on stderr: what happened, then what to do."""
    try:
        say(f"Error: {error}", style="bold red")
        if isinstance(error, OperationFailedError) and error.advice:
            say(error.advice)
        elif isinstance(error, UnavailableError):
            say("A service gave no answer; nothing is lost. Run the command again.")
    except OSError:
        # stderr cannot be written; the exit code still reports the failure.
        drop(sys.stderr)
