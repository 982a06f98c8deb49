"""Fields of VPC flow logs, and the layout that a header line states: any fields, in any order."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from metering.errors import LogFileRefusedError
from metering.onramps.reasons import FileReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NUMBERS = ("bytes", "start", "end")
"""Fields without which nothing can be metered, all numbers."""
STATUS = "log-status"
ACTION = "action"
_OWNERS = ("interface-id", "resource-id", "instance-id")
# Future fields have names of this form, too (all fields of versions 2 to 11 do).
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TRANSIT_GATEWAY = "tgw-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a flow log.

    Attributes:
        name: AWS's name.
        version: The version that brought it.
        type: Its type in Parquet: `STRING`, `INT_32` or `INT_64`.
        attribute: The attribute of a `FlowHop` that it becomes; empty if it is no part of one.
    """

    name: str
    version: int
    type: str
    attribute: str = ""


@cache
def fields() -> Mapping[str, Field]:
    """All known fields by name, in the order of their versions."""
    text = resources.files(__package__).joinpath("fields.json").read_text("utf-8")
    return {each["name"]: Field(**each) for each in json.loads(text)["fields"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Fields of the lines that follow a header.

    Attributes:
        names: AWS's names in order, unknown ones too.
        texts: What is read as text: the attribute of a `FlowHop`, or the field's own name, by the name of the column.
    """

    names: tuple[str, ...]
    texts: Mapping[str, str]

    @property
    def attributes(self) -> frozenset[str]:
        """Attributes of a `FlowHop` that the log has."""
        return frozenset(self.texts.values())


def layout_of(names: Sequence[str], *, account_id: str) -> Layout:
    """The layout of lines with these fields; `account_id` is the account that the file's name states.

    Raises:
        LogFileRefusedError: A field that metering needs is missing, or comes twice.
    """
    known = fields()
    if _TRANSIT_GATEWAY in names:
        detail = "fields of a transit gateway (transit-gateway flow log) follow lines of something else"
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, detail)
    missing = [name for name in NUMBERS if name not in names]
    if not any(name in names for name in _OWNERS):
        missing.append(" or ".join(_OWNERS))
    if "account-id" not in names and not account_id:
        missing.append("account-id, which the file's name does not state either")
    if missing:
        raise LogFileRefusedError(FileReason.MISSING_FIELD, f"the log has no {'; no '.join(missing)}")
    texts = {name: known[name].attribute for name in names if name in known and known[name].attribute}
    texts |= {name: name for name in (STATUS, ACTION) if name in names}
    twice = sorted({name for name in (*texts, *NUMBERS) if names.count(name) > 1})
    if twice:
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, f"the header names {', '.join(twice)} twice")
    return Layout(names=tuple(names), texts=texts)


def header_names(line: str) -> tuple[str, ...] | None:
    """Names of the fields if a line is a header, else None.

    A header has the names of numbers where other lines have numbers; or all of its names are known.
    """
    names = tuple(line.split())
    if len(names) < 2 or not all(map(_NAME.fullmatch, names)):
        return None
    known = fields()
    return names if set(NUMBERS) <= set(names) or all(name in known for name in names) else None
