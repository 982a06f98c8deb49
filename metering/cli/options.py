"""Options that all commands share: endpoint, region, stage, and the format of the answer."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypedDict, Unpack

import typer

from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format, PageFormat
from metering.units import DAY_S, HOUR_S, MINUTE_S


def family(about: str) -> typer.Typer:
    """A family of commands; if it is named without a command, it prints its help."""
    return typer.Typer(help=about, no_args_is_help=True)


class More(TypedDict, total=False):
    """Constraints on the value of an option, in Typer's terms."""

    min: int
    max: int
    show_default: bool
    autocompletion: Callable[[], list[str]]


def option(names: str, metavar: str, text: str, *, panel: str | None = None, **more: Unpack[More]) -> object:
    """An option with a value: its names, placeholder and help text, and its panel on the help page."""
    return typer.Option(*names.split(), metavar=metavar, help=text, rich_help_panel=panel, **more)


def switch(name: str, text: str, panel: str | None = None) -> object:
    """An option without a value."""
    return typer.Option(name, help=text, rich_help_panel=panel)


def argument(metavar: str, text: str, **more: Unpack[More]) -> object:
    """A positional argument."""
    return typer.Argument(metavar=metavar, help=text, **more)


# Panel titles. Each title names the help topic that gives details.
WHERE = "Where: metering help places"
OUTPUT = "Output: metering help output"

_ENDPOINT = (
    "AWS endpoint, such as http://127.0.0.1:4566. Default: the value of AWS_ENDPOINT_URL, else the emulator of "
    "`metering local up` (stage local, which never reaches AWS), else AWS itself."
)
_HOME = "Default: the value of AWS_REGION or AWS_DEFAULT_REGION, else the home region of the stage."
_ALL = "AWS region, or `all`: every region of the stage, with a column `region`."
_STAGE = "Name of the stage, which is part of the stack names. Default: METERING_STAGE, else local."
_FORMAT = "Default: table on a terminal, json otherwise"
_OUTPUT = "Write to this file, not to stdout. Without --format, the file's suffix sets the format."
_WIDE = "Show all columns of a table in full, even if they are wider than the terminal."

EndpointOption = Annotated[str | None, option("--endpoint", "URL", _ENDPOINT, panel=WHERE)]
RegionOption = Annotated[str | None, option("--region", "NAME", f"AWS region. {_HOME}", panel=WHERE)]
RegionsOption = Annotated[str | None, option("--region", "NAME|all", f"{_ALL} {_HOME}", panel=WHERE)]
StageOption = Annotated[str | None, option("--stage", "NAME", _STAGE, panel=WHERE)]
FormatOption = Annotated[Format | None, option("--format -f", "|".join(Format), f"{_FORMAT}.", panel=OUTPUT)]
PageFormatOption = Annotated[
    PageFormat | None, option("--format -f", "|".join(PageFormat), f"{_FORMAT}; html is a page to print.", panel=OUTPUT)
]
OutputOption = Annotated[Path | None, option("--output -o", "FILE", _OUTPUT, panel=OUTPUT)]
WideOption = Annotated[bool | None, switch("--wide", _WIDE, OUTPUT)]

YesOption = Annotated[
    bool,
    switch("--yes", "Do not ask for confirmation, as in scripts. On an emulator, no command asks for confirmation."),
]

PLACE_OPTIONS = {"endpoint": EndpointOption, "region": RegionOption, "stage": StageOption}
PLACES_OPTIONS = PLACE_OPTIONS | {"region": RegionsOption}
FORMAT_OPTIONS = {"format": FormatOption, "output": OutputOption, "wide": WideOption}
PAGE_OPTIONS = FORMAT_OPTIONS | {"format": PageFormatOption}
CONSENT_OPTIONS = {"yes": YesOption}

# Parameter that states which command was typed, and for a command family whether one of its commands was named.
CONTEXT = "context"


def shared_options(*, reads: bool, changes: bool, everywhere: bool, page: bool) -> Mapping[str, object]:
    """The options that `command` adds to every command, by parameter name; see `command`."""
    where = PLACES_OPTIONS if everywhere else PLACE_OPTIONS
    forms = PAGE_OPTIONS if page else FORMAT_OPTIONS if reads else {}
    return where | forms | (CONSENT_OPTIONS if changes else {})


def filter_options(stand_in: inspect.Parameter) -> list[inspect.Parameter]:
    """One option for each filter that `**filters: Annotated[<type of one>, <filters>]` stands for."""
    kind, filters = stand_in.annotation.__origin__, stand_in.annotation.__metadata__[0]
    end = "; may be repeated." if kind == list[str] | None else "."
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, option(f"--{each.name.replace('_', '-')}", each.metavar, f"{each.help}{end}")],
        )
        for each in filters.values()
    ]


def signature_of(function: Callable[..., None], shared: Mapping[str, object]) -> inspect.Signature:
    """The signature for Typer: the function's own parameters, followed by the shared parameters."""
    given = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    # Filters must be declared before keyword-only parameters.
    given.sort(key=lambda p: p.kind is inspect.Parameter.KEYWORD_ONLY)
    own = [each for p in given for each in (filter_options(p) if p.kind is inspect.Parameter.VAR_KEYWORD else [p])]
    options = [
        inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if key in CONSENT_OPTIONS else None,
            annotation=annotation,
        )
        for key, annotation in shared.items()
    ]
    context = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    return inspect.Signature([context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *options])


_FROM = "Start of the range, included: a time (RFC 3339), date, month, today, yesterday… Default: everything."
_ZONE = "Time zone of the times that are shown, and of times given without a zone, such as Europe/Berlin."
FROM_OPTION = option("--from", "TIME", _FROM)
TO_OPTION = option("--to", "TIME", "Not included.")
LastOption = Annotated[
    str | None, option("--last", "SPAN", "Length of a range that ends with this hour: 24h, 7d, 2w or 3m (months).")
]
ZoneOption = Annotated[str | None, option("--tz", "ZONE", _ZONE)]

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def parse_duration(text: str, option: str) -> int:
    """Number of seconds in a duration such as `90`, `90s`, `10m`, `1h30m` or `2d`.

    Raises:
        WrongUsageError: It is something else.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise WrongUsageError(f"{option} {text}: not a duration.", "Write it as 90s, 10m, 1h30m or 2d.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds
