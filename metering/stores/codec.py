"""One codec for stored values: the fields of a frozen dataclass define how its item or JSON object is written and read.

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

Reading is strict: an error names the key and the path of the field (`metering.stores.fields`). Unknown members are
ignored, so a release can read what a later release wrote. Markers and usage items, which are read by the million, have
hand-written decoders.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from metering.hours import hour_label
from metering.stores.fields import Fields

if TYPE_CHECKING:
    from metering.stores.writes import Item, Key, Value

T = TypeVar("T")
_REQUIRED = object()
_set = object.__setattr__


class Form(NamedTuple):
    """How a field is stored.

    Attributes:
        read: Reads the field of a given name.
        write: Makes the stored value; None if the item's key holds the value.
        entry: Reads the key of a map's entry, if the field is a map.
    """

    read: Callable[[Fields, str], object]
    write: Callable[..., object] | None = lambda value: value
    entry: Callable[[Fields, str], object] | None = None


class Added(NamedTuple):
    """Value of a field that items of earlier releases lack."""

    value: object


class Unwritten(NamedTuple):
    """Value of a field that is not written."""

    value: object


def _spans(fields: Fields, name: str) -> tuple[tuple[int, int], ...]:
    return tuple((each.whole("first"), each.whole("last")) for each in fields.rows(name, ("first", "last")))


AnyText = Annotated[str, Form(Fields.any_text)]
# DynamoDB's numbers have 38 digits, and those of JSON readers are exact up to 2^53.
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
    """Form of a field that the partition or sort key holds after a prefix."""
    return Form(lambda fields, _: fields.after(attribute, prefix), None)


def number_after(attribute: str, prefix: str) -> Form:
    """Form of a field with the number that the partition or sort key holds after a prefix."""
    return Form(lambda fields, _: fields.number_after(attribute, prefix), None)


class Keyed(Protocol):
    """A value that can compute the key of its item."""

    @property
    def key(self) -> Key: ...


K = TypeVar("K", bound=Keyed)


class StoredItem:
    """Base of a dataclass with a `key` that is stored as an item."""

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
    """Base of a dataclass that is stored as a JSON object, below its schema if it has one."""

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
    """The item of a value."""
    return {**value.key._asdict(), **members_of(value)}


def struct_of(cls: type[K], item: Item) -> K:
    """The value of an item; the inverse of `item_of`.

    Raises:
        LedgerCorruptError: The item has another form, or another key.
    """
    fields = Fields.of_item(item)
    made = read_struct(cls, fields)
    fields.check_key(made.key)
    return made


def members_of(value: object) -> dict[str, Value]:
    """Stored values of a dataclass or NamedTuple, by name."""
    cls: Callable[..., object] = type(value)
    members: dict[str, Value] = {}
    for name, stored, _, write, _, unwritten in _shape(cls):
        field = getattr(value, name)
        if write is not None and field != unwritten:
            members[stored] = write(field)  # type: ignore[assignment]  # a form writes what a store takes
    return members


def read_struct(cls: type[T], fields: Fields) -> T:
    """A dataclass or NamedTuple of stored values.

    Raises:
        LedgerCorruptError: A value is missing or of another type.
    """
    shape = _shape(cls)  # type: ignore[arg-type]  # classes are hashable
    if issubclass(cls, tuple):
        return cls(*[read(fields, stored) for _, stored, read, *_ in shape])  # type: ignore[arg-type]  # of a NamedTuple
    # Does what `__init__` does, but without keyword arguments: commits are read by the million.
    made = object.__new__(cls)
    for name, stored, read, _, absent, _ in shape:
        _set(made, name, read(fields, stored) if absent is _REQUIRED or stored in fields else absent)
    return made


# Its name, its stored name, how it is read and written, its value if absent, and the value that is not stored.
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
