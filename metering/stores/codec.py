"""One codec for stored values: a frozen dataclass's fields define how its item or JSON object is written and read.

| annotation                           | stored as                                                              |
|--------------------------------------|------------------------------------------------------------------------|
| `str`                                | text, which may be empty only if the default is; `AnyText` always may  |
| `int`, `bool`                        | a whole number from 0, true or false                                   |
| a StrEnum, a Literal                 | one of its words                                                       |
| `tuple[T, ...]`                      | a list                                                                 |
| `Mapping[K, T]`                      | a map, in the order of its keys: texts, numbers or labels of hours     |
| a dataclass, a NamedTuple            | a map by field, a list with a value for each field                     |
| `T | None`                           | the value; None is not written, and is what an absent value is read as |
| `Annotated[T, Form(…)]`              | as the form says                                                       |
| `Annotated[T, "name"]`               | under another name than the field's                                    |
| `Annotated[T, Added(…)]`             | as T; items of earlier releases lack it                                |
| `Annotated[T, Unwritten(…)]`         | as T; this value is not written, and absent means it, unless a form reads |

Reading is strict: an error names the key and the path of the field (`Fields`). Unknown members are ignored, so a
release can read values that a later release wrote. Markers and usage items, of which millions are read, have
hand-written decoders.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    ClassVar,
    Literal,
    NamedTuple,
    NoReturn,
    Protocol,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from metering.errors import LedgerCorruptError
from metering.hours import hour_label, parse_hour

if TYPE_CHECKING:
    from metering.stores.writes import Item, Key, Value

WordT = TypeVar("WordT", bound=str)
A = TypeVar("A")

_DECIMAL = re.compile(r"0|-?[1-9][0-9]*")


class _Required:
    """Placeholder default of a field that must be present."""


_REQUIRED = _Required()


class Fields:
    """The attributes of an item, or the members of a JSON object. Each method raises LedgerCorruptError.

    Args:
        what: Name used in errors: the key of the item or object, and the path of the value in it.
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
        """Fields of a JSON object; `what` is the object's key.

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
        """Raise a LedgerCorruptError for a field with an invalid value."""
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
        """An integer, `least` or more. A boolean does not count as a number."""
        value = self._values.get(name)
        # Not isinstance: True is an int.
        if type(value) is int and value >= least:
            return value
        return self._absent(name, absent, f"a whole number from {least}")

    def null(self, name: str) -> bool:
        """Whether a member of a JSON object is null."""
        return name in self and self._values[name] is None

    def whole_or_null(self, name: str) -> int | None:
        """A member of a JSON object: an integer of 0 or more, or null."""
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

    def one_of(self, name: str, known: Sequence[WordT]) -> WordT:
        """One of the allowed words. Pass `tuple(Words)` for a StrEnum."""
        value = self._values.get(name)
        found = next((word for word in known if value == word), None)
        return self.fail(name, f"one of {', '.join(known)}") if found is None else found

    def hour(self, name: str) -> int:
        """The hour that a label states, in epoch seconds."""
        return self._hour(name, self._values.get(name))

    def hours(self, name: str) -> tuple[int, ...]:
        """A list of hour labels, in the stored order."""
        return tuple(self._hour(name, label) for label in self._list(name))

    def hour_named(self, label: str) -> int:
        """The hour that a label states, where the label is a field's name or a part of the key."""
        try:
            return parse_hour(label)
        except ValueError:
            raise LedgerCorruptError(f"{self.what}: {label} is not an hour") from None

    def number_named(self, name: str) -> int:
        """The number that a field's name states, written without leading zeros."""
        if name.isascii() and name.isdecimal() and str(int(name)) == name:
            return int(name)
        raise LedgerCorruptError(f"{self.what}: {name} is not a number")

    def hour_set(self, name: str) -> frozenset[int]:
        """A set of hour labels. The set is empty if the attribute is absent, because DynamoDB stores no empty set."""
        labels = self._values.get(name, frozenset())
        if not isinstance(labels, frozenset) or (name in self._values and not labels):
            self.fail(name, "a set of hours")
        return frozenset(self._hour(name, label) for label in labels)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings that are not empty."""
        values = self._list(name)
        return tuple(value if isinstance(value, str) and value else self.fail(name, "texts") for value in values)

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of integers of 0 or more."""
        values = self._list(name)
        return tuple(v if type(v) is int and v >= 0 else self.fail(name, "whole numbers from 0") for v in values)

    def nested(self, name: str) -> Fields:
        """A map."""
        return self._mapping(name, self._values.get(name), name)

    def objects(self, name: str) -> list[Fields]:
        """A list of maps."""
        return [self._mapping(name, value, f"{name}[{place}]") for place, value in enumerate(self._list(name))]

    def rows(self, name: str, columns: Sequence[str]) -> list[Fields]:
        """A list of lists, each with one value for each column."""
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
        """The unsigned number after a string's prefix."""
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
    """A value as shown in an error message, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


T = TypeVar("T")
_set = object.__setattr__


class Form(NamedTuple):
    """How a field is stored.

    Attributes:
        read: Reads the field with a given name.
        write: Encodes the stored value; None if the item's key contains the value.
        entry: Reads the key of a map's entry, if the field is a map.
    """

    read: Callable[[Fields, str], object]
    write: Callable[..., object] | None = lambda value: value
    entry: Callable[[Fields, str], object] | None = None


# Not NamedTuples, which are equal to each other: `Annotated[…]` is cached by equality.
@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """Value that a field has in items of earlier releases, which lack the field."""

    value: object


@dataclasses.dataclass(frozen=True, slots=True)
class Unwritten:
    """The one value of a field that is not written: an absent field has this value."""

    value: object


def _spans(fields: Fields, name: str) -> tuple[tuple[int, int], ...]:
    return tuple((each.whole("first"), each.whole("last")) for each in fields.rows(name, ("first", "last")))


AnyText = Annotated[str, Form(Fields.any_text)]
# DynamoDB's numbers have 38 digits, but JSON readers represent numbers exactly only up to 2^53.
DecimalText = Annotated[int, Form(Fields.decimal, str)]
FromOne = Annotated[int, Form(partial(Fields.whole, least=1))]
Hour = Annotated[int, Form(Fields.hour, hour_label, Fields.hour_named)]
WholeOrNull = Annotated[int | None, Form(Fields.whole_or_null)]
Spans = Annotated[tuple[tuple[int, int], ...], Form(_spans, lambda spans: [list(span) for span in spans])]
SortKey = Annotated[str, Form(lambda fields, _: fields.text("sk"), None)]
_TEXT, _WHOLE, _FLAG = Form(Fields.text), Form(Fields.whole), Form(Fields.flag)
_SCALARS: dict[object, Form] = {
    str: _TEXT._replace(entry=lambda _, name: name),
    int: _WHOLE._replace(entry=Fields.number_named),
    bool: _FLAG,
    tuple[str, ...]: Form(Fields.texts, list),
    tuple[int, ...]: Form(Fields.wholes, list),
    frozenset[str]: Form(lambda fields, name: frozenset(fields.texts(name)), sorted),
}


def after(attribute: str, prefix: str) -> Form:
    """Form of a field that the partition or sort key contains after a prefix."""
    return Form(lambda fields, _: fields.after(attribute, prefix), None)


def number_after(attribute: str, prefix: str) -> Form:
    """Form of a field whose number the partition or sort key contains after a prefix."""
    return Form(lambda fields, _: fields.number_after(attribute, prefix), None)


class Keyed(Protocol):
    """A value that can compute the key of the item that stores it."""

    @property
    def key(self) -> Key: ...


K = TypeVar("K", bound=Keyed)


class StoredItem:
    """Base class of dataclasses that have a `key` and are stored as items."""

    __slots__ = ()

    def to_item(self: Keyed) -> dict[str, Value]:
        return item_of(self)

    @classmethod
    def from_item(cls: type[K], item: Item) -> K:
        """Decode the item; the inverse of `to_item`.

        Raises:
            LedgerCorruptError: It is something else.
        """
        return struct_of(cls, item)


class StoredDocument:
    """Base class of dataclasses stored as JSON objects; an object states its class's schema, if any."""

    __slots__ = ()
    SCHEMA: ClassVar[str] = ""

    def to_json(self) -> bytes:
        """The object's content."""
        schema = {"schema": self.SCHEMA} if self.SCHEMA else {}
        return json.dumps({**schema, **members_of(self)}, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str = "object") -> Self:
        """Decode the object at a key; the inverse of `to_json`.

        Raises:
            LedgerCorruptError: It is something else.
        """
        fields = Fields.of_json(body, key)
        if cls.SCHEMA:
            fields.one_of("schema", (cls.SCHEMA,))
        return read_struct(cls, fields)


