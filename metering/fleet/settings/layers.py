"""Settings of a deployment, in layers: the stage's base, the settings file, and new and earlier values of `--set`.

The starting point is the deployed settings. A settings file replaces all values of an earlier file, and those values of
an earlier `--set` that the file names. `--unset` removes values of an earlier `--set` or file. If no file is given, the
values of the earlier file stay in force.

The file is `metering.toml`: it has a table `[stage.NAME]`, with any settings, and with `like` for the base of the
stage.

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
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, JsonValue, ValidationError

from metering.errors import SettingsError
from metering.fleet.settings import log_sources, organisation
from metering.fleet.settings.bases import SAFEST, STAGES, belongs, flat, nearest, nested
from metering.fleet.settings.words import Problem, kind_of, problems_of, shown, unknown
from metering.fleet.stage import TABLE_MODELS, RolloutRules, StageConfig, setting_names
from metering.settings import STANDARD_BYTES, GivenSettings, Policy, StageSettings
from metering.version import package_version

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Source = Literal["default", "base", "file", "set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """Table of one stage within a settings file.

    Attributes:
        place: Names of the file and the table, for messages.
        like: Base of the stage.
        values: By name with dots.
    """

    place: str
    like: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Settings that a command requests.

    Attributes:
        table: Table of the stage in the settings file; None if there is no file or no such table.
        options: Values of `--set`, by dotted name.
        unset: Names of `--unset`.
    """

    stage: str
    table: StageTable | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    unset: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Settings of one deployment. A deployment publishes `given`: those settings that differ from the base."""

    config: StageConfig
    given: GivenSettings

    def source(self, name: str) -> Source:
        """Return where a setting's value comes from."""
        if name in self.given.by_option:
            return "set"
        if name in self.given.by_file:
            return "file"
        return "base" if name in flat(STAGES[self.given.like]) else "default"


def planned(asked: Asked, before: GivenSettings | None) -> Planned:
    """Apply the requested settings to the deployment's given settings; `before` is None if there is no deployment.

    Raises:
        SettingsError: The settings are invalid; the error lists every problem, with its file or option.
    """
    like = _base_of(asked, before)
    _check_own_options(asked)
    held = {*before.by_file, *before.by_option} if before is not None else set()
    _check_unset(asked, held)
    by_file, by_option = _layers(asked, before)
    try:
        config = StageConfig.over(asked.stage, like, {**by_file, **by_option})
    except ValidationError as error:
        found = problems_of(error, StageConfig, setting_names())
        raise SettingsError([_placed(problem, asked, held) for problem in found]) from error
    result = Planned(config=config, given=_kept(config, like, by_file, by_option))
    _check_size(result)
    return result


def check_alone(asked: Asked) -> None:
    """Check names and ranges, but neither the deployment's settings nor rules that concern several settings.

    Raises:
        SettingsError: The settings are invalid; the error lists every problem, with its file or option.
    """
    _check_own_options(asked)
    values = {**(asked.table.values if asked.table is not None else {}), **asked.options}
    like = asked.table.like if asked.table is not None else asked.stage if asked.stage in STAGES else SAFEST
    try:
        StageConfig.over(asked.stage, like, values)
    except ValidationError as error:
        found = [problem for problem in problems_of(error, StageConfig, setting_names()) if problem.field]
        if found:
            raise SettingsError([_placed(problem, asked) for problem in found]) from error


def config_of(stage: str, given: GivenSettings, own: Mapping[str, object]) -> StageConfig:
    """Apply the values that were decided for the region to the given settings.

    Raises:
        SettingsError: Names every problem.
    """
    return StageConfig.load(stage, {**given.by_file, **given.by_option, **own}, like=given.like)


def home_given(given: GivenSettings) -> str:
    """Home region of a deployment."""
    values = {**flat(STAGES.get(given.like, {})), **given.by_file, **given.by_option}
    return str(values.get("rollout.home", RolloutRules().home))


def _base_of(asked: Asked, before: GivenSettings | None) -> str:
    if asked.table is not None:
        return asked.table.like
    if before is not None and before.like in STAGES:
        return before.like
    if asked.stage in STAGES:
        return asked.stage
    near = nearest(asked.stage, STAGES)
    raise SettingsError(
        [
            f"stage {asked.stage} is neither deployed nor in a settings file"
            + (f": did you mean {near}?" if near else f". To make it, write [stage.{asked.stage}] in metering.toml")
        ]
    )


# Fields that the deployment sets, and people do not.
_DECIDED = {
    "rehearsal": "a stage of an account that meets an emulator is rehearsed",
    "first_build": "a deployment sees whether it is the first one",
    "usage_before": "the ledger says which older usage table is needed",
    "exports_before": "the deployed stack says which exports it has",
}


def _check_own_options(asked: Asked) -> None:
    if "stage" in asked.options:
        raise SettingsError(["--set stage is not possible: the stage has the name that --stage says"])
    if any(name.startswith("tags.") for name in asked.options):
        raise SettingsError(
            ['--set tags.NAME is not possible: give all tags at once, --set \'tags={"NAME": "VALUE"}\'']
        )
    named = asked.table.values if asked.table is not None else {}
    for name, why in _DECIDED.items():
        if name in asked.options or name in named:
            raise SettingsError([f"{name} is not a setting: {why}"])
    held = sorted(name for name in named if belongs(name, asked.unset))
    problems = [f"{name} is in {asked.table.place}: take it out there" for name in held if asked.table is not None]
    both = sorted(name for name in asked.options if belongs(name, asked.unset))
    problems += [f"{name} is given by --set and taken back by --unset" for name in both]
    if problems:
        raise SettingsError(problems)


