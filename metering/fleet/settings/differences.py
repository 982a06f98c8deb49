"""What a deployment changes in the settings of a region, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import SettingsError
from metering.fleet.settings.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.fleet.settings.layers import Planned, Source

# A lower value of these deletes what is older.
_LIVES = {
    "log_retention_days": "logs",
    "queue_retention_s": "messages in the queue",
    "dead_letter_retention_s": "dead letters",
    "noncurrent_days": "older versions of objects",
    "incoming_retention_days": "objects below ingest/ and drop/",
    "quarantine_retention_days": "quarantined records",
    "lake_retention_days": "lake files",
}
# What a false value of these does.
_SWITCHED_OFF = {
    "stateful_retained": "a deletion of the data stack would delete the data",
    "versioned": "objects that are replaced or deleted are gone at once",
    "analytics": "the Glue database and the Athena workgroup are deleted, with the queries saved in it",
    "api": "the HTTP API is deleted: its tokens stay, and its address is another one when it comes back",
}
# What these say is built into resources that exist.
_FIXED = {
    "emulated": "names of functions and the roles of deployments depend on it",
    "rollout.home": "the states of all regions are in the ledger of the home region",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting that gets another value.

    Attributes:
        name: Name with dots.
        before: Value that is deployed.
        after: Value that a deployment would bring.
        by: What the new value comes from.
    """

    name: str
    before: object
    after: object
    by: Source

    def __str__(self) -> str:
        if self.name in _ROWS:
            return ", ".join(_of_rows(self.name, self.before, self.after))
        return f"{self.name} {shown(self.before)} -> {shown(self.after)}"


def differences(before: Planned, after: Planned) -> tuple[Difference, ...]:
    """List the settings that differ, in the order of the stage's configuration."""
    old, new = before.config.effective(), after.config.effective()
    return tuple(
        Difference(name=name, before=old[name], after=new[name], by=after.source(name))
        for name in new
        if _comparable(old[name]) != _comparable(new[name])
    )


def check_fixed(found: Sequence[Difference], *, stage: str) -> None:
    """Refuse what would leave resources or states without an owner.

    Raises:
        SettingsError: Names every setting that a deployed stage cannot change.
    """
    problems = [
        f"{each} cannot be changed while stage {stage} is deployed: {_FIXED[each.name]}"
        for each in found
        if each.name in _FIXED
    ]
    if problems:
        raise SettingsError(problems)


def consequences(found: Sequence[Difference]) -> tuple[str, ...]:
    """Say what is deleted, or is not protected any more, once the differences are deployed."""
    return tuple(text for each in found for text in _consequences(each))


def _consequences(found: Difference) -> Iterator[str]:
    if found.name in _LIVES and _shorter(found.before, found.after):
        yield f"{_LIVES[found.name]} that are older are deleted"
    if found.name in _SWITCHED_OFF and found.after is False:
        yield _SWITCHED_OFF[found.name]
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
    """Subscriptions in any order are the same."""
    return sorted(map(str, value)) if isinstance(value, list) else value


def _rows(value: object) -> list[Mapping[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _of_rows(name: str, before: object, after: object) -> Iterator[str]:
    """What is removed from a list of tables, and what is added to it."""
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


def _pages(value: object) -> bool:
    return any(each.get("severity") == "page" for each in _rows(value))


# Settings that are lists of tables: what a row is called, and how it is told.
_ROWS: dict[str, tuple[str, Callable[[Mapping[str, object]], str]]] = {
    "subscriptions": ("subscription", _subscription),
    "log_sources": ("log source", _log_source),
}
