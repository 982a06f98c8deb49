"""Names of settings with their dots (`rollout.home`), and the nearest to a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

# A stage's name is a part of the names of its stacks.
STAGE_NAME = r"^[a-z][a-z0-9-]{0,15}$"

# Fields that are tables of their own. Laying one over another changes only the entries that it names.
TABLES = ("rollout", "tunables")


def flat(values: Mapping[str, object]) -> dict[str, object]:
    """Replace each table by its entries: `{"rollout": {"home": …}}` becomes `{"rollout.home": …}`."""
    found: dict[str, object] = {}
    for name, value in values.items():
        if name in TABLES and isinstance(value, Mapping):
            found |= {f"{name}.{entry}": each for entry, each in value.items()}
        else:
            found[name] = value
    return found


def nested(values: Mapping[str, object]) -> dict[str, object]:
    """Undo `flat`. What is no table where one must be stays, for a check to find."""
    found: dict[str, object] = {name: value for name, value in values.items() if "." not in name}
    for name, value in values.items():
        table, dot, entry = name.partition(".")
        if dot:
            held = found.get(table, {})
            if isinstance(held, Mapping):
                found[table] = {**held, entry: value}
    return found


def belongs(name: str, wanted: Iterable[str]) -> bool:
    """Whether a name is one of `wanted`, or an entry of a table that is."""
    return not {name, name.partition(".")[0]}.isdisjoint(wanted)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant: by its spelling, or by its entry alone (`shards`)."""
    names = list(known)
    entries = {each.rpartition(".")[2]: each for each in names}
    for candidates in (names, list(entries)):
        if found := get_close_matches(name.lower(), candidates, n=1, cutoff=0.7):
            return entries.get(found[0], found[0]) if found[0] not in names else found[0]
    return None
