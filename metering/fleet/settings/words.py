"""Describes types and problems of settings in plain words instead of the validator's."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from metering.fleet.settings.bases import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

# Regular expressions of settings -> an example to show to people.
_EXAMPLES = {
    r"^\d{4}-\d{2}-\d{2}$": "a date such as 2026-01-01",
    r"^[a-z][a-z0-9-]{0,15}$": "a letter, then up to 15 of a-z, 0-9 and dashes",
}
_LONGEST = 60


class InWords(NamedTuple):
    """Description of a field's values, attached as metadata to the field's type."""

    text: str


class Problem(NamedTuple):
    """Problem of one setting.

    Attributes:
        field: Dotted name; empty if the problem is that several settings contradict each other.
        text: Text of the problem, to be read after the name; if there is no name, a full sentence.
    """

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field} {self.text}" if self.field else self.text


def kind_of(field: FieldInfo) -> str:
    """Describe the type and range of a setting: `a whole number from 1 to 10,000`."""
    said = next((each.text for each in field.metadata if isinstance(each, InWords)), "")
    return said or _kind(field.annotation, field)


def _kind(annotation: object, field: FieldInfo | None) -> str:
    origin, arguments = get_origin(annotation), [each for each in get_args(annotation) if each is not NoneType]
    if origin in {Union, UnionType} and len(arguments) == 1:
        return _kind(arguments[0], field)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return "a list of tables" if _below(arguments[0]) else "a list of texts"
    if annotation is bool:
        return "true or false"
    if annotation is int:
        return _number(field)
    if annotation is str:
        return _text(field)
    return "a table"


def _number(field: FieldInfo | None) -> str:
    bounds = field.metadata if field is not None else []
    least = next((each.ge for each in bounds if hasattr(each, "ge")), None)
    most = next((each.le for each in bounds if hasattr(each, "le")), None)
    if least is None:
        return "a whole number"
    return f"a whole number of at least {least:,}" if most is None else f"a whole number from {least:,} to {most:,}"


def _text(field: FieldInfo | None) -> str:
    pattern = next((p for each in (field.metadata if field else []) if (p := getattr(each, "pattern", None))), "")
    return _EXAMPLES.get(pattern, "text")


def problems_of(error: ValidationError, model: type[BaseModel], known: Iterable[str]) -> list[Problem]:
    """Describe every problem that Pydantic found in a model; `known` holds dotted names of settings."""
    names = tuple(known)
    return [problem for details in error.errors() for problem in _problems(details, model, names)]


def _problems(details: ErrorDetails, model: type[BaseModel], known: Sequence[str]) -> list[Problem]:
    name = ".".join(part for part in details["loc"] if isinstance(part, str))
    entry = next((f" (entry {part + 1})" for part in details["loc"] if isinstance(part, int)), "")
    if details["type"] == "extra_forbidden":
        return [unknown(f"{name}{entry}", known, spelled=name)]
    if details["type"] == "missing":
        return [Problem(f"{name}{entry}", "is missing")]
    if details["type"] == "value_error":
        return [Problem(f"{name}{entry}", f"is refused: {text}" if name else str(text)) for text in _told(details)]
    return [Problem(f"{name}{entry}", f"is {shown(details['input'])}; it must be {_wanted(details['loc'], model)}")]


def unknown(name: str, known: Iterable[str], *, spelled: str = "") -> Problem:
    """The problem of an unknown setting, with the name of the setting that was probably meant."""
    near = nearest(spelled or name, known)
    return Problem(name, "is not a setting" + (f": did you mean {near}?" if near else ""))


def _told(details: ErrorDetails) -> tuple[object, ...]:
    error = details.get("ctx", {}).get("error")
    return error.args if isinstance(error, ValueError) else (details["msg"],)


def shown(value: object) -> str:
    """Format a value for people; long values are truncated."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:,}" if isinstance(value, int) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _wanted(place: Sequence[str | int], model: type[BaseModel]) -> str:
    fields: Mapping[str, FieldInfo] = model.model_fields
    found: FieldInfo | None = None
    for part in place:
        if isinstance(part, int):
            continue
        if part not in fields:
            # The value is in a table of texts or of numbers.
            return "text" if found is not None and str in get_args(found.annotation)[1:] else "a whole number"
        found = fields[part]
        fields = _below(found.annotation)
    if found is None:
        return "a table"
    inside = any(isinstance(part, int) for part in place) and isinstance(place[-1], int)
    return ("a table" if fields else "text") if inside else kind_of(found)


def _below(annotation: object) -> Mapping[str, FieldInfo]:
    """Fields of a model, or of the model that is in a list."""
    inner = next(iter(get_args(annotation)), annotation) if get_origin(annotation) is tuple else annotation
    return inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
