"""Runbooks by the names at hand, with the right place in every command."""

from __future__ import annotations

import pytest

from metering.errors import OperationFailedError
from metering.operations.runbooks import Subject, commands_by_part, linked_runbooks, placed, runbook_in, subject_of

PAGE = """# conflicts

See [dead letters](dead-letters.md), and [dead letters](dead-letters.md) again.

## How to see

```console
$ metering quarantine list --region REGION --stage STAGE
```

## How to check

```console
$ metering region status REGION --stage STAGE
```
"""


@pytest.mark.parametrize(("name", "subject"), [
    ("conflicts", Subject(runbook="conflicts")),
    ("dead-letter-queue", Subject(runbook="dead-letters")),
    ("metering-prod-dead-letters", Subject(runbook="dead-letters", stage="prod")),
    ("metering-eu-test-watch-errors", Subject(runbook="watch-errors", stage="eu-test")),
    (
        "arn:aws-cn:cloudwatch:cn-north-1:123456789012:alarm:metering-prod-oldest-message",
        Subject(runbook="oldest-batch", stage="prod", region="cn-north-1"),
    ),
])  # fmt: skip
def test_a_runbook_is_found_by_each_name_of_its_alarms(name: str, subject: Subject) -> None:
    assert subject_of(name) == subject


@pytest.mark.parametrize("name", ["", "nothing", "metering-prod", "metering--dead-letters", "prod-dead-letters"])
def test_another_name_is_refused_with_the_command_that_lists_them(name: str) -> None:
    with pytest.raises(OperationFailedError) as error:
        subject_of(name)
    assert "metering runbook" in error.value.advice


def test_the_state_of_all_pages_is_no_alarm_with_a_runbook() -> None:
    with pytest.raises(OperationFailedError, match="no runbook of its own"):
        subject_of("metering-prod-page-state")


def test_the_place_stands_in_every_command() -> None:
    text = placed(PAGE, region="eu-west-1", stage="prod")
    assert commands_by_part(text) == (
        ("How to see", "metering quarantine list --region eu-west-1 --stage prod"),
        ("How to check", "metering region status eu-west-1 --stage prod"),
    )


def test_the_runbooks_that_a_page_names_are_listed_once() -> None:
    assert linked_runbooks(PAGE) == ("dead-letters",)
    assert linked_runbooks("[a](sources.md#source-gaps), [b](#silent-sources)") == ("source-gaps", "silent-sources")


def test_a_runbook_of_a_shared_page_has_its_own_parts_and_those_of_all() -> None:
    items = "- `watch-errors`, `canary-errors`: Ours.\n  Now.\n- `rollup-errors`: No.\n- `other`: An item.\n"
    sections = "### rollup-errors\n\nNo.\n\n### canary-errors, watch-errors\n\nFUNCTION.\n\n### all\n\nAll.\n"
    own = "# watch-errors\n\nOurs.\n  Now.\n- `other`: An item.\n\nwatch.\n\nAll.\n"
    assert runbook_in(f"# function-errors\n\n{items}\n{sections}", "watch-errors") == own


def test_a_link_to_a_page_that_an_installed_package_lacks_becomes_its_words() -> None:
    text = placed("As [docs/guide.md](../guide.md#rollback) and [x](x.md) say.", region="eu-west-1", stage="prod")
    assert text == "As docs/guide.md and [x](x.md) say."