def _check_unset(asked: Asked, held: Iterable[str]) -> None:
    """Refuse unknown names in `--unset`, but accept names of deployed settings that another version has set."""
    names = {*setting_names(), *held}
    known = names | {name.partition(".")[0] for name in names}
    wrong = sorted(asked.unset - known)
    if wrong:
        raise SettingsError([str(unknown(f"--unset {name}", setting_names(), spelled=name)) for name in wrong])


def _layers(asked: Asked, before: GivenSettings | None) -> tuple[dict[str, object], dict[str, object]]:
    held = before or GivenSettings(like="")
    by_file: dict[str, object] = dict(asked.table.values if asked.table is not None else held.by_file)
    named = asked.table.values if asked.table is not None else {}
    earlier: dict[str, object] = {name: value for name, value in held.by_option.items() if name not in named}
    by_file, earlier = (
        {name: value for name, value in layer.items() if not belongs(name, asked.unset)} for layer in (by_file, earlier)
    )
    return by_file, {**earlier, **asked.options}


def _kept(
    config: StageConfig, like: str, by_file: Mapping[str, object], by_option: Mapping[str, object]
) -> GivenSettings:
    """Keep only values that differ from the base, so that equal settings give equal documents, and bases may change."""
    values = config.effective()
    base = StageConfig.load(config.stage, like=like).effective()
    file = {name: value for name, value in by_file.items() if value != base.get(name)}
    options = {name: values[name] for name in by_option if values[name] != file.get(name, base.get(name))}
    return GivenSettings(
        like=like,
        version=package_version(),
        by_file=cast("dict[str, JsonValue]", file),
        by_option=cast("dict[str, JsonValue]", options),
    )


def _placed(problem: Problem, asked: Asked, held: Collection[str] = ()) -> str:
    name = problem.field.partition(" ")[0]
    if _concerns(name, asked.options):
        return f"--set {problem}"
    if asked.table is not None and (_concerns(name, asked.table.values) if name else not asked.options):
        return f"{asked.table.place}: {problem}"
    if name in held:
        return f"{problem}; the deployment was given it by another version: take it back with --unset {name}"
    return str(problem)


def _concerns(name: str, values: Mapping[str, object]) -> bool:
    """Whether a problem with the setting `name` concerns one of `values`, an entry of a value, or a value's table."""
    return belongs(name, values) or any(each.startswith((f"{name}.", f"{name}[")) for each in values if name)


def _check_size(result: Planned) -> None:
    size = len(result.config.published(result.given).to_json().encode())
    if size > STANDARD_BYTES:
        raise SettingsError(
            [
                f"the settings have {size:,} bytes as they are published, and a parameter holds {STANDARD_BYTES:,}: "
                f"give fewer of the {len(result.config.subscriptions)} subscriptions (one mailing list for many people)"
                + (
                    f" or of the {len(sources)} log sources (one for a bucket, shared-subnets for its accounts)"
                    if (sources := result.config.log_sources)
                    else ""
                )
            ]
        )


def recovered(settings: StageSettings, subscriptions: Iterable[Mapping[str, str]] = ()) -> GivenSettings:
    """Derive given settings that an old version did not publish, from its deployment: policy, queues and subscribers.

    Args:
        settings: Published by it.
        subscriptions: Severity, protocol and endpoint of each subscription.
    """
    like = settings.stage if settings.stage in STAGES else SAFEST
    base = StageConfig.load(settings.stage, like=like).published()
    names = {"window_s": "admission_window_s", "marker_life_s": "marker_life_s"}
    policy, known = settings.policy.model_dump(), base.policy.model_dump()
    found: dict[str, object] = {
        names.get(name, f"tunables.{name}"): value for name, value in policy.items() if value != known[name]
    }
    queues, plain = settings.queues.model_dump(), base.queues.model_dump()
    renamed = {"retention_s": "queue_retention_s"}
    found |= {renamed.get(name, name): value for name, value in queues.items() if value != plain[name]}
    listed = [dict(each) for each in subscriptions]
    if listed:
        found["subscriptions"] = listed
    return GivenSettings(like=like, by_option=cast("dict[str, JsonValue]", found))


FILE_NAME = "metering.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """A settings file with the table of each stage, which is read but not checked yet."""

    path: Path
    stages: Mapping[str, object]

    def table(self, stage: str) -> StageTable | None:
        """Table of a stage; None if the file has no such table.

        Raises:
            SettingsError: The entry is not a table, or the base that it names does not exist.
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
    """Find the settings file: the named file or, without a name, `metering.toml` in a folder or its parents.

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
    """Read a settings file. The tables of stages are checked only when they are accessed.

    Raises:
        SettingsError: The file cannot be read, is not TOML, or has other content than stages.
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
    """Convert a value to a JSON type: TOML has native dates."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else value


def as_toml(stage: str, given: GivenSettings) -> str:
    """TOML table of the stage that yields the same settings."""
    return "\n".join(_lines(stage, given)) + "\n"


def as_options(given: GivenSettings) -> str:
    """`--set` options, as shell text, that yield the same settings in every version."""
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
    # Except for this character, TOML writes basic strings, numbers, booleans and lists of them as JSON does.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# Settings whose value is a list of tables.
_ENTRIES: dict[str, type[BaseModel]] = {
    "subscriptions": log_sources.Subscription,
    "api_groups": log_sources.ApiGroup,
    "chat": log_sources.ChatChannel,
    "log_sources": log_sources.LogSource,
    "vpc": organisation.Network,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """A setting.

    Attributes:
        name: With dots.
        kind: Type and range of the setting, described in words.
        default: Default in `StageConfig`, without any base.
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
    return TABLE_MODELS.get(table, Policy).model_fields[entry]
