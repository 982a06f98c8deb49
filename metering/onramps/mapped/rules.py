"""Rules of a mapping, as they stand in its file: checked one by one, with every problem in words."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

from metering.onramps.mapped.values import TIME_FORMATS, NumberRule, TextRule, TimeRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXT_KEYS = ("column", "constant", "values", "otherwise", "digits")
_NUMBER_KEYS = ("column", "constant", "unit")
_TIME_KEYS = ("column", "format")
_MAX_DIGITS = 64


class Problems:
    """Problems of a mapping, in the order of their discovery."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)


def nearest(name: str, names: Iterable[str]) -> str:
    """Advice for a name that does not exist: the nearest one that does, or all of them if they are few."""
    known = list(names)
    folded = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f": did you mean {folded[close[0]]!r}?"
    return f": there are {', '.join(known[:24])}" if known else ""


def unknown_keys(where: str, table: Mapping[str, object], known: Iterable[str], problems: Problems) -> None:
    """Name the keys of a table that mean nothing."""
    known = tuple(known)
    for key in table:
        if key not in known:
            problems.add(f"{where} has no {key!r}{nearest(key, known)}")


def text_rule(name: str, value: object, problems: Problems, *, optional: bool) -> TextRule | None:
    """Rule of a text: the name of a column, or a table."""
    table = _table(name, value, TEXT_KEYS, problems)
    if table is None:
        return None
    column, constant = table.get("column", ""), table.get("constant", "")
    values, otherwise, digits = table.get("values", {}), table.get("otherwise"), table.get("digits", 0)
    before = len(problems.found)
    if not isinstance(column, str) or not isinstance(constant, str) or bool(column) == bool(constant):
        problems.add(f"{name} needs either a column or a constant, as a text")
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        problems.add(f"{name}.values is a table of texts")
    if otherwise is not None and not isinstance(otherwise, str):
        problems.add(f"{name}.otherwise is a text")
    if not isinstance(digits, int) or not 0 <= digits <= _MAX_DIGITS:
        problems.add(f"{name}.digits is a number from 0 to {_MAX_DIGITS}")
    if constant and len(table) > 1:
        problems.add(f"{name} is a constant, so it can have nothing else")
    if len(problems.found) > before:
        return None
    return TextRule(
        column=cast("str", column),
        constant=cast("str", constant),
        values=cast("dict[str, str]", values),
        otherwise=cast("str | None", otherwise),
        digits=cast("int", digits),
        optional=optional,
    )


def number_rule(name: str, value: object, units: Mapping[str, int], problems: Problems) -> NumberRule | None:
    """Rule of a number with a unit."""
    if value is None:
        problems.add(f"{name} is missing: give a column, or a table with column and unit")
        return None
    table = _table(name, value, _NUMBER_KEYS, problems)
    if table is None:
        return None
    smallest = next(iter(units))
    column, constant, unit = table.get("column", ""), table.get("constant"), table.get("unit", smallest)
    before = len(problems.found)
    if not isinstance(column, str) or bool(column) == (constant is not None):
        problems.add(f"{name} needs either a column or a constant")
    if constant is not None and (not isinstance(constant, int) or isinstance(constant, bool) or constant < 0):
        problems.add(f"{name}.constant is a whole number, not below 0")
    if unit not in units:
        problems.add(f"{name}.unit has no {unit!r}{nearest(str(unit), units)}")
    if len(problems.found) > before:
        return None
    factor = units[cast("str", unit)]
    return NumberRule(
        column=cast("str", column), constant=cast("int", constant or 0) * factor, factor=factor, name=cast("str", unit)
    )


def time_rule(name: str, value: object, problems: Problems) -> TimeRule | None:
    """Rule of a time: a column with its form."""
    if value is None:
        problems.add(f"{name} is missing: give a table with column and format")
        return None
    table = _table(name, value, _TIME_KEYS, problems)
    if table is None:
        return None
    column, pattern = table.get("column"), table.get("format", "rfc3339")
    before = len(problems.found)
    if not isinstance(column, str) or not column:
        problems.add(f"{name} needs a column")
    if not isinstance(pattern, str) or (pattern not in TIME_FORMATS and "%" not in pattern):
        problems.add(f"{name}.format is one of {', '.join(TIME_FORMATS)} or a strptime pattern, not {pattern!r}")
    if len(problems.found) > before:
        return None
    return TimeRule(column=cast("str", column), pattern=cast("str", pattern))


def _table(name: str, value: object, keys: Iterable[str], problems: Problems) -> dict[str, object] | None:
    if isinstance(value, str):
        return {"column": value}
    if not isinstance(value, dict):
        problems.add(f"{name} is the name of a column, or a table")
        return None
    unknown_keys(name, value, keys, problems)
    return {key: each for key, each in value.items() if key in keys}
