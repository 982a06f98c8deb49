"""Hold five usual organisations' policies against the stage with all its settings, and without them.

    python -m tests.organisations

With the settings, nothing may be refused; without them, each organisation must refuse something, and each seeded breach
must be found: a policy that refuses nothing would prove nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tests.infra.conftest  # noqa: F401  # which Node to use
from tests.infra.support.organisation import SETTINGS
from tests.infra.support.synthesis import Synthesised, synthesised
from tests.organisations.asked import Asked, asked_by
from tests.organisations.breaches import BREACHES
from tests.organisations.evaluator import refused
from tests.organisations.policies import ORGANISATIONS, Organisation

# What the stage does in both cases; only the rules' own settings differ.
_SAME = ("api", "log_sources", "trusted_accounts")


def organised() -> Synthesised:
    """Stage prod with every setting for an organisation."""
    return synthesised("prod", overrides=json.dumps(SETTINGS))


def plain() -> Synthesised:
    """The same stage without these settings."""
    return synthesised("prod", overrides=json.dumps({name: SETTINGS[name] for name in _SAME}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Outcome of one organisation's rules.

    Attributes:
        with_settings, without: Refusals, in words.
        found, seeded: Number of breaches that were found, and of those that were seeded.
        missed: Seeded breaches that were not found.
    """

    name: str
    with_settings: tuple[str, ...]
    without: tuple[str, ...]
    seeded: int
    missed: tuple[str, ...]

    @property
    def red(self) -> bool:
        return bool(self.with_settings or not self.without or self.missed or not self.seeded)


def row(organisation: Organisation, good: Asked, bad: Asked) -> Row:
    """Judge one organisation's rules."""
    seeds, known = BREACHES[organisation.name], tuple(refused(organisation, good))
    missed = [name for name, seed in seeds.items() if not set(refused(organisation, seed(good))) - set(known)]
    return Row(
        name=organisation.name,
        with_settings=known,
        without=tuple(refused(organisation, bad)),
        seeded=len(seeds),
        missed=tuple(missed),
    )


def lines(rows: Sequence[Row], asked: Asked) -> Iterator[str]:
    """The report."""
    calls, roles = len(asked.requests), len({each.source for each in asked.grants})
    yield f"{calls} calls, {len(asked.resources)} resources, {len(asked.grants)} grants in {roles} policies"
    yield f"{'organisation':<26}{'refused':>9}{'without':>9}{'seeded':>9}{'found':>7}"
    for each in rows:
        found = each.seeded - len(each.missed)
        yield f"{each.name:<26}{len(each.with_settings):>9}{len(each.without):>9}{each.seeded:>9}{found:>7}"
    for each in rows:
        yield from (f"REFUSED by {each.name}: {text}" for text in each.with_settings)
        yield from (f"NOT FOUND by {each.name}: {text}" for text in each.missed)
        if each.without:
            yield f"without the settings, {each.name} refuses: {each.without[0]}"
        else:
            yield f"NOTHING refused by {each.name} without the settings"


def main(answers: Mapping[str, Asked] | None = None, organisations: Sequence[Organisation] = ORGANISATIONS) -> int:
    """Print the report; returns 0 only if nothing is refused that must not be, and every breach is found."""
    good, bad = (answers["with"], answers["without"]) if answers else (asked_by(organised()), asked_by(plain()))
    rows = [row(organisation, good, bad) for organisation in organisations]
    for line in lines(rows, good):
        sys.stdout.write(f"{line}\n")
    return int(any(each.red for each in rows))


if __name__ == "__main__":
    sys.exit(main())
