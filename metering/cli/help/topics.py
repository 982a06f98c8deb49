"""Topics of `metering help`: rules that apply to all commands."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from metering.adapters.checkout import project_dir
from metering.cli.options import FORMAT_OPTIONS, PLACES_OPTIONS
from metering.reports.time_range import TIMES_HELP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typer.models import OptionInfo

    from metering.cli.groups import Part

VARIABLES: dict[str, str] = {
    "METERING_STAGE": "The stage, if --stage does not name one. Without either it is local.",
    "METERING_SETTINGS": "The settings file, if --settings does not name one. Default: metering.toml in this folder or "
    "those around it.",
    "METERING_LOCAL_DIR": "Folder of the local emulator: its state, and what it needs to deploy. Default: .local in "
    "the checkout.",
    "METERING_TOKEN": "Token of the HTTP API, for metering.connect(url=…) of Python programs. No command reads it.",
    "AWS_ENDPOINT_URL": "The endpoint of all services, if --endpoint does not name one, such as http://127.0.0.1:4566.",
    "AWS_REGION": "The region, if --region does not name one.",
    "AWS_DEFAULT_REGION": "The region, if neither --region nor AWS_REGION names one. Without any it is the home region "
    "of the stage: by metering.toml, or by what is deployed.",
    "AWS_PROFILE": "The profile of ~/.aws/config whose credentials are used.",
    "AWS_ACCESS_KEY_ID": "Credentials, together with the next. An emulator takes any, and needs none from you.",
    "AWS_SECRET_ACCESS_KEY": "Credentials, with AWS_ACCESS_KEY_ID; those of a role also have AWS_SESSION_TOKEN.",
    "AWS_CA_BUNDLE": "File of certificates to trust.",
    "LOCALSTACK_HOST": "Host and port of LocalStack, if no endpoint is named.",
    "NO_COLOR": "If it is set, to whatever, nothing is printed in colour or bold.",
    "TERM": "The kind of terminal; with dumb nothing is printed in colour or bold.",
    "COLUMNS": "Characters in a line, if the terminal does not tell.",
    "TMPDIR": "Folder for scratch files of compaction and queries.",
}
"""What else the AWS SDK reads, such as AWS_MAX_ATTEMPTS, works too."""


_PAGE = "architecture.md"
_HEADING = "## Words"


def words() -> list[tuple[str, str]]:
    """Terms or groups of related terms, with their meanings, in the order of the glossary's page."""
    return [*_rows(_page().read_text(encoding="utf-8"))]


def _page() -> Path:
    """The page with the glossary: in a checkout, or the copy in an installed package."""
    installed = Path(__file__).with_name(_PAGE)
    return installed if installed.exists() else project_dir() / "docs" / _PAGE


def _rows(page: str) -> Iterator[tuple[str, str]]:
    section = page.partition(f"{_HEADING}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 2 and cells[0] != "word":
            yield cells[0], cells[1].replace("*", "")


def places() -> list[Part]:
    """Where a command works."""
    return [
        "A command works on one stage in one region, at AWS or at an emulator. These options say where, after any "
        "command, or before it for all that follows.",
        "",
        _described(PLACES_OPTIONS),
        "",
        "Examples:",
        "  metering report usage --region eu-west-1 --stage prod",
        "  metering report usage --region all",
        "  metering verify --endpoint http://127.0.0.1:4566",
        "",
        "--region all reads every region of the stage; a column `region` tells them apart. A region that gives no "
        "answer is named, and then nothing is shown. Commands that work on one region refuse it.",
        "The same from the environment: metering help environment",
    ]


def output() -> list[Part]:
    """How a command answers."""
    return [
        "Data goes to stdout, everything else to stderr, so an answer can be piped. Numbers are exact in every format.",
        "",
        _described(FORMAT_OPTIONS),
        "",
        "Suffixes that give a format: .json, .ndjson, .csv, .parquet, and .txt for a table. `--output -` is stdout. "
        "A file is complete, or as it was before.",
        "",
        "Exit codes:",
        [
            ("0", "Done; a check found nothing wrong."),
            ("1", "The check or the operation failed."),
            ("2", "The command line is wrong; nothing was done."),
            ("130", "You stopped it with Ctrl-C. Every command may be run again."),
        ],
    ]


def times() -> list[Part]:
    """The formats of times, ranges and durations."""
    return [
        *_prose(TIMES_HELP),
        "",
        "Durations:",
        [("90, 90s", "Seconds."), ("10m, 1h30m, 2d", "Minutes, hours and days, together as you like.")],
        "",
        "Examples:",
        "  metering report usage --from 2026-11",
        "  metering report usage --last 7d --tz Europe/Berlin",
        "  metering report usage --from 2026-11-24T13:00:00Z --to 2026-11-24T15:00:00Z",
        "  metering verify --from 2026-11-24 --wait 10m",
    ]


def _prose(text: str) -> Iterator[Part]:
    """Join sentences into one line, and turn indented lines into rows."""
    for indented, lines in groupby(text.splitlines(), key=lambda line: line.startswith("  ")):
        if indented:
            rows = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines]
            yield [(name, " ".join(about)) for name, *about in rows]
        else:
            yield " ".join(lines)


def environment() -> list[Part]:
    """Environment variables that the commands read."""
    return [
        "An option wins over its variable.",
        "",
        [*VARIABLES.items()],
        "",
        "What else the AWS SDK reads works too, such as AWS_MAX_ATTEMPTS.",
    ]


def glossary() -> list[Part]:
    """Meanings of the project's terms."""
    return ["Each word has one meaning, in commands, code and documentation.", "", words()]


TOPICS: Mapping[str, Callable[[], list[Part]]] = {
    "places": places,
    "output": output,
    "times": times,
    "environment": environment,
    "glossary": glossary,
}


def contents() -> list[Part]:
    """The list of all topics."""
    return [
        "Topics:",
        [(name, topic.__doc__ or "") for name, topic in TOPICS.items()],
        "",
        "Examples:",
        "  metering help times",
        "  metering help glossary marker",
        "  metering help report usage",
    ]


def _described(options: Mapping[str, object]) -> list[tuple[str, str]]:
    """Options and their help texts, as the commands declare them."""
    declared: list[OptionInfo] = [get_args(annotation)[1] for annotation in options.values()]
    return [(_spelled(option), option.help or "") for option in declared]


def _spelled(option: OptionInfo) -> str:
    # In an annotation, Typer stores the first option name in the default field.
    names = sorted((str(option.default), *(option.param_decls or ())), key=lambda name: name.startswith("--"))
    return f"{', '.join(names)} {option.metavar or ''}".strip()
