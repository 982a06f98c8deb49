"""Settings of each region of a stage: given settings, settings of the next deployment, and the differences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, cast

from metering.errors import SettingsError
from metering.fleet.settings import bases, words
from metering.fleet.settings.layers import Asked, Planned, Source, planned, recovered
from metering.settings import GivenSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from metering.fleet import ports


# Lowering these settings deletes older data.
_LIVES = {
    "log_retention_days": "logs",
    "queue_retention_s": "messages in the queue",
    "dead_letter_retention_s": "dead letters",
    "noncurrent_days": "older versions of objects",
    "incoming_retention_days": "objects below ingest/ and drop/",
    "quarantine_retention_days": "quarantined records",
    "lake_retention_days": "lake files",
}
# What happens if a switch is set to false.
_SWITCHED_OFF = {
    "stateful_retained": "a deletion of the data stack would delete the data",
    "versioned": "objects that are replaced or deleted are gone at once",
    "analytics": "the Glue database and the Athena workgroup are deleted, with the queries saved in it",
    "api": "the HTTP API is deleted: its tokens stay, and its address is another one when it comes back",
}
# Settings that another region does not begin with.
_OF_ONE_REGION = ("ledger_table", "usage_table")
# Settings that cannot change once their resources exist.
_FIXED = {
    "emulated": "names of functions and the roles of deployments depend on it",
    "drop_identity": "objects below drop/ that are announced again would be counted again, under other ids",
    "rollout.home": "the states of all regions are in the ledger of the home region",
    "role_path": "IAM cannot move a role, and stacks import the names of each other's roles",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting whose value changes, by dotted name; `by` is the origin of the new value."""

    name: str
    before: object
    after: object
    by: Source

    def __str__(self) -> str:
        if self.name in _ROWS:
            return ", ".join(_of_rows(self.name, self.before, self.after))
        return f"{self.name} {words.shown(self.before)} -> {words.shown(self.after)}"


def differences(before: Planned, after: Planned) -> tuple[Difference, ...]:
    """Settings that differ, in the order of `StageConfig`."""
    old, new = before.config.effective(), after.config.effective()
    return tuple(
        Difference(name=name, before=old[name], after=new[name], by=after.source(name))
        for name in new
        if _comparable(old[name]) != _comparable(new[name])
    )


def check_fixed(found: Sequence[Difference], *, stage: str) -> None:
    """Refuse changes after which resources or states would be orphaned.

    Raises:
        SettingsError: The error lists every setting that a deployed stage cannot change.
    """
    problems = [
        f"{each} cannot be changed while stage {stage} is deployed: {_FIXED[each.name]}"
        for each in found
        if each.name in _FIXED
    ]
    if problems:
        raise SettingsError(problems)


def consequences(found: Sequence[Difference]) -> tuple[str, ...]:
    """List the resources that a deployment of the differences would delete or leave unprotected."""
    return tuple(text for each in found for text in _consequences(each))


def _consequences(found: Difference) -> Iterator[str]:
    if found.name in _LIVES and _shorter(found.before, found.after):
        yield f"{_LIVES[found.name]} that are older are deleted"
    if found.name == "lake_retention_days" and _shorter(found.before, found.after):
        yield "a month that is open when its rows are deleted can never be closed"
    if found.name in _SWITCHED_OFF and found.after is False:
        yield _SWITCHED_OFF[found.name]
    if found.name == "kms_key_arn" and found.after and not found.before:
        yield "objects below drop/ are refused unless their sender asks for AES256"
    if found.name == "subscriptions" and not _pages(found.after) and _pages(found.before):
        yield "alarms page no one"
    if found.name == "log_sources":
        gone = sorted(
            {str(each["name"]) for each in _rows(found.before)} - {str(e["name"]) for e in _rows(found.after)}
        )
        if gone:
            yield f"log files of {', '.join(gone)} are not metered any more, also those that wait"


def _shorter(before: object, after: object) -> bool:
    if after is None:
        return False
    return before is None or (isinstance(before, int) and isinstance(after, int) and after < before)


def _comparable(value: object) -> object:
    """Convert values so that they can be compared regardless of the order of list entries."""
    return sorted(map(str, value)) if isinstance(value, list) else value


