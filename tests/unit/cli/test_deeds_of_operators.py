"""Announcements of operators' commands before a change, and the line that each leaves in the audit trail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.billing.freezing import PeriodNotClosableError
from metering.cli.commands.analyst import periods
from metering.cli.commands.operator import quarantine
from metering.cli.commands.operator.status import audit
from metering.cli.failures import CommandFailedError, WrongUsageError, wrong_options
from metering.errors import OperationFailedError
from metering.ledger.notes.deeds import DeedState
from metering.reports.time_range import InvalidParametersError
from tests.support.command_line import OperatorSession
from tests.support.lake_world import World, record
from tests.support.usage_items import change, usage_of
from tests.unit.audit.test_reconcile import world_with_traffic
from tests.unit.audit.test_restoring import Restored
from tests.unit.billing.test_checklist import MONTH, October

if TYPE_CHECKING:
    from collections.abc import Callable


def test_closing_a_month_says_that_it_is_for_good_and_leaves_its_figures_in_the_trail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = OperatorSession(October().world)
    periods.period_close(session, MONTH)
    assert f"{MONTH} never changes again" in capsys.readouterr().err
    [deed] = session.trail()
    assert (deed.what, deed.subject, deed.state) == ("period close", MONTH, DeedState.OK)
    assert deed.result == "closed, 2 hours, 2 records"


def test_a_month_that_cannot_be_closed_is_refused_before_the_question_and_leaves_no_line() -> None:
    session = OperatorSession(October().world)
    with pytest.raises(PeriodNotClosableError):
        periods.period_close(session, "2026-11")
    assert session.trail() == []


def test_a_close_that_fails_leaves_a_line_that_failed() -> None:
    world = October().world
    change(world.items, usage_of(world.items, MONTH)[0], 1)
    session = OperatorSession(world)
    with pytest.raises(PeriodNotClosableError, match="differ"):
        periods.period_close(session, MONTH)
    assert [deed.state for deed in session.trail()] == [DeedState.FAILED]


def test_a_dead_letter_refuses_the_close_unless_it_is_accepted_and_the_trail_says_that_it_was() -> None:
    session = OperatorSession(October().world)
    session.here.dead_letters.send_many(["x"])
    with pytest.raises(PeriodNotClosableError, match="--accept"):
        periods.period_close(session, MONTH, accept=["freshness"])
    assert session.trail() == []
    periods.period_close(session, MONTH, accept=["freshness", "dead-letters"])
    [deed] = session.trail()
    assert "Accepted although it blocks: freshness, dead-letters." in deed.consequence


def test_nobody_closes_a_month_without_consent() -> None:
    world = October().world
    session = OperatorSession(world, agreed=False)
    with pytest.raises(WrongUsageError, match="--yes"):
        periods.period_close(session, MONTH)
    assert session.trail() == []
    assert world.jobs.closer.frozen(MONTH) is None


def test_a_rebuild_names_the_figure_that_it_repaired_to_people_to_programs_and_in_the_trail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    after = world.usage()[entry.key]
    change(world.items, entry, -3, 2)
    session = OperatorSession(world)
    # The commands use the machine's clock, but the world has its own.
    periods.rebuild_usage(session, "2026-11", "2026-12")
    out, err = capsys.readouterr()
    said = f"{after.bytes - 3:,} -> {after.bytes:,} bytes, {after.records + 2:,} -> {after.records:,} records"
    assert said in err
    document = json.loads(out)
    assert document["repaired"] == 1
    [repair] = document["repairs"]
    assert (repair["bytes_before"], repair["bytes_after"]) == (str(after.bytes - 3), str(after.bytes))
    [deed] = session.trail()
    assert said in deed.result
    assert deed.subject == "--from 2026-11 --to 2026-12"


def test_after_a_restore_the_new_usage_table_is_filled_and_the_trail_says_which(
    capsys: pytest.CaptureFixture[str],
) -> None:
    region = Restored()
    region.next_table()
    region.jobs = region.process()
    session = OperatorSession(region)

    periods.rebuild_usage(session, restored=True)

    assert region.usage() == region.rows()
    out, err = capsys.readouterr()
    assert json.loads(out)["repaired"] == len(region.rows())
    assert "The ledger goes with usage table 3, and the functions work again." in err
    [deed] = session.trail()
    assert (deed.what, deed.subject, deed.state) == ("rebuild usage", "--restored", DeedState.OK)
    assert "in usage table 3" in deed.result


def test_a_whole_table_is_filled_or_none_of_it() -> None:
    session = OperatorSession(Restored())
    with pytest.raises(WrongUsageError, match="leave out --from and --to"):
        periods.rebuild_usage(session, "2026-11", restored=True)
    with pytest.raises(OperationFailedError, match="there is no new one to fill"):
        periods.rebuild_usage(session, restored=True)
    assert [deed.state for deed in session.trail()] == [DeedState.FAILED]


def refused() -> World:
    world = World()
    for _ in range(2):
        world.send([record(1), {**record(5), "account_id": "x"}])
    world.send([{**record(5), "account_id": "x"}])
    return world


def test_a_retry_says_how_many_entries_and_records_it_sends_and_sends_them(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(refused())
    quarantine.retry(session, reason="invalid_account_id")
    assert "3 of 3 entries, with 3 records as far as is known, go into the ingest queue again" in (
        capsys.readouterr().err
    )
    assert len(session.here.ingest.bodies()) == 3
    [deed] = session.trail()
    assert (deed.subject, deed.result) == ("--reason invalid_account_id", "3 of 3 entries sent again")


def test_a_retry_that_is_only_tried_sends_nothing_and_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(refused(), agreed=False)
    quarantine.retry(session, reason="invalid_account_id", dry_run=True)
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3
    assert session.here.ingest.bodies() == []
    assert session.trail() == []


def test_what_cannot_be_sent_again_is_told_before_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(refused())
    with pytest.raises(CommandFailedError, match="1 of 1 could not be sent again"):
        quarantine.retry(session, name="batch-2", as_new_id=True)
    assert "Send it without --as-new-id" in capsys.readouterr().err
    assert session.trail() == []


@pytest.mark.parametrize("words", ["list", "retry"])
def test_a_reason_that_does_not_exist_is_refused_with_the_nearest_and_all_others(words: str) -> None:
    commands: dict[str, Callable[..., None]] = {"list": quarantine.list_, "retry": quarantine.retry}
    command = commands[words]
    with pytest.raises(InvalidParametersError) as refused_:
        command(OperatorSession(World()), reason="invalid_acount")
    told = wrong_options(refused_.value)
    assert str(told).startswith("--reason invalid_acount is not a reason")
    assert "Nearest: invalid_account, invalid_account_id" in told.advice
    for reason in ("too_late", "conflict", "not_json"):
        assert reason in told.advice


def test_the_audit_shows_the_newest_deed_first_and_one_command_or_family_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = OperatorSession(October().world)
    periods.rebuild_markers(session)
    periods.period_close(session, MONTH)
    capsys.readouterr()
    for what, shown in ((None, ["period close", "rebuild markers"]), ("period", ["period close"]), ("dlq", [])):
        audit(session, what=what)
        assert [row["what"] for row in json.loads(capsys.readouterr().out)["rows"]] == shown
    audit(session, limit=1)
    out, err = capsys.readouterr()
    assert [row["what"] for row in json.loads(out)["rows"]] == ["period close"]
    assert "There are more than 1." in err


def test_a_deed_that_was_killed_is_shown_as_begun_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(World())
    hands = session.deed(what="dlq redrive", subject="", consequence="")
    hands.__enter__()
    capsys.readouterr()
    audit(session)
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert (row["state"], row["result"], row["ended"]) == ("begun", "begun, no end", None)
