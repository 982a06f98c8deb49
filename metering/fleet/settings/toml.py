"""What a deployment was given, as a table of a settings file and as options of a command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from metering.fleet.settings.bases import STAGES
from metering.fleet.settings.names import nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stage_settings import GivenSettings


def as_toml(stage: str, given: GivenSettings) -> str:
    """Text of the stage's table, which gives the same settings."""
    return "\n".join(_lines(stage, given)) + "\n"


def as_options(given: GivenSettings) -> str:
    """`--set` options for a shell, which give the same settings; every version understands them."""
    values = nested({**given.by_file, **given.by_option})
    words = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]
    return " ".join(f"--set {shlex.quote(word)}" for word in words)


def _lines(stage: str, given: GivenSettings) -> Iterator[str]:
    values = nested({**given.by_file, **given.by_option})
    yield f"[stage.{stage}]"
    if stage not in STAGES:
        yield f"like = {json.dumps(given.like)}"
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lists = {name: value for name, value in values.items() if _holds_tables(value)}
    yield from (f"{name} = {_value(value)}" for name, value in values.items() if name not in {*tables, *lists})
    for name, table in tables.items():
        yield ""
        yield f"[stage.{stage}.{name}]"
        yield from (f"{entry} = {_value(each)}" for entry, each in table.items())
    for name, rows in lists.items():
        for row in rows if isinstance(rows, list) else ():
            yield ""
            yield f"[[stage.{stage}.{name}]]"
            yield from (f"{entry} = {_value(each)}" for entry, each in row.items())


def _holds_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _value(value: object) -> str:
    # TOML's basic strings, numbers, truth values and lists of them are those of JSON, but for this character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