def item_of(value: Keyed) -> dict[str, Value]:
    """Encode a value as an item."""
    return {**value.key._asdict(), **members_of(value)}


def struct_of(cls: type[K], item: Item) -> K:
    """Decode the value of an item; the inverse of `item_of`.

    Raises:
        LedgerCorruptError: The item has an unexpected format or key.
    """
    fields = Fields.of_item(item)
    made = read_struct(cls, fields)
    fields.check_key(made.key)
    return made


def members_of(value: object) -> dict[str, Value]:
    """Encode the values of a dataclass or NamedTuple, by name."""
    cls: Callable[..., object] = type(value)
    members: dict[str, Value] = {}
    for name, stored, _, write, _, unwritten in _shape(cls):
        field = getattr(value, name)
        if write is not None and field != unwritten:
            members[stored] = write(field)  # type: ignore[assignment]  # a form writes what a store takes
    return members


def read_struct(cls: type[T], fields: Fields) -> T:
    """Decode stored values into a dataclass or NamedTuple.

    Raises:
        LedgerCorruptError: A value is missing or has the wrong type.
    """
    shape = _shape(cls)  # type: ignore[arg-type]  # classes are hashable
    if issubclass(cls, tuple):
        return cls(*[read(fields, stored) for _, stored, read, *_ in shape])  # type: ignore[arg-type]  # of a NamedTuple
    # Equivalent to `__init__`, but without keyword arguments, because millions of commits are read.
    made = object.__new__(cls)
    for name, stored, read, _, absent, _ in shape:
        _set(made, name, read(fields, stored) if absent is _REQUIRED or stored in fields else absent)
    return made


