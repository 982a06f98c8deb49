"""Options that all commands share: where a command works, and how it answers."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

import typer

from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format, PageFormat
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class More(TypedDict, total=False):
    """Rules of an option's value, as typer has them."""

    min: int
    max: int
    show_default: bool
    autocompletion: Callable[[], list[str]]


def option(name: str, metavar: str, text: str, **more: Unpack[More]) -> object:
    """An option with a value: what is typed for it, and its help."""
    return typer.Option(name, metavar=metavar, help=text, **more)


def switch(name: str, text: str) -> object:
    """An option without a value."""
    return typer.Option(name, help=text)


def argument(metavar: str, text: str, **more: Unpack[More]) -> object:
    """A value without an option's name."""
    return typer.Argument(metavar=metavar, help=text, **more)


# Their panels, which name the topic that tells more.
WHERE = "Where: metering help places"
OUTPUT = "Output: metering help output"

EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="AWS endpoint, such as http://127.0.0.1:4566. Default: AWS_ENDPOINT_URL, else the emulator that "
        "`metering local up` started or used (stage local, which never reaches AWS), else AWS itself.",
        rich_help_panel=WHERE,
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="NAME",
        help="AWS region. Default: AWS_REGION, AWS_DEFAULT_REGION, else the home region of the stage.",
        rich_help_panel=WHERE,
    ),
]
RegionsOption = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="NAME|all",
        help="AWS region, or `all`: every region of the stage, with a column `region`. "
        "Default: AWS_REGION, AWS_DEFAULT_REGION, else the home region of the stage.",
        rich_help_panel=WHERE,
    ),
]
StageOption = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar="NAME",
        help="Stage; its name is part of the stack names. Default: METERING_STAGE, else local.",
        rich_help_panel=WHERE,
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        metavar="|".join(Format),
        help="Default: table on a terminal, json otherwise.",
        rich_help_panel=OUTPUT,
    ),
]
PageFormatOption = Annotated[
    PageFormat | None,
    typer.Option(
        "--format",
        "-f",
        metavar="|".join(PageFormat),
        help="Default: table on a terminal, json otherwise; html is a page to print.",
        rich_help_panel=OUTPUT,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write to this file, not to stdout. Without --format, its suffix gives the format.",
        rich_help_panel=OUTPUT,
    ),
]
WideOption = Annotated[
    bool | None,
    typer.Option(
        "--wide", help="Tables show every column whole, however wide the terminal is.", rich_help_panel=OUTPUT
    ),
]

YesOption = Annotated[
    bool, typer.Option("--yes", help="Do it without a question, as scripts must. On an emulator there is none.")
]

PLACE_OPTIONS = {"endpoint": EndpointOption, "region": RegionOption, "stage": StageOption}
PLACES_OPTIONS = PLACE_OPTIONS | {"region": RegionsOption}
FORMAT_OPTIONS = {"format": FormatOption, "output": OutputOption, "wide": WideOption}
PAGE_OPTIONS = FORMAT_OPTIONS | {"format": PageFormatOption}
CONSENT_OPTIONS = {"yes": YesOption}

# Name of the parameter that tells which command was typed, and a family whether one of its commands was named.
CONTEXT = "context"


def shared_options(*, reads: bool, changes: bool, everywhere: bool, page: bool) -> Mapping[str, object]:
    """The options that a command has beside its own, by the name of their parameter; see `command`."""
    where = PLACES_OPTIONS if everywhere else PLACE_OPTIONS
    forms = PAGE_OPTIONS if page else FORMAT_OPTIONS if reads else {}
    return where | forms | (CONSENT_OPTIONS if changes else {})


def filter_options(stand_in: inspect.Parameter) -> list[inspect.Parameter]:
    """One option for each filter that `**filters: Annotated[<type of one>, <filters>]` stands for."""
    kind, filters = stand_in.annotation.__origin__, stand_in.annotation.__metadata__[0]
    end = "; may be given again." if kind == list[str] | None else "."
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
    """The signature that Typer reads: the function's own parameters, then those that all commands share."""
    given = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    # Filters stand before the parameters that are keywords only.
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


FROM_OPTION = typer.Option(
    "--from", metavar="TIME", help="RFC 3339, date, month, today, yesterday…; included. Default: everything."
)
TO_OPTION = typer.Option("--to", metavar="TIME", help="Not included.")
LastOption = Annotated[
    str | None,
    typer.Option("--last", metavar="SPAN", help="Up to the end of this hour: 24h, 7d, 2w or 3m (months)."),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--tz", metavar="ZONE", help="Zone of times given without one, and of times shown, such as Europe/Berlin."
    ),
]


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def parse_duration(text: str, option: str) -> int:
    """Seconds of `90`, `90s`, `10m`, `1h30m` or `2d`.

    Raises:
        WrongUsageError: It is something else.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise WrongUsageError(f"{option} {text}: not a duration.", "Write it as 90s, 10m, 1h30m or 2d.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds
