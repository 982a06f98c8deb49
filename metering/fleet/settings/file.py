"""`metering.toml`: a table `[stage.NAME]` with any setting of the stage, and `like` for what it is laid over.

[stage.staging]
like = "prod"
max_concurrency = 8

[[stage.staging.subscriptions]]
severity = "page"
protocol = "email"
endpoint = "oncall@example.com"
"""

from __future__ import annotations

import datetime as dt
import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import SettingsError
from metering.fleet.settings.bases import SAFEST, STAGES, flat, nearest, nested
from metering.fleet.settings.layers import Asked, StageTable, planned
from metering.fleet.settings.log_sources import LogSource, Subscription
from metering.fleet.settings.words import kind_of, shown
from metering.fleet.stage import RolloutRules, StageConfig, setting_names
from metering.settings import GivenSettings, Policy

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


FILE_NAME = "metering.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """A settings file, read and not yet checked, with the table of each stage."""

    path: Path
    stages: Mapping[str, object]

    def table(self, stage: str) -> StageTable | None:
        """Table of a stage, or None.

        Raises:
            SettingsError: It is not a table, or its base does not exist.
        """
        if stage not in self.stages:
            return None
        place, found = f"{self.path} [stage.{stage}]", self.stages[stage]
        if not isinstance(found, dict):
            raise SettingsError([f"{self.path}: stage.{stage} is {shown(found)}; it must be a table [stage.{stage}]"])
        values = {name: _plain(value) for name, value in found.items()}
        like = values.pop("like", stage if stage in STAGES else SAFEST)
        problems = [f"{place}: {text}" for text in _of_base(stage, like)]
        if "stage" in values:
            problems.append(f"{place}: the name of a stage is that of its table; take `stage` out")
        if problems:
            raise SettingsError(problems)
        return StageTable(place=place, like=str(like), values=flat(values))

    def problems(self) -> tuple[str, ...]:
        """Check every table, and list all problems."""
        found: list[str] = []
        for stage in self.stages:
            try:
                planned(Asked(stage=stage, table=self.table(stage)), None)
            except SettingsError as error:
                found += error.problems
        return tuple(found)


def find(start: Path, named: str | None) -> Path | None:
    """Find the settings file: the one that is named, else `metering.toml` in a folder or the folders around it.

    Raises:
        SettingsError: The named file does not exist.
    """
    if named:
        path = Path(named)
        if not path.exists():
            raise SettingsError([f"{named} does not exist (it was named by --settings or METERING_SETTINGS)"])
        return path
    return next((path for folder in (start, *start.parents) if (path := folder / FILE_NAME).is_file()), None)


def read(path: Path) -> SettingsFile:
    """Read a settings file. Its stages are checked when they are asked for.

    Raises:
        SettingsError: It cannot be read, is not TOML, or has something else than stages.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror or error}"]) from error
    except ValueError as error:
        raise SettingsError([f"{path} is not TOML: {error}"]) from error
    stages = content.pop("stage", {})
    problems = [_stranger(path, name) for name in content]
    if not isinstance(stages, dict):
        raise SettingsError([*problems, f"{path}: stage is {shown(stages)}; write a table [stage.NAME]"])
    if problems:
        raise SettingsError(problems)
    return SettingsFile(path=path, stages=stages)


def _stranger(path: Path, name: str) -> str:
    meant = f"[stage.{name}]" if name in STAGES else f"[stage.{nearest(name, STAGES) or 'NAME'}]"
    return f"{path}: {name} is in no stage: settings stand below {meant}"


def _of_base(stage: str, like: object) -> list[str]:
    if stage in STAGES and like != stage:
        return [f"{stage} is a stage of its own, like no other; take `like` out, or name the stage otherwise"]
    if like not in STAGES:
        near = nearest(str(like), STAGES)
        hint = f"; did you mean {near}?" if near else ""
        return [f"like is {shown(like)}; it must be one of {', '.join(sorted(STAGES))}{hint}"]
    return []


def _plain(value: object) -> object:
    """Turn a value into one of JSON: TOML has dates of its own."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else value


def as_toml(stage: str, given: GivenSettings) -> str:
    """Table of the stage that gives the same settings."""
    return "\n".join(_lines(stage, given)) + "\n"


def as_options(given: GivenSettings) -> str:
    """`--set` options for a shell that give the same settings, to every version."""
    values = nested({**given.by_file, **given.by_option})
    words = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]
    return " ".join(f"--set {shlex.quote(word)}" for word in words)


def _lines(stage: str, given: GivenSettings) -> Iterator[str]:
    values = nested({**given.by_file, **given.by_option})
    yield f"[stage.{stage}]"
    if stage not in STAGES:
        yield f"like = {json.dumps(given.like)}"
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lists = {
        name: value
        for name, value in values.items()
        if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value)
    }
    yield from (f"{name} = {_value(value)}" for name, value in values.items() if name not in {*tables, *lists})
    for name, table in tables.items():
        yield ""
        yield f"[stage.{stage}.{name}]"
        yield from (f"{entry} = {_value(each)}" for entry, each in table.items())
    for name, rows in lists.items():
        for row in rows:
            yield ""
            yield f"[[stage.{stage}.{name}]]"
            yield from (f"{entry} = {_value(each)}" for entry, each in row.items())


def _value(value: object) -> str:
    # TOML's basic strings, numbers, booleans and lists of them are those of JSON, except for this character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# Settings whose value is a list of tables.
_ENTRIES: dict[str, type[BaseModel]] = {"subscriptions": Subscription, "log_sources": LogSource}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """A setting.

    Attributes:
        name: With dots.
        kind: Type and range, in words.
        default: Of `StageConfig`, without a base.
    """

    name: str
    kind: str
    default: object
    meaning: str


def setting_fields() -> tuple[SettingField, ...]:
    """List every setting, in the order of the model."""
    defaults = StageConfig(stage="x").effective()
    found: list[SettingField] = []
    for name in setting_names():
        info = _info(name)
        found.append(
            SettingField(name=name, kind=kind_of(info), default=defaults[name], meaning=info.description or "")
        )
        found += [
            SettingField(name=f"{name}[].{entry}", kind=kind_of(each), default=None, meaning=each.description or "")
            for entry, each in (_ENTRIES[name].model_fields.items() if name in _ENTRIES else ())
        ]
    return tuple(found)


def _info(name: str) -> FieldInfo:
    table, dot, entry = name.partition(".")
    if not dot:
        return StageConfig.model_fields[name]
    return (RolloutRules if table == "rollout" else Policy).model_fields[entry]