# Name, stored name, function to read it, function to write it, value if absent, and value that is not stored.
_Field = tuple[str, str, Callable[[Fields, str], object], Callable[..., object] | None, object, object]


@cache
def _shape(cls: Callable[..., object]) -> tuple[_Field, ...]:
    defaults = getattr(cls, "_field_defaults", None)
    if dataclasses.is_dataclass(cls):
        defaults = {each.name: each.default for each in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    names = getattr(cls, "_fields", defaults) or ()
    return tuple(_field(name, hints[name], empty=(defaults or {}).get(name) == "") for name in names)


def _field(name: str, hint: object, *, empty: bool) -> _Field:
    kind, notes = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    stored = next((note for note in notes if type(note) is str), name)
    unwritten = next((note.value for note in notes if isinstance(note, Unwritten)), _REQUIRED)
    form = next((note for note in notes if isinstance(note, Form)), None)
    absent = next((note.value for note in notes if isinstance(note, Added)), _REQUIRED if form else unwritten)
    unwritten = None if absent is None else unwritten
    if form is None and get_origin(kind) is UnionType:
        [kind] = [each for each in get_args(kind) if each is not NoneType]
        absent = unwritten = None
    empty = empty and kind is str and unwritten != ""
    read, write, _ = form or (Form(Fields.any_text) if empty else _form(kind))
    return name, stored, read, write, absent, unwritten


def _form(kind: object) -> Form:
    origin, args = get_origin(kind), get_args(kind)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if origin is Annotated:
        return next(note for note in args if isinstance(note, Form))
    if origin is Literal:
        return Form(lambda fields, name: fields.one_of(name, args))
    if origin is tuple:
        return _list(args[0])
    if origin is Mapping:
        return _map(*map(_form, args))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        words = tuple(kind)
        return Form(lambda fields, name: fields.one_of(name, words), lambda word: word.value)
    return _struct(kind)  # type: ignore[arg-type]  # a class


def _map(entry: Form, value: Form) -> Form:
    def read(fields: Fields, name: str) -> object:
        inside = fields.nested(name)
        return {entry.entry(inside, each): value.read(inside, each) for each in inside}  # type: ignore[misc]  # a key's

    label = str if entry.write is _WHOLE.write else entry.write
    return Form(read, lambda values: {label(key): value.write(values[key]) for key in sorted(values)})  # type: ignore[misc]  # both are written


def _list(element: type[object]) -> Form:
    columns = _columns(element)

    def read(fields: Fields, name: str) -> object:
        found = fields.objects(name) if columns is None else fields.rows(name, columns)
        return tuple(read_struct(element, each) for each in found)

    return Form(read, lambda values: [_written(each, columns) for each in values])


def _struct(cls: type[object]) -> Form:
    columns = _columns(cls)

    def read(fields: Fields, name: str) -> object:
        return read_struct(cls, fields.nested(name) if columns is None else fields.row(name, columns))

    return Form(read, lambda value: _written(value, columns))


def _columns(cls: Callable[..., object]) -> list[str] | None:
    return [stored for _, stored, *_ in _shape(cls)] if hasattr(cls, "_fields") else None


def _written(value: object, columns: list[str] | None) -> object:
    members = members_of(value)
    return members if columns is None else list(members.values())
