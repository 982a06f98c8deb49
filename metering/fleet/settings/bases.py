"""Built-in stages, which are the same in every installation. Every other stage names a built-in stage as its base."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

# On an emulator, units are free, and people expect to see their usage soon.
_SOON: dict[str, object] = {"rollup_every_s": 1, "rollup_blocks": 1, "scan_every_s": 0}
_EMULATED: dict[str, object] = {
    "emulated": True,
    "stateful_retained": False,
    "log_retention_days": 1,
    "batch_window_s": 1,
    "visibility_s": 420,
    "max_concurrency": 4,
    "onramp_timeout_s": 60,
    "onramp_memory_mb": 512,
    "onramp_concurrency": 2,
    "versioned": False,
    "analytics": False,
    "composite_alarms": False,
    "tunables": _SOON,
    "rollout": {
        "bake_min": 0,
        "canaries": 1,
        "canary_wait_min": 5,
        # A laptop builds the stacks of these regions in minutes. Other regions are only built if a command names them.
        "allow": ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1"],
    },
}

STAGES: dict[str, dict[str, object]] = {
    "local": {**_EMULATED, "api": True},
    # Visibility timeouts of 15 s and 20 s return the messages of a killed worker before a test times out.
    "killtest": {
        **_EMULATED,
        "batch_window_s": 0,
        "timeout_s": 15,
        "visibility_s": 20,
        "max_receives": 5,
        "short_visibility": True,
        "tunables": {**_SOON, "reserve_ms": 5_000},
    },
    "dev": {
        "stateful_retained": False,
        "log_retention_days": 30,
        "lake_retention_days": 365,
        "tunables": {"scan_every_s": 0},
    },
    # Reading every marker every 15 minutes would cost too much: docs/decisions/0013-reconciliation.md.
    "prod": {"log_retention_days": 365, "rollout": {"pager_needed": True}},
}

# Settings for rehearsing an account's stage on an emulator. All other settings are those of the stage itself.
REHEARSAL: dict[str, object] = {"emulated": True, "rehearsal": True, "composite_alarms": False}
# Rollout rules for a rehearsal, in which nobody waits a quarter of an hour.
REHEARSAL_RULES: dict[str, object] = {"bake_min": 0, "canaries": 1, "canary_wait_min": 5}

# Base of a stage without `like`: it is the strictest base, so that the stage cannot lose data or its pager.
SAFEST = "prod"


def runs_on_emulator(stage: str) -> bool:
    """Whether a stage runs only on emulators; False if the name is unknown."""
    return bool(STAGES.get(stage, {}).get("emulated"))


# A stage's name is part of its stacks' names.
STAGE_NAME = r"^[a-z][a-z0-9-]{0,15}$"

# Fields that are tables. If a layer has such a table, it changes only the entries that it names.
TABLES = ("rollout", "causes", "bootstrap", "tunables")


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
    """Undo `flat`. If there is a value where a table should be, the value stays, so that validation reports it."""
    found: dict[str, object] = {name: value for name, value in values.items() if "." not in name}
    for name, value in values.items():
        table, dot, entry = name.partition(".")
        if dot:
            held = found.get(table, {})
            if isinstance(held, Mapping):
                found[table] = {**held, entry: value}
    return found


def belongs(name: str, wanted: Iterable[str]) -> bool:
    """Whether `wanted` has the name, or a table to which the name belongs."""
    return not {name, name.partition(".")[0]}.isdisjoint(wanted)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Known name that is most similar to `name`, either as a whole or only in its last part (`shards`)."""
    names = list(known)
    entries = {each.rpartition(".")[2]: each for each in names}
    for candidates in (names, list(entries)):
        if found := get_close_matches(name.lower(), candidates, n=1, cutoff=0.7):
            return entries.get(found[0], found[0]) if found[0] not in names else found[0]
    return None
