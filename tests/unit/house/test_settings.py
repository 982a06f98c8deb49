"""No setting of a stage has a second source: the code that uses it has no default."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

import pytest

import metering
from metering.errors import SettingsError
from metering.fleet.stage import TUNABLES, StageConfig
from metering.settings import Policy, Settings, as_environment
from tests.support.stage import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Not settings despite the same name: values that one job or one client keeps for itself, and the protocol's 72 hours.
_OWN = {"reserve_ms", "attempts"}
# Settings of a stage, by every argument name in use.
_DECIDED = {
    *(name.removeprefix("compact_").removeprefix("clean_").removeprefix("admission_") for name in Policy.model_fields),
    "commit_life_s",
    "quarantine_age_s",
} - _OWN


def defaults() -> Iterator[str]:
    """Each argument of a class or function in `metering` that has a default, as `Class.argument`."""
    for module in pkgutil.walk_packages(metering.__path__, "metering."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if getattr(value, "__module__", None) != module.name:
                continue
            if dataclasses.is_dataclass(value):
                missing = dataclasses.MISSING
                yield from (
                    f"{name}.{f.name}"
                    for f in dataclasses.fields(value)
                    if f.default is not missing or f.default_factory is not missing
                )
            elif inspect.isfunction(value) or (inspect.isclass(value) and "__init__" in vars(value)):
                signature = inspect.signature(value if inspect.isfunction(value) else value.__init__)
                yield from (f"{name}.{p.name}" for p in signature.parameters.values() if p.default is not p.empty)


def test_a_forgotten_argument_that_a_stage_decides_is_a_type_error() -> None:
    found = {argument for argument in defaults() if argument.partition(".")[2] in _DECIDED and argument[0].isupper()}
    assert found == {"PeriodCloser.wait_s"}


def test_the_policy_has_no_defaults() -> None:
    assert all(field.is_required() for field in Settings.model_fields.values())
    assert all(field.is_required() for field in Policy.model_fields.values())


def test_a_function_without_one_of_its_settings_does_not_start() -> None:
    given = as_environment(settings().model_dump())
    assert Settings.from_env(given) == settings()
    for name in given:
        with pytest.raises(SettingsError, match=name):
            Settings.from_env({other: value for other, value in given.items() if other != name})


def test_the_stage_decides_every_setting_of_the_policy() -> None:
    assert {*TUNABLES, "window_s", "marker_life_s"} == set(Policy.model_fields)


@pytest.mark.parametrize("tunables", [{"shards": 0}, {"shards": 65}, {"rollup_blocks": 2}])
def test_a_tunable_that_no_function_would_take_is_refused_with_the_stage(tunables: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(tunables))):
        StageConfig.load("local", {"tunables": tunables})
