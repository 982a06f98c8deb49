"""Reports of saved questions: each is made once a period, whatever dies and whatever is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from metering.errors import LedgerCorruptError, OperationFailedError, UnavailableError
from metering.hours import date_of
from metering.ledger.notes.saved import LastReport, StoredQuestion
from metering.ledger.notes.watch import Completeness
from metering.reports.costs.rows import CostParameters
from metering.reports.query import UsageParameters
from metering.reports.saved import (
    MOST_ATTEMPTS,
    MOST_QUESTIONS,
    PATIENCE_S,
    Made,
    Question,
    QuestionStore,
    ReportMaker,
    before_s,
    documents,
    due_s,
    question_of,
)
from metering.reports.time_range import InvalidParametersError
from metering.stores.objects import REPORTS_PREFIX
from metering.stores.writes import Put, Table
from metering.units import DAY_S, GIB, HOUR_S
from metering.wiring.answers.pages import report_maker
from tests.cli.lively import Lively
from tests.support.budget_world import CalledAlerts
from tests.support.lake_world import ACCOUNT, NOW_S, World, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.stores.clock import Deadline

# The 24th of November 2026 is a Tuesday.
MIDNIGHT_S = NOW_S - NOW_S % DAY_S
YESTERDAY = "2026-11-23"


class KilledError(BaseException):
    """End of the process, by time or memory."""


class Home(Lively):
    """A region with usage of yesterday, whose reports are due."""

    def __init__(self) -> None:
        super().__init__(world=World())
        self.world.send([record(5 * GIB, start_s=MIDNIGHT_S - 2 * HOUR_S)])
        self.world.send([record(7 * GIB, start_s=MIDNIGHT_S + HOUR_S)])
        self.world.compact_all()
        self.complete(NOW_S)

    @cached_property
    def topic(self) -> CalledAlerts:
        items = self.world.items
        return CalledAlerts(lambda call: items.on_call(call), lambda call: items.on_reply(call))  # noqa: PLW0108  # set later

    def complete(self, through_s: int) -> None:
        self.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=through_s).to_item()))

    def maker(self, answered: Callable[[Question, int], Made] | None = None) -> ReportMaker:
        made = report_maker(self, self.topic, bucket="data")
        return made if answered is None else replace(made, answered=answered)

    def deadline(self, seconds: int = 900) -> Deadline:
        return self.world.deadline(seconds)

    def save(self, name: str = "accounts", every: str = "day", **given: object) -> Question:
        kind = CostParameters if given.pop("cost", False) else UsageParameters
        prices = str(given.pop("prices", ""))
        question = question_of(name, every, kind(**given), prices=prices, now_s=NOW_S)  # type: ignore[arg-type]  # of one kind only
        QuestionStore(items=self.items, clock=self.clock).set(question)
        return question

    def files(self) -> list[str]:
        return [info.key for info in self.objects.list(REPORTS_PREFIX)]

    def told(self) -> list[Mapping[str, str | int]]:
        return [alert.fields for alert in self.topic.sent]


@pytest.fixture
def home() -> Home:
    return Home()


def test_a_report_is_a_page_rows_and_a_document_and_is_made_once(home: Home) -> None:
    question = home.save(group_by="account_id")
    run = home.maker().run(home.deadline())
    assert (run.made, run.refused, run.left) == (1, 0, 0)
    [document] = documents(home.objects, "accounts")
    assert (document.date, document.begins, document.ends) == (
        "2026-11-24", f"{YESTERDAY}T00:00:00Z", "2026-11-24T00:00:00Z",
    )  # fmt: skip
    assert sorted(home.files()) == sorted(
        [document.page, document.rows, f"reports/accounts/2026-11-24/{question.digest}.json"]
    )
    assert home.objects.get(document.rows).decode().splitlines()[1:] == [f"{ACCOUNT},{5 * GIB},1,0"]
    assert f"{5 * GIB:,} bytes in 1 record" in home.objects.get(document.page).decode()
    [told] = home.told()
    assert told["page"] == f"s3://data/{document.page}"
    assert told["question"] == "metering report usage --group-by account_id"
    assert (told["kind"], told["look"]) == ("report", "metering reports show accounts --stage local --region us-east-1")
    before = home.files()
    assert home.maker().run(home.deadline()).made == 0
    assert (home.files(), len(home.told())) == (before, 1)
    home.clock.advance_s(DAY_S)
    home.complete(NOW_S + DAY_S)
    assert home.maker().run(home.deadline()).made == 1
    assert [each.date for each in documents(home.objects, "accounts")] == ["2026-11-25", "2026-11-24"]
    assert len(home.told()) == 2


def test_whatever_dies_there_is_one_report_and_one_identity_of_its_message(home: Home) -> None:
    """The answers of two attempts differ, because usage came between them: page and rows are of the same attempt."""
    calls = 0
    while True:
        region = Home()
        region.save()
        died = region.world.dies_after(calls, lambda region=region: region.maker().run(region.deadline()))  # type: ignore[misc]  # its default is of this turn
        region.world.send([record(3 * GIB, start_s=MIDNIGHT_S - 3 * HOUR_S)])
        region.maker().run(region.deadline())
        [document] = documents(region.objects, "accounts")
        size = 5 * GIB if f",{5 * GIB}," in region.objects.get(document.rows).decode() else 8 * GIB
        assert f",{size}," in region.objects.get(document.rows).decode()
        assert f"{size:,} bytes in" in region.objects.get(document.page).decode()
        assert len({each["id"] for each in region.told()}) == 1
        assert len({each["page"] for each in region.told()}) == 1
        assert region.maker().run(region.deadline()).made == 0
        if not died:
            break
        calls += 1
    assert calls > 10


def test_a_lost_reply_to_any_call_makes_no_second_report_and_loses_none() -> None:
    """A call is done, and its answer is lost: the next run finds what was done."""
    calls, lost = 0, True
    while lost:
        region = Home()
        region.save()
        left, lost = calls, False

        def lose(_call: str) -> None:
            nonlocal left, lost
            left -= 1
            if left < 0 and not lost:
                lost = True
                raise UnavailableError("any.Call", "the reply is lost")

        region.items.on_reply = region.objects.on_reply = lose
        with suppress(UnavailableError):
            region.maker().run(region.deadline())
        region.items.on_reply = region.objects.on_reply = lambda _call: None
        region.world.send([record(3 * GIB, start_s=MIDNIGHT_S - 3 * HOUR_S)])
        region.maker().run(region.deadline())
        [document] = documents(region.objects, "accounts")
        assert {(each["id"], each["page"]) for each in region.told()} == {
            (region.told()[0]["id"], f"s3://data/{document.page}")
        }
        assert region.maker().run(region.deadline()).made == 0
        calls += 1
    assert calls > 6


def test_two_makers_at_once_make_one_report(home: Home) -> None:
    home.save()
    slow = home.maker()

    def late(question: Question, at_s: int) -> Made:
        home.maker().run(home.deadline())
        return replace(slow.answered(question, at_s), rows=b"late")

    home.maker(late).run(home.deadline())
    [document] = documents(home.objects, "accounts")
    assert home.objects.get(document.rows) != b"late"
    assert {each["rows"] for each in home.told()} == {f"s3://data/{document.rows}"}


def test_a_report_waits_for_the_count_and_not_for_ever(home: Home) -> None:
    home.save()
    home.complete(MIDNIGHT_S - 1)
    early = home.maker()
    home.clock.advance_s(MIDNIGHT_S + PATIENCE_S - 1 - NOW_S)
    assert (early.run(home.deadline()).waiting, early.run(home.deadline()).made) == (1, 0)
    assert home.files() == []
    home.clock.advance_s(1)
    assert home.maker().run(home.deadline()).made == 1
    [document] = documents(home.objects, "accounts")
    assert document.complete_through == f"{YESTERDAY}T23:59:59Z"


def test_a_question_that_is_refused_says_so_and_keeps_no_other_waiting(home: Home) -> None:
    home.save("bill", cost=True, prices="contract")
    home.save("usage")
    run = home.maker().run(home.deadline())
    assert (run.made, run.refused) == (1, 1)
    [document] = documents(home.objects, "bill")
    assert "price book contract" in document.refused
    assert (document.page, document.rows) == ("", "")
    refused, made = home.topic.sent
    assert (refused.severity, refused.subject) == ("ticket", "report bill of 2026-11-24 could not be made")
    assert refused.fields["refused"] == document.refused
    assert made.subject == "report usage of 2026-11-24 is made"
    assert home.maker().run(home.deadline()).refused == 0
    assert len(home.told()) == 2


def test_a_question_that_was_mended_is_answered_in_the_same_period(home: Home) -> None:
    home.save("bill", cost=True, prices="contract")
    home.maker().run(home.deadline())
    home.save("bill", cost=True, prices="sample", group_by="account_id")
    assert home.maker().run(home.deadline()).made == 1
    [document] = [each for each in documents(home.objects, "bill") if each.page]
    assert home.objects.get(document.rows).decode().startswith("account_id,bytes,quantity_gb,cost_usd")
    assert "Total: " in home.objects.get(document.page).decode()
    assert document.question == "metering cost --group-by account_id --prices sample"


def test_what_cannot_be_read_is_refused_and_what_gives_no_answer_is_tried_again(home: Home) -> None:
    home.save("broken")
    home.save("a-silent-one")
    home.save("fine")
    whole = home.maker()

    def answered(question: Question, at_s: int) -> Made:
        if question.name == "broken":
            raise LedgerCorruptError("an item is wrong")
        if question.name == "a-silent-one":
            raise UnavailableError("s3.GetObject", "no answer")
        return whole.answered(question, at_s)

    for _ in range(MOST_ATTEMPTS + 2):
        with pytest.raises(UnavailableError):
            home.maker(answered).run(home.deadline())
    assert [alert.subject for alert in home.topic.sent] == [
        "report broken of 2026-11-24 could not be made", "report fine of 2026-11-24 is made",
    ]  # fmt: skip
    assert whole.run(home.deadline()).made == 1
    assert documents(home.objects, "a-silent-one")[0].page


def test_a_question_that_kills_its_process_is_given_up_and_keeps_no_other_waiting(home: Home) -> None:
    home.save("a-large-one")
    home.save("small")
    whole = home.maker()

    def answered(question: Question, at_s: int) -> Made:
        if question.name == "a-large-one":
            raise KilledError
        return whole.answered(question, at_s)

    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(KilledError):
            home.maker(answered).run(home.deadline())
    assert documents(home.objects, "small")[0].page
    assert home.maker(answered).run(home.deadline()).refused == 1
    assert "did not end in 3 attempts" in documents(home.objects, "a-large-one")[0].refused


def test_without_time_the_next_run_makes_it(home: Home) -> None:
    home.save()
    assert home.maker().run(home.deadline(60)).left == 1
    assert home.files() == []


@pytest.mark.parametrize(
    ("every", "due", "before"),
    [
        ("day", "2026-11-24", "2026-11-23"),
        ("week", "2026-11-23", "2026-11-16"),
        ("month", "2026-11-01", "2026-10-01"),
    ],
)
def test_reports_are_due_at_midnights_in_utc(every: str, due: str, before: str) -> None:
    at_s = due_s(every, NOW_S)  # type: ignore[arg-type]  # of one kind only
    assert (date_of(at_s), date_of(before_s(every, at_s))) == (due, before)  # type: ignore[arg-type]  # of one kind only
    assert due_s(every, at_s) == at_s  # type: ignore[arg-type]  # of one kind only
    assert at_s % DAY_S == 0


@pytest.mark.parametrize(
    ("every", "given", "begins", "ends"),
    [
        ("day", {}, "2026-11-23", "2026-11-24"),
        ("week", {}, "2026-11-16", "2026-11-23"),
        ("month", {}, "2026-10-01", "2026-11-01"),
        ("day", {"last": "7d"}, "2026-11-17", "2026-11-24"),
        ("day", {"start": "yesterday"}, "2026-11-23", "2026-11-24"),
        ("month", {"start": "last-month"}, "2026-10-01", "2026-11-01"),
        ("day", {"start": "this-month"}, "2026-11-01", "2026-11-24"),
        ("week", {"start": "2026-11-01"}, "2026-11-01", "2026-11-02"),
    ],
)
def test_words_and_spans_are_read_as_of_the_midnight(every: str, given: dict[str, str], begins: str, ends: str) -> None:
    for kind in (UsageParameters, CostParameters):
        question = question_of("a", every, kind(**given), now_s=NOW_S)  # type: ignore[arg-type]  # of one kind only
        query = question.query(due_s(question.every, NOW_S))
        assert (date_of(query.from_s), date_of(query.to_s), query.from_s % DAY_S) == (begins, ends, 0)


def test_a_question_that_makes_no_sense_is_not_saved() -> None:
    good = UsageParameters(group_by="account_id")
    for name, every, words in (("A B", "day", "1 to 64"), ("a", "hour", "not one of day, week, month")):
        with pytest.raises(OperationFailedError, match=words):
            question_of(name, every, good, now_s=NOW_S)
    for wrong in (replace(good, group_by="colour"), replace(good, start="today"), replace(good, start="2031")):
        with pytest.raises(InvalidParametersError):
            question_of("a", "day", wrong, now_s=NOW_S)


def test_questions_are_stored_whole_and_few(home: Home) -> None:
    asked = CostParameters(
        filters={"payer": [ACCOUNT], "to_location": ["internet", "eu-west-1"]}, last="7d", zone="Europe/Berlin",
        group_by="day", top=5, with_corrections=True, month=None,
    )  # fmt: skip
    question = question_of("bill", "week", asked, prices="sample@2", now_s=NOW_S)
    store = QuestionStore(items=home.items, clock=home.clock)
    store.set(question)
    assert store.get("bill") == question
    assert store.get("bill").command == (
        f"metering cost --group-by day --payer {ACCOUNT} --to-location internet --to-location eu-west-1 "
        "--with-corrections --last 7d --tz Europe/Berlin --top 5 --prices sample@2"
    )
    assert store.get("bill").digest == question.digest
    store.remove("bill")
    with pytest.raises(OperationFailedError, match="no saved report bill"):
        store.get("bill")
    for number in range(MOST_QUESTIONS):
        home.save(f"report-{number}")
    home.save("report-0", top=3)
    with pytest.raises(OperationFailedError, match="50 are the most"):
        home.save("one-more")


def test_a_stored_question_that_cannot_be_read_is_named(home: Home) -> None:
    for text in ("{", '{"colour": 1}', "[]"):
        stored = StoredQuestion(name="a", every="day", about="usage", parameters=text, set_s=NOW_S)
        home.items.put(Put(table=Table.LEDGER, item=stored.to_item()))
        with pytest.raises(LedgerCorruptError, match="W#reports / a"):
            home.maker().run(home.deadline())


def test_what_is_stored_reads_back() -> None:
    last = LastReport(name="a", question="0", date="2026-11-24", attempts=2, sent=True, document="k", refused="why")
    assert LastReport.from_item(last.to_item()) == last
    assert json.loads(json.dumps(last.to_item()))["sk"] == "report#a"
