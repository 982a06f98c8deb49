"""Owners of workloads, by a book of rules in TOML or JSON: the first rule that fits decides, hour by hour.

The book also names networks, destinations that people know. The home region's bucket has all versions of the book,
which never change.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from ipaddress import ip_network
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from metering.billing import documents
from metering.billing.prices.document import StrictDocument
from metering.onramps.context.document import Network
from metering.stores.objects import OWNERS_PREFIX
from metering.units import MIB

UNOWNED = "unowned"
"""Owner of what no rule fits."""
_RESERVED = (UNOWNED, "unattributed")
MOST_RULES = 1_000
NETWORK_NAME = re.compile(r"(?![a-z-]+-[0-9a-f]{8,17}$)[a-z0-9][a-z0-9._-]{0,63}")
"""Names of networks. Destinations of other kinds are ids of AWS, services (in capitals), workloads (with a colon)."""
_DESTINATIONS = frozenset({"internet", "private", "cloudfront", "others", "unattributed", "unowned"})
_MOST_BYTES = MIB
_ANY = "*"

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.objects import ObjectStore

_Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Hour = Annotated[str, StringConstraints(max_length=40)]


class _WhenDocument(StrictDocument):
    tag: Annotated[dict[_Text, _Text], Field(default_factory=dict, max_length=20)]
    account: _Text = ""
    resource: _Text = ""
    workload: _Text = ""
    vpc: _Text = ""
    subnet: _Text = ""
    network: _Text = ""


class _RuleDocument(StrictDocument):
    owner: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    when: _WhenDocument
    begin: _Hour | None = Field(default=None, alias="from")
    end: _Hour | None = Field(default=None, alias="to")


class _NetworkDocument(StrictDocument):
    name: _Text
    cidrs: list[_Text] = Field(min_length=1, max_length=1_000)


class _OwnersDocument(StrictDocument):
    """Rules, in order, and networks. The store sets `schema` and `version`."""

    format: Literal["metering.owners/1"] = Field(default="metering.owners/1", alias="schema")
    version: int = Field(default=0, ge=0, le=10**9)
    rule: list[_RuleDocument] = Field(max_length=MOST_RULES)
    network: list[_NetworkDocument] = Field(default=[], max_length=MOST_RULES)


class Attributes(NamedTuple):
    """Facts about a cause of bytes. An empty text is unknown, and fits no pattern.

    Attributes:
        resource: Resource id, `i-…`, else the interface `eni-…`.
    """

    account: str
    resource: str
    workload: str
    vpc: str
    subnet: str
    tags: Mapping[str, str]


class Rule(NamedTuple):
    """A rule of the book.

    Attributes:
        texts: Fields of `Attributes` and the text that each must have. Texts may end with `*`.
        tags: Tags and the value that each must have.
        from_s: First hour, epoch seconds; 0 for all.
        to_s: First hour after the rule; None if it has no end.
    """

    owner: str
    texts: tuple[tuple[str, str], ...]
    tags: tuple[tuple[str, str], ...]
    from_s: int
    to_s: int | None

    @property
    def names_resource(self) -> bool:
        """Whether the rule asks for a resource, so that it may also own what a gateway cannot attribute."""
        return any(name == "resource" for name, _ in self.texts)

    def fits(self, found: Attributes, hour_s: int) -> bool:
        """Whether the rule holds in an hour, and all that it asks for fits."""
        if hour_s < self.from_s or (self.to_s is not None and hour_s >= self.to_s):
            return False
        return all(_fits(pattern, getattr(found, name)) for name, pattern in self.texts) and all(
            _fits(pattern, found.tags.get(key, "")) for key, pattern in self.tags
        )


def _fits(pattern: str, text: str) -> bool:
    if not text:
        return False
    return text.startswith(pattern[:-1]) if pattern.endswith(_ANY) else text == pattern


@dataclass(frozen=True)
class Owners:
    """A book of owners.

    Attributes:
        version: Version number; 0 if the book was never put.
        sha256: SHA-256 of the canonical document, which closed months pin.
        networks: Destinations that people know by a name, sorted.
    """

    rules: tuple[Rule, ...] = ()
    networks: tuple[Network, ...] = ()
    version: int = 0
    sha256: str = ""

    def rule_of(self, found: Attributes, hour_s: int) -> Rule | None:
        """The first rule that fits; None without one."""
        numbers: list[int] = []
        for asked, text in chain(enumerate(found[:-1]), found.tags.items()):
            for length, rules in self._by_asked.get(asked, {}).items() if text else ():
                numbers += rules.get(text[:length], ())
        numbers.sort()
        return next((rule for number in numbers if (rule := self.rules[number]).fits(found, hour_s)), None)

    @cached_property
    def _by_asked(self) -> Mapping[object, Mapping[int | None, Mapping[str, list[int]]]]:
        """Numbers of rules by the rarest text that each asks for, so that few rules are compared with a cause.

        Keys: position in `Attributes` or key of the tag; length of the beginning, None for whole texts; the text.
        """
        asked = [
            (*((Attributes._fields.index(name), text) for name, text in rule.texts), *rule.tags) for rule in self.rules
        ]
        counts = Counter(chain.from_iterable(asked))
        found: dict[object, dict[int | None, dict[str, list[int]]]] = defaultdict(lambda: defaultdict(dict))
        for number, of in enumerate(asked):
            name, pattern = min(of, key=lambda each: (counts[each], each[1].endswith(_ANY)))
            length = len(pattern) - 1 if pattern.endswith(_ANY) else None
            found[name][length].setdefault(pattern[:length], []).append(number)
        return found


def read_owners(body: bytes, what: str) -> Owners:
    """Parse a book of owners, in TOML if the name `what` ends so, else in JSON.

    Raises:
        DocumentRefusedError: The error lists every problem, and names the file.
    """
    if what.endswith(".toml"):
        body = _json_of(body, what)
    document = _OwnersDocument.read(body, what, most_bytes=_MOST_BYTES)
    problems: list[str] = []
    rules = tuple(_rule(number, each, problems) for number, each in enumerate(document.rule, 1))
    networks = _networks(document, problems)
    if problems:
        raise documents.DocumentRefusedError(what, problems)
    return Owners(rules, networks, document.version, hashlib.sha256(body).hexdigest())


def _json_of(body: bytes, what: str) -> bytes:
    if len(body) > _MOST_BYTES:
        raise documents.DocumentRefusedError(
            what, [f"it has {len(body):,} bytes, and {_MOST_BYTES:,} are read at most"]
        )
    try:
        return json.dumps(tomllib.loads(body.decode()), default=_moment).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise documents.DocumentRefusedError(what, [f"it is no TOML ({error})"]) from error


def _moment(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{value} is no time in UTC")


def _rule(number: int, rule: _RuleDocument, problems: list[str]) -> Rule:
    where = f"rule {number} ({rule.owner})"
    if rule.owner in _RESERVED:
        problems.append(f"{where}: an owner is not called {rule.owner}")
    texts = tuple((name, text) for name in Attributes._fields[:-1] if (text := getattr(rule.when, name)))
    tags = tuple(sorted(rule.when.tag.items()))
    if rule.when.network:
        problems.append(
            f"{where}: a network is where bytes go, and an owner has the workloads that move them; see [[network]]"
        )
    elif not texts and not tags:
        problems.append(f"{where}: it asks for nothing, and would own everything")
    problems += [
        f"{where}: {pattern} has a * that is not at its end"
        for _, pattern in (*texts, *tags)
        if _ANY in pattern.removesuffix(_ANY)
    ]
    reading = documents.Reading()
    from_s = reading.read(documents.hour_of_text, rule.begin, f"{where}: from") if rule.begin else 0
    to_s = reading.read(documents.hour_of_text, rule.end, f"{where}: to") if rule.end else None
    problems += reading.problems
    if to_s is not None and not reading.problems and to_s <= from_s:
        problems.append(f"{where}: it ends at {rule.end}, and begins at {rule.begin}")
    return Rule(rule.owner, texts, tags, from_s, to_s)


def _networks(document: _OwnersDocument, problems: list[str]) -> tuple[Network, ...]:
    names: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for number, each in enumerate(document.network, 1):
        where = f"network {number} ({each.name})"
        if NETWORK_NAME.fullmatch(each.name) is None or each.name in _DESTINATIONS:
            problems.append(f"{where}: write a name of small letters and digits that is no id and no other destination")
        if each.name in found:
            problems.append(f"{where}: its name stands twice")
        blocks = found.setdefault(each.name, [])
        for text in each.cidrs:
            try:
                blocks.append(str(ip_network(text)))
            except ValueError as error:
                problems.append(f"{where}: {error}")
        taken = {cidr: names[cidr] for cidr in blocks if names.setdefault(cidr, each.name) != each.name}
        problems += [f"{where}: {cidr} is also of {other}" for cidr, other in taken.items()]
    return tuple(Network(name, tuple(sorted(set(found[name])))) for name in sorted(found))


def owners_value(owners: Owners) -> dict[str, object]:
    """Convert a book of owners to its document."""
    return {
        "schema": "metering.owners/1",
        "version": owners.version,
        "rule": [
            {
                "owner": rule.owner,
                "when": {**dict(rule.texts), **({"tag": dict(rule.tags)} if rule.tags else {})},
                "from": documents.hour_text(rule.from_s) if rule.from_s else None,
                "to": None if rule.to_s is None else documents.hour_text(rule.to_s),
            }
            for rule in owners.rules
        ],
        "network": [{"name": each.name, "cidrs": list(each.cidrs)} for each in owners.networks],
    }


class OwnerStore(documents.VersionStore[Owners]):
    """All versions of the book of owners. In version 0, everything is unowned."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(documents.NumberedDocuments(objects, OWNERS_PREFIX), read_owners, Owners())

    def put(self, owners: Owners) -> Owners:
        """Write a book as the next version, unless it equals the newest; returns the newest version.

        Raises:
            DocumentRefusedError: It contradicts itself.
        """
        return self._put(owners, lambda each, number: owners_value(replace(each, version=number)))
