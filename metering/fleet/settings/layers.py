"""Settings of a deployment, in layers: the base of the stage, the file, and values of `--set`, now or earlier.

Start from the deployed settings. A settings file replaces everything an earlier file set, and each value of an earlier
`--set` that it names. `--unset` takes back values of `--set`. Without a file, the values of an earlier file hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from pydantic import JsonValue, ValidationError

from metering.errors import SettingsError
from metering.fleet.settings.bases import SAFEST, STAGES, belongs, flat, nearest
from metering.fleet.settings.words import Problem, problems_of, unknown
from metering.fleet.stage import RolloutRules, StageConfig, setting_names
from metering.settings import STANDARD_BYTES, GivenSettings, StageSettings
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Source = Literal["default", "base", "file", "set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """Table of one stage in a settings file.

    Attributes:
        place: File and table, for messages.
        like: Base of the stage.
        values: By name with dots.
    """

    place: str
    like: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Settings that a command asks for.

    Attributes:
        table: Table of the stage in the settings file; None without a file or a table.
        options: Values of `--set`, by name with dots.
        unset: Names of `--unset`.
    """

    stage: str
    table: StageTable | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    unset: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Settings of one deployment. It publishes `given`: those that differ from the base."""

    config: StageConfig
    given: GivenSettings

    def source(self, name: str) -> Source:
        """Say where the value of a setting comes from."""
        if name in self.given.by_option:
            return "set"
        if name in self.given.by_file:
            return "file"
        return "base" if name in flat(STAGES[self.given.like]) else "default"


def planned(asked: Asked, before: GivenSettings | None) -> Planned:
    """Lay what a command asks for over what the deployment was given; `before` is None if there is none.

    Raises:
        SettingsError: Names every problem, with its file or option.
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
    """Check names and ranges without a look at the deployment, and without the rules over several settings.

    Raises:
        SettingsError: Names every problem, with its file or option.
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
    """Lay the region's own decisions over the given settings.

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


# Fields that are set by the deployment and not by people.
_DECIDED = {
    "rehearsal": "a stage of an account that meets an emulator is rehearsed",
    "first_build": "a deployment sees whether it is the first one",
    "usage_before": "the ledger says which older usage table is needed",
}


def _check_own_options(asked: Asked) -> None:
    if "stage" in asked.options:
        raise SettingsError(["--set stage is not possible: the stage has the name that --stage says"])
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
    """Also accept names that only another version has, if the deployment was given them."""
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
    """Keep what differs from the base: equal settings are one document, and a later version may change a base."""
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
    """Whether a problem of that name is about one of these values, an entry of it, or its table."""
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
    """Settings of a version that kept none, as far as its deployment shows: policy, queues and subscribers.

    Args:
        settings: Published by it.
        subscriptions: Severity, protocol and endpoint of each.
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