def _rows(value: object) -> list[Mapping[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _of_rows(name: str, before: object, after: object) -> Iterator[str]:
    """Yield the tables that were removed from a list, and the tables that were added."""
    noun, told = _ROWS[name]
    old, new = _rows(before), _rows(after)
    for word, some in (("removed", [e for e in old if e not in new]), ("added", [e for e in new if e not in old])):
        if some:
            names = "; ".join(told(each) for each in some)
            yield f"{len(some)} {noun}{'s' if len(some) > 1 else ''} {word} ({names})"


def _subscription(row: Mapping[str, object]) -> str:
    return f"{row['severity']} {row['protocol']} {row['endpoint']}"


def _log_source(row: Mapping[str, object]) -> str:
    return f"{row['name']} s3://{row['bucket']}/{row['prefix']} in {row['region']}"


def _group(row: Mapping[str, object]) -> str:
    accounts = row["accounts"]
    return f"{row['group']} {row['role']} of {len(accounts) if isinstance(accounts, list) else 'all'} accounts"


def _channel(row: Mapping[str, object]) -> str:
    return f"{row['name']} {row['kind']} {row['severity']} in {row['region']}"


def _network(row: Mapping[str, object]) -> str:
    return f"{len(cast('Sequence[str]', row['subnets']))} subnets in {row['region']}"


def _pages(value: object) -> bool:
    return any(each.get("severity") == "page" for each in _rows(value))


# Settings that are lists of tables, each with the noun for a table and a function that describes a table.
_ROWS: dict[str, tuple[str, Callable[[Mapping[str, object]], str]]] = {
    "subscriptions": ("subscription", _subscription),
    "api_groups": ("group of people", _group),
    "chat": ("chat channel", _channel),
    "log_sources": ("log source", _log_source),
    "vpc": ("network", _network),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Given settings of a region.

    Attributes:
        given: None if the region is not deployed, or if the settings given to it are unknown.
        rest: Subscribers to the region's topics; if the settings are unknown, a deployment uses these subscribers.
        note: Note for the user; may be empty.
    """

    given: GivenSettings | None = None
    rest: GivenSettings | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Changes that a region's next deployment makes to settings; empty if the region is not deployed."""

    region: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([*map(str, self.differences), *self.notes])


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """Settings of the regions of one stage. A new region starts with the given settings of the home region.

    The deployed settings are read only once, so that a command uses the same settings throughout.
    """

    asked: Asked
    home: str
    deployed: ports.DeployedSettings

    @cached_property
    def before(self) -> Callable[[str], Before]:
        """Cached function that returns a region's given settings."""
        return cache(self._before)

    def _before(self, region: str) -> Before:
        try:
            found = self.deployed.published(region)
        except SettingsError as error:
            return self._unreadable(region, error)
        if found is None:
            return Before()
        if found.given is not None:
            return Before(given=found.given)
        given = recovered(found, self.deployed.subscriptions(region))
        return Before(
            given=given,
            note=f"{region} was deployed by a version that kept no settings: its queues, its policy and "
            f"{_count(given)} were read from what runs; give all else again with --set",
        )

    def _unreadable(self, region: str, error: SettingsError) -> Before:
        if (given := self.deployed.given(region)) is not None:
            # Only the policy is from another version, and the next deployment replaces it.
            return Before(given=given)
        rest, known = self._subscribed(region), "the file and --set"
        if rest is not None:
            known = f"the file, --set and {_count(rest)} of its topics"
        return Before(rest=rest, note=f"nobody knows what {region} was given ({error}), so only {known} count")

    def _subscribed(self, region: str) -> GivenSettings | None:
        """Subscriptions of a region whose other settings are unknown; with them, a deployment keeps the pager."""
        try:
            rows = [dict(each) for each in self.deployed.subscriptions(region)]
        except SettingsError:
            return None
        like = self.asked.table.like if self.asked.table is not None else self.asked.stage
        if not rows or like not in bases.STAGES:
            return None
        return GivenSettings(like=like, by_option=cast("dict[str, JsonValue]", {"subscriptions": rows}))

    def of(self, region: str) -> Planned:
        """Settings that the next deployment of a region will use.

        Raises:
            SettingsError: Names every problem.
        """
        found = self.before(region)
        if found.given is None and not found.note and region != self.home:
            found = self.before(self.home)
            if found.given is None and found.note:
                raise SettingsError([f"{region} would begin from the home region, but {found.note}: deploy that first"])
            return planned(self.asked, _for_another_region(found.given or found.rest))
        return planned(self.asked, found.given or found.rest)

    def current(self, region: str) -> Planned | None:
        """Deployed settings of a region; None if the region is not deployed, or if its settings are unknown.

        Raises:
            SettingsError: The settings are not valid in this version.
        """
        given = self.before(region).given
        return None if given is None else planned(Asked(stage=self.asked.stage), given)

    def change(self, region: str) -> Change:
        """Changes that the next deployment makes in a region.

        Raises:
            SettingsError: The error lists every problem, including settings that cannot be changed in a deployed stage.
        """
        before, after = self.before(region), self.of(region)
        notes = [before.note] if before.note else []
        current: Planned | None = None
        try:
            current = self.current(region)
        except SettingsError as error:
            notes.append(f"what {region} was given is not for this version ({error})")
        found = differences(current, after) if current is not None else ()
        check_fixed(found, stage=self.asked.stage)
        notes += _of_layers(self.asked, before.given or before.rest, after)
        return Change(region=region, differences=found, notes=(*notes, *consequences(found)))


def _for_another_region(given: GivenSettings | None) -> GivenSettings | None:
    """Given settings without those that belong to one region."""
    if given is None:
        return None
    layers = {
        layer: {name: value for name, value in values.items() if name not in _OF_ONE_REGION}
        for layer, values in (("by_file", given.by_file), ("by_option", given.by_option))
    }
    return given.model_copy(update=layers)


def told(changes: Iterable[Change]) -> list[str]:
    """Describe the changes; if several regions have equal changes, these are listed once."""
    regions: dict[str, list[str]] = {}
    for each in changes:
        if text := str(each):
            regions.setdefault(text, []).append(each.region)
    return [f"{', '.join(names)}: settings: {text}" for text, names in regions.items()]


def _of_layers(asked: Asked, before: GivenSettings | None, after: Planned) -> Iterator[str]:
    """List effects of the settings' layers that users may not expect."""
    if before is not None and before.like != after.given.like:
        yield f"the base is {after.given.like} and was {before.like}"
    table = asked.table
    if table is not None and (both := sorted(asked.options.keys() & table.values.keys())):
        yield f"{', '.join(both)} is also in {table.place}, and the next deployment takes it from there"
    held = {*before.by_file, *before.by_option} if before is not None else set()
    for name in sorted(asked.unset):
        if not any(bases.belongs(each, {name}) for each in held):
            yield f"{name} was not given, so there is nothing to take back"


def _count(given: GivenSettings) -> str:
    rows = given.by_option.get("subscriptions", [])
    number = len(rows) if isinstance(rows, list) else 0
    return f"{number} subscription{'' if number == 1 else 's'}"
