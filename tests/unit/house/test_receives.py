"""Texts that say how often a message is received, how long that takes, and how many executions are reserved."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from typer.main import get_command

from metering.cli.app import app
from metering.fleet.regions import ALONE_FUNCTIONS, reserved_executions
from metering.fleet.stage import TUNABLES, StageConfig
from metering.operations.alarms import ALARMS
from metering.units import HOUR_S, MINUTE_S
from tests.support.with_each import with_each
from tests.unit.house.command_lines import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROD = StageConfig.load("prod")
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = rf"\b({'|'.join(_WORDS[2:])}|[2-9])"
# "failed seven times", "seven receives", "7 failures"; but SQS leaves out what was "received three times or more".
_TIMES = re.compile(
    rf"(?:received|fails?|failed|be read|a log file|the queue,) {_NUMBER} times\b(?! or more)"
    rf"|{_NUMBER} (?:failed )?(?:receives|failures|tries)\b"
)


def times_of(text: str) -> Iterator[int]:
    """Each number of receives that a text names."""
    for found in _TIMES.finditer(" ".join(text.split())):
        word = found[1] or found[2]
        yield int(word) if word.isdigit() else _WORDS.index(word)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@with_each(PAGES, name)
def test_a_page_names_the_receives_that_a_stage_has_by_default(page: Path) -> None:
    assert {*times_of(page.read_text())} <= {PROD.max_receives}


def test_the_pages_about_dead_letters_name_them_and_their_setting() -> None:
    telling = {name(page): page.read_text() for page in PAGES if "`max_receives`" in page.read_text()}
    assert {
        "docs/architecture.md",
        "docs/getting-started.md",
        "docs/on-ramps.md",
        "docs/releasing.md",
        "docs/runbooks/aggregator-errors.md",
        "docs/runbooks/dead-letters.md",
        "docs/runbooks/onramp-dead-letters.md",
        "docs/runbooks/onramp-errors.md",
    } <= telling.keys()
    assert [page for page, text in telling.items() if not [*times_of(text)]] == []


def test_another_number_of_receives_is_noticed() -> None:
    assert [*times_of("What fails\nfive times waits. After 6 receives it is dead, -. eight failures .->")] == [5, 6, 8]
    assert [*times_of("SQS leaves out what was received three times or more; each asks five times a second.")] == []


def test_what_a_stage_may_change_is_no_number_in_alarms_and_help() -> None:
    said = [spec.meaning for spec in ALARMS]
    family = get_command(app).commands["dlq"]  # type: ignore[attr-defined]  # typer says less than click
    said += [family.help, *(command.help for command in family.commands.values())]
    assert [text for text in said if [*times_of(text)]] == []


def test_the_time_until_a_message_is_dead_follows_from_the_settings() -> None:
    aggregator = " ".join((ROOT / "docs/runbooks/aggregator-errors.md").read_text().split())
    minutes = PROD.visibility_s // MINUTE_S
    assert f"hides it for {minutes} minutes (`visibility_s`): about {PROD.max_receives * minutes} minutes" in aggregator
    assert PROD.max_receives * PROD.onramp_visibility_s == 3.5 * HOUR_S
    assert "about three and a half hours" in (ROOT / "docs/runbooks/onramp-errors.md").read_text()


def test_the_quota_of_executions_is_what_the_functions_reserve() -> None:
    quota = 100 + reserved_executions(shards=TUNABLES["shards"])
    for page, said in (
        ("docs/architecture.md", f"needs a quota of {quota}"),
        ("docs/operator-guide.md", f"| {quota}: {_WORDS[len(ALONE_FUNCTIONS)]} functions reserve one each"),
        ("docs/runbooks/api-throttled.md", f"has to be {quota} and this"),
        ("CHANGELOG.md", f"a Lambda quota of {quota}."),
    ):
        assert said in " ".join((ROOT / page).read_text().split()), page
