"""Every setting with its meaning, from the models alone: for `metering settings fields`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.fleet.rules import RolloutRules
from metering.fleet.settings.log_sources import LogSource
from metering.fleet.settings.subscriptions import Subscription
from metering.fleet.settings.words import kind_of
from metering.fleet.stage import StageConfig, setting_names
from metering.settings import Policy

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


# Settings that are lists of tables.
_ENTRIES: dict[str, type[BaseModel]] = {"subscriptions": Subscription, "log_sources": LogSource}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """A setting.

    Attributes:
        name: Name with dots.
        kind: Type and range, in words.
        default: Value of a stage like none.
        meaning: What it does.
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
