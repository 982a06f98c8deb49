"""Strict reading of stored values: of the ledger's items, and of the JSON objects that the service writes.

The reader of a field states its type, and the default if it may be absent. Any other value is a `LedgerCorruptError`
with the key of the item or object. A wrong value is never read as another valid state.

    fields = Fields.of_item(item)
    state = fields.one_of("state", ("planned", "done"))
    run = fields.text("run", absent="")
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar, overload

from metering.errors import LedgerCorruptError
from metering.hours import parse_hour

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.stores.writes import Item, Key

T = TypeVar("T", bound=str)
A = TypeVar("A")

_DECIMAL = re.compile(r"0|-?[1-9][0-9]*")


class _Required:
    """Default of a field that must not be absent."""


_REQUIRED = _Required()


class Fields:
    """The attributes of an item, or the members of a JSON object. Each method raises LedgerCorruptError.

    Args:
        what: Name in errors: the key of the item or object, and the path within it.
    """

    __slots__ = ("_values", "_what")

    def __init__(self, values: Mapping[str, object], what: str) -> None:
        self._values = values
        self._what = what

    @classmethod
    def of_item(cls, item: Item) -> Fields:
        """Fields of an item of the ledger or of the usage table."""
        return cls(item, "")

    @classmethod
    def of_json(cls, body: bytes, what: str) -> Fields:
        """Fields of a JSON object; `what` is its key.

        Raises:
            LedgerCorruptError: The body is not a JSON object.
        """
        try:
            values: object = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise LedgerCorruptError(f"{what} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise LedgerCorruptError(f"{what} is not a JSON object")
        return cls(values, what)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @property
    def what(self) -> str:
        return self._what or f"{self._values.get('pk')} / {self._values.get('sk')}"

    def fail(self, name: str, wanted: str) -> NoReturn:
        """Raise the error for a field with an invalid value."""
        if name not in self._values:
            raise LedgerCorruptError(f"{self.what}: {name} is missing, and should be {wanted}")
        raise LedgerCorruptError(f"{self.what}: {name} is {shown(self._values[name])}, and should be {wanted}")

    @overload
    def text(self, name: str) -> str: ...
    @overload
    def text(self, name: str, *, absent: A) -> str | A: ...
    def text(self, name: str, *, absent: A | _Required = _REQUIRED) -> str | A:
        """A string that is not empty."""
        value = self._values.get(name)
        if isinstance(value, str) and value:
            return value
        return self._absent(name, absent, "text")

    def any_text(self, name: str) -> str:
        """A string that may be empty."""
        value = self._values.get(name)
        return value if isinstance(value, str) else self.fail(name, "text")

    @overload
    def whole(self, name: str, *, least: int = 0) -> int: ...
    @overload
    def whole(self, name: str, *, least: int = 0, absent: A) -> int | A: ...
    def whole(self, name: str, *, least: int = 0, absent: A | _Required = _REQUIRED) -> int | A:
        """An integer, `least` or more. A truth value does not count as a number."""
        value = self._values.get(name)
        # Not isinstance: True is an int.
        if type(value) is int and value >= least:
            return value
        return self._absent(name, absent, f"a whole number from {least}")

    def null(self, name: str) -> bool:
        """Whether a member of a JSON object is null."""
        return name in self and self._values[name] is None

    def whole_or_null(self, name: str) -> int | None:
        """A member of a JSON object: an integer from 0, or null."""
        return None if self.null(name) else self.whole(name)

    def decimal(self, name: str) -> int:
        """An integer written as decimal text, the form of byte totals in JSON objects."""
        value = self._values.get(name)
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            self.fail(name, "a whole number as text")
        return int(value)

    @overload
    def flag(self, name: str) -> bool: ...
    @overload
    def flag(self, name: str, *, absent: A) -> bool | A: ...
    def flag(self, name: str, *, absent: A | _Required = _REQUIRED) -> bool | A:
        """True or false."""
        value = self._values.get(name)
        if isinstance(value, bool):
            return value
        return self._absent(name, absent, "true or false")

    def one_of(self, name: str, known: Sequence[T]) -> T:
        """One of the known words. Pass `tuple(Words)` for a StrEnum."""
        value = self._values.get(name)
        found = next((word for word in known if value == word), None)
        return self.fail(name, f"one of {', '.join(known)}") if found is None else found

    def hour(self, name: str) -> int:
        """The hour of a label, in epoch seconds."""
        return self._hour(name, self._values.get(name))

    def hours(self, name: str) -> tuple[int, ...]:
        """A list of hour labels, in its order."""
        return tuple(self._hour(name, label) for label in self._list(name))

    def hour_named(self, label: str) -> int:
        """The hour of a label that is a field's name or a part of the key."""
        try:
            return parse_hour(label)
        except ValueError:
            raise LedgerCorruptError(f"{self.what}: {label} is not an hour") from None

    def number_named(self, name: str) -> int:
        """The number that is a field's name, written without leading zeros."""
        if name.isascii() and name.isdecimal() and str(int(name)) == name:
            return int(name)
        raise LedgerCorruptError(f"{self.what}: {name} is not a number")

    def hour_set(self, name: str) -> frozenset[int]:
        """A set of hour labels. It is empty if the attribute is absent, because DynamoDB stores no empty set."""
        labels = self._values.get(name, frozenset())
        if not isinstance(labels, frozenset) or (name in self._values and not labels):
            self.fail(name, "a set of hours")
        return frozenset(self._hour(name, label) for label in labels)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, none of them empty."""
        values = self._list(name)
        return tuple(value if isinstance(value, str) and value else self.fail(name, "texts") for value in values)

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of integers from 0."""
        values = self._list(name)
        return tuple(v if type(v) is int and v >= 0 else self.fail(name, "whole numbers from 0") for v in values)

    def nested(self, name: str) -> Fields:
        """A map."""
        return self._mapping(name, self._values.get(name), name)

    def objects(self, name: str) -> list[Fields]:
        """A list of maps."""
        return [self._mapping(name, value, f"{name}[{place}]") for place, value in enumerate(self._list(name))]

    def rows(self, name: str, columns: Sequence[str]) -> list[Fields]:
        """A list of lists, each with a value for each column."""
        return [self._row(name, value, f"{name}[{place}]", columns) for place, value in enumerate(self._list(name))]

    def row(self, name: str, columns: Sequence[str]) -> Fields:
        """A list with a value for each column."""
        return self._row(name, self._values.get(name), name, columns)

    def after(self, name: str, prefix: str) -> str:
        """The part of a string after its prefix; never empty."""
        value = self._values.get(name)
        if not isinstance(value, str) or not value.startswith(prefix) or value == prefix:
            self.fail(name, f"text that begins with {prefix}")
        return value[len(prefix) :]

    def number_after(self, name: str, prefix: str) -> int:
        """The number after a string's prefix, without a sign."""
        rest = self.after(name, prefix)
        return int(rest) if rest.isascii() and rest.isdecimal() else self.fail(name, f"{prefix} and a number")

    def check_key(self, key: Key) -> None:
        """Check that the item's key matches its fields."""
        if (self._values.get("pk"), self._values.get("sk")) != key:
            raise LedgerCorruptError(f"{self.what}: it should be {key.pk} / {key.sk}")

    def _absent(self, name: str, absent: A | _Required, wanted: str) -> A:
        if isinstance(absent, _Required) or name in self._values:
            self.fail(name, wanted)
        return absent

    def _hour(self, name: str, label: object) -> int:
        try:
            return parse_hour(label) if isinstance(label, str) else self.fail(name, "an hour")
        except ValueError:
            self.fail(name, "an hour")

    def _list(self, name: str) -> Sequence[object]:
        value = self._values.get(name)
        return value if isinstance(value, list) else self.fail(name, "a list")

    def _mapping(self, name: str, value: object, place: str) -> Fields:
        if not isinstance(value, Mapping):
            self.fail(name, "a map" if place == name else "a list of maps")
        return Fields(value, f"{self.what}: {place}")

    def _row(self, name: str, value: object, place: str, columns: Sequence[str]) -> Fields:
        if not isinstance(value, list) or len(value) != len(columns):
            self.fail(name, f"a list of {', '.join(columns)}")
        return Fields(dict(zip(columns, value, strict=True)), f"{self.what}: {place}")


def shown(value: object) -> str:
    """A value in an error: its beginning, if it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
