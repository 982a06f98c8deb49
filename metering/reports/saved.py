"""Saved questions and their reports: one page and one file of rows for each question and period, made once.

A report is made of three objects below `reports/<name>/<date>/`. The page and the rows have names by their content, so
two attempts never mix. The document is put last and only if absent: it names both, and is the report. A run may stop at
any call and be repeated.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from metering.errors import (
    LedgerCorruptError,
    MeteringError,
    ObjectMissingError,
    OperationFailedError,
    UnavailableError,
)
from metering.hours import date_of, month_bounds_s, month_of, rfc3339
from metering.ledger.notes import saved
from metering.ledger.notes.watch import COMPLETENESS_KEY, Completeness
from metering.reports import answer
from metering.reports.costs.rows import CostParameters, CostQuery
from metering.reports.query import UsageParameters, UsageQuery, given_names
from metering.reports.time_range import InvalidParametersError, refused
from metering.stores.codec import AnyText, StoredDocument
from metering.stores.objects import report_key, reports_prefix
from metering.stores.writes import Delete, ItemStore, Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.stores.clock import Alerts, Clock, Deadline
    from metering.stores.objects import ObjectStore

EVERY: tuple[saved.Every, ...] = ("day", "week", "month")
MOST_QUESTIONS = 50
"""Questions of a region. Each may read as much as one report by hand."""
# A report waits for the count to be complete, but not for ever: it says how far the count is.
PATIENCE_S = 6 * HOUR_S
# An attempt that is killed says nothing. After as many, the question is too large for the function.
MOST_ATTEMPTS = 3
# With less time left, the next run makes the report.
_LEAST_MS = 2 * MINUTE_S * 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_OPTIONS = {"start": "from", "end": "to", "zone": "tz"}
_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that is asked again each day, week or month, by the parameters of a report of usage or of costs.

    Attributes:
        prices: Price book of costs; empty for the one in force.
    """

    name: str
    every: saved.Every
    parameters: UsageParameters
    prices: str = ""

    @property
    def about(self) -> str:
        return "cost" if isinstance(self.parameters, CostParameters) else "usage"

    @property
    def digest(self) -> str:
        """Identity of the question, without its name."""
        text = f"{self.every}\n{self.about}\n{self.prices}\n{json.dumps(self.plain(), sort_keys=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def command(self) -> str:
        """The command that asks the same, as of the time at which it is given."""
        words = ["metering", *(["cost"] if self.about == "cost" else ["report", "usage"])]
        for name, value in self.plain().items():
            option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
            if isinstance(value, dict):
                for each, texts in value.items():
                    words += [word for text in texts for word in (f"--{each.replace('_', '-')}", text)]
            else:
                words += [option] if value is True else [option, str(value)]
        return shlex.join([*words, *(["--prices", self.prices] if self.prices else [])])

    def plain(self) -> dict[str, object]:
        """The parameters that differ from their defaults, as JSON has them."""
        found: dict[str, object] = {}
        for each in fields(self.parameters):
            value = getattr(self.parameters, each.name)
            if each.name == "filters":
                value = {name: list(texts) for name, texts in value.items() if texts}
            if value and value != each.default:
                found[each.name] = value
        return found

    def query(self, due_s: int) -> UsageQuery:
        """The usage that the report due at a time is about. It ends at this time.

        Without times in the question, it is about the day, week or month that ends then.

        Raises:
            InvalidParametersError: A parameter is invalid, or the range has not begun.
        """
        asked = self.parameters
        if isinstance(asked, CostParameters):
            asked = asked if asked.month is None else replace(asked, start=asked.month, month=None)
        if not (asked.start or asked.end or asked.last):
            asked = replace(asked, start=rfc3339(before_s(self.every, due_s)), end=rfc3339(due_s))
        # A span ends with the current hour, which is the last one of the period.
        query = asked.query(now_s=due_s - 1 if asked.last else due_s)
        if query.from_s >= due_s:
            problem = f"begins after the report, which is due at {rfc3339(due_s)}."
            raise InvalidParametersError([refused("from", rfc3339(query.from_s), problem)])
        return replace(query, to_s=min(query.to_s, due_s))

    def cost_query(self, due_s: int) -> CostQuery:
        """As `query`, for a question about costs."""
        return CostQuery(usage=self.query(due_s), payers=given_names(self.parameters.filters.get("payer")))


def due_s(every: saved.Every, now_s: int) -> int:
    """The last time at which a report was due: a midnight in UTC, of a Monday or of the first of a month."""
    if every == "month":
        return month_bounds_s(month_of(now_s - now_s % HOUR_S))[0]
    day_s = now_s - now_s % DAY_S
    return day_s if every == "day" else day_s - datetime.fromtimestamp(day_s, UTC).weekday() * DAY_S


def before_s(every: saved.Every, due_at_s: int) -> int:
    """The time at which the report before was due."""
    return due_s(every, due_at_s - 1)


def question_of(name: str, every: str, parameters: UsageParameters, *, prices: str = "", now_s: int) -> Question:
    """A question that can be asked.

    Raises:
        OperationFailedError: The name or the period is wrong.
        InvalidParametersError: The report that is due next would be refused. Carries every problem found.
    """
    if _NAME.fullmatch(name) is None:
        raise OperationFailedError(f"The name {name!r} is not 1 to 64 of a-z, 0-9 and -.", "Nothing was saved.")
    known = next((each for each in EVERY if each == every), None)
    if known is None:
        raise OperationFailedError(f"--every {every} is not one of {', '.join(EVERY)}.", "Nothing was saved.")
    question = Question(name=name, every=known, parameters=parameters, prices=prices)
    question.query(due_s(known, now_s))
    return question


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionStore:
    """The saved questions of a region."""

    items: ItemStore
    clock: Clock

    def list(self) -> list[Question]:
        """Every question, by name.

        Raises:
            LedgerCorruptError: One of them cannot be read.
        """
        items = self.items.query(Table.LEDGER, saved.QUESTIONS_PK)
        return [_question(saved.StoredQuestion.from_item(each)) for each in items]

    def get(self, name: str) -> Question:
        """The question of a name.

        Raises:
            OperationFailedError: The name is unknown.
        """
        item = self.items.get(Table.LEDGER, saved.question_key(name))
        if item is None:
            raise OperationFailedError(f"There is no saved report {name}.", "List them: metering reports list")
        return _question(saved.StoredQuestion.from_item(item))

    def set(self, question: Question) -> None:
        """Save a question, in place of one of its name.

        Raises:
            OperationFailedError: There are too many.
        """
        others = {each.name for each in self.list()} - {question.name}
        if len(others) >= MOST_QUESTIONS:
            raise OperationFailedError(
                f"There are {len(others)} saved reports, and {MOST_QUESTIONS} are the most.", "Remove one first."
            )
        stored = saved.StoredQuestion(
            name=question.name, every=question.every, about="cost" if question.about == "cost" else "usage",
            parameters=json.dumps(question.plain()), prices=question.prices, set_s=self.clock.now_ms() // 1_000,
        )  # fmt: skip
        self.items.put(Put(table=Table.LEDGER, item=stored.to_item()))

    def remove(self, name: str) -> None:
        """Forget a question. Its reports stay."""
        self.items.delete(Delete(table=Table.LEDGER, key=saved.question_key(name)))

    def last(self, name: str) -> saved.LastReport | None:
        """The newest report of a question, or the attempts to make it."""
        item = self.items.get(Table.LEDGER, saved.made_key(name))
        return None if item is None else saved.LastReport.from_item(item)


def _question(stored: saved.StoredQuestion) -> Question:
    kind = CostParameters if stored.about == "cost" else UsageParameters
    try:
        parameters = kind(**json.loads(stored.parameters))
    except (TypeError, ValueError) as error:
        raise LedgerCorruptError(f"{stored.key.pk} / {stored.name}: {error}") from error
    return Question(name=stored.name, every=stored.every, parameters=parameters, prices=stored.prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument(StoredDocument):
    """A report: the question, and the keys of page and rows, or the reason of the refusal.

    Attributes:
        question: Command that asks the same.
        begins, ends: Range of the report, RFC 3339.
        as_of: Time at which it was made.
        complete_through: Time through which everything was counted then; empty if unknown.
        page, rows: Keys of the HTML page and of the CSV; empty if the question was refused.
        refused: Reason and advice; empty if there is a page.
    """

    SCHEMA: ClassVar[str] = "metering.report/1"
    name: str
    date: str
    every: saved.Every
    question: str
    begins: AnyText = ""
    ends: AnyText = ""
    as_of: str
    complete_through: AnyText = ""
    page: AnyText = ""
    rows: AnyText = ""
    refused: AnyText = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An HTML page and a CSV of rows."""

    page: bytes
    rows: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportsRun:
    """Result of a run.

    Attributes:
        made, refused: Number of reports that were made, with a page or with the reason of the refusal.
        waiting: Number of reports that wait for the count to be complete.
        left: Number of reports for which no time was left.
    """

    made: int = 0
    refused: int = 0
    waiting: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A report that is due at `at_s`, as far as it is made, and the time through which everything is counted."""

    question: Question
    at_s: int
    through_s: int
    last: saved.LastReport

    @property
    def key(self) -> str:
        """Key of the document. A question that was changed makes another report of the same day."""
        return self.place(f"{self.question.digest}.json")

    def place(self, file: str) -> str:
        return report_key(self.question.name, self.last.date, file)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMaker:
    """Makes the reports that are due in a region, and sends a message about each.

    Attributes:
        answered: Answers a question as it is due at a time.
        bucket: Name of the bucket, for messages.
    """

    items: ItemStore
    objects: ObjectStore
    alerts: Alerts
    clock: Clock
    answered: Callable[[Question, int], Made]
    stage: str
    region: str
    bucket: str

    @property
    def questions(self) -> QuestionStore:
        return QuestionStore(items=self.items, clock=self.clock)

    def run(self, deadline: Deadline) -> ReportsRun:
        """Make every report that is due, each once. One that fails delays no other.

        Raises:
            UnavailableError: A call failed, after all other reports were made; the next run makes the rest.
        """
        due = [each for question in self.questions.list() if (each := self._due(question)) is not None]
        counts = {"made": 0, "refused": 0, "waiting": 0, "left": 0}
        failure: MeteringError | None = None
        # The question that was tried least comes first, so that one that kills the process keeps none waiting.
        for work in sorted(due, key=lambda each: (each.last.attempts, each.question.name)):
            if work.through_s < work.at_s and self._now_s() < work.at_s + PATIENCE_S:
                counts["waiting"] += 1
                continue
            if deadline.remaining_ms() < _LEAST_MS:
                counts["left"] += 1
                continue
            try:
                document = self._make(work)
            except UnavailableError as error:
                failure = error
                continue
            counts["refused" if document.refused else "made"] += 1
        if failure is not None:
            raise failure
        return ReportsRun(**counts)

    def _due(self, question: Question) -> _Work | None:
        """Work on the report that is due; None if its message was sent."""
        at_s = due_s(question.every, self._now_s())
        date, last = date_of(at_s), self.questions.last(question.name)
        if last is None or (last.question, last.date) != (question.digest, date):
            last = saved.LastReport(name=question.name, question=question.digest, date=date)
        if last.sent:
            return None
        return _Work(question=question, at_s=at_s, through_s=self._through_s(), last=last)

    def _make(self, work: _Work) -> ReportDocument:
        document = self._stored(work.key)
        if document is None:
            self._write(replace(work.last, attempts=work.last.attempts + 1))
            try:
                document = self._put(work)
            except UnavailableError:
                # Only an attempt that is killed counts.
                self._write(work.last)
                raise
        self._send(work.question, document)
        self._write(replace(work.last, sent=True, document=work.key, refused=document.refused))
        return document

    def _put(self, work: _Work) -> ReportDocument:
        """Answer a question, and put its page and rows, then the document. Returns the document that is there then."""
        try:
            document = self._answered(work)
        except MeteringError as error:
            if error.retryable:
                raise
            document = replace(self._head(work), refused=" ".join([str(error), *getattr(error, "__notes__", [])]))
        if self.objects.put(work.key, document.to_json(), if_absent=True):
            return document
        return ReportDocument.from_json(self.objects.get(work.key), work.key)

    def _answered(self, work: _Work) -> ReportDocument:
        if work.last.attempts >= MOST_ATTEMPTS:
            raise OperationFailedError(
                f"It did not end in {work.last.attempts} attempts: it takes more time or memory than the function has.",
                "Ask for fewer accounts or a shorter range: metering reports add --help",
            )
        query = work.question.query(work.at_s)
        made = self.answered(work.question, work.at_s)
        name = f"{work.question.digest}-{hashlib.sha256(made.page + made.rows).hexdigest()[:16]}"
        rows, page = work.place(f"{name}.csv"), work.place(f"{name}.html")
        self.objects.put(rows, made.rows, if_absent=True)
        self.objects.put(page, made.page, if_absent=True)
        return replace(self._head(work), page=page, rows=rows, begins=rfc3339(query.from_s), ends=rfc3339(query.to_s))

    def _head(self, work: _Work) -> ReportDocument:
        return ReportDocument(
            name=work.question.name, date=work.last.date, every=work.question.every, question=work.question.command,
            as_of=rfc3339(self._now_s()), complete_through=rfc3339(work.through_s) if work.through_s else "",
        )  # fmt: skip

    def _stored(self, key: str) -> ReportDocument | None:
        try:
            return ReportDocument.from_json(self.objects.get(key), key)
        except ObjectMissingError:
            return None

    def _send(self, question: Question, document: ReportDocument) -> None:
        identity = f"report\n{question.name}\n{question.digest}\n{document.date}"
        look = f"metering reports show {question.name} --stage {self.stage} --region {self.region}"
        told = {
            "kind": "report",
            "id": hashlib.sha256(identity.encode()).hexdigest()[:24],
            "report": question.name,
            "date": document.date,
            "question": document.question,
            "stage": self.stage,
            "region": self.region,
            "as_of": document.as_of,
            "complete_through": document.complete_through,
            "page": document.page and f"s3://{self.bucket}/{document.page}",
            "rows": document.rows and f"s3://{self.bucket}/{document.rows}",
            "refused": document.refused,
            "look": look,
        }
        verb = "could not be made" if document.refused else "is made"
        self.alerts.send(
            "ticket",
            f"report {question.name} of {document.date} {verb}",
            {name: text for name, text in told.items() if text},
        )

    def _write(self, last: saved.LastReport) -> None:
        self.items.put(Put(table=Table.LEDGER, item=last.to_item()))

    def _through_s(self) -> int:
        item = self.items.get(Table.LEDGER, COMPLETENESS_KEY)
        return 0 if item is None else Completeness.from_item(item).through_s

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1_000


def documents(objects: ObjectStore, name: str) -> list[ReportDocument]:
    """The reports of a question that are kept, the newest first."""
    keys = [info.key for info in objects.list(reports_prefix(name)) if info.key.endswith(".json")]
    return [ReportDocument.from_json(objects.get(key), key) for key in reversed(keys)]


_QUESTIONS: answer.RowType[tuple[Question, saved.LastReport | None]] = answer.RowType(
    answer.copied("report", of=lambda it: it[0].name, priority=answer.KEEP),
    answer.short("every", of=lambda it: it[0].every, priority=answer.KEEP),
    answer.copied("last", of=lambda it: it[1].date if it[1] and it[1].sent else None, priority=answer.KEEP),
    answer.short("state", of=lambda it: _state(it[1])),
    answer.prose("question", of=lambda it: it[0].command),
    answer.copied(
        "document", of=lambda it: it[1].document if it[1] and it[1].document else None, priority=answer.ROOMY
    ),
    answer.prose("refused", of=lambda it: it[1].refused if it[1] and it[1].refused else None),
)
_DOCUMENTS: answer.RowType[ReportDocument] = answer.RowType(
    answer.copied("date", priority=answer.KEEP),
    answer.copied("from", of=lambda it: it.begins or None),
    answer.copied("to", of=lambda it: it.ends or None),
    answer.copied("as_of"),
    answer.copied("complete_through", of=lambda it: it.complete_through or None),
    answer.copied("page", of=lambda it: it.page or None),
    answer.copied("rows_file", of=lambda it: it.rows or None, title="rows"),
    answer.prose("refused", of=lambda it: it.refused or None),
    answer.prose("question", priority=answer.ROOMY),
)


def _state(last: saved.LastReport | None) -> str:
    if last is None:
        return "not due yet"
    if last.sent:
        return "refused" if last.refused else "made"
    return f"begun {last.attempts} times"


def saved_reports(items: ItemStore, clock: Clock) -> answer.Answer:
    """The saved questions of a region, each with its newest report."""
    store = QuestionStore(items=items, clock=clock)
    found = [(question, store.last(question.name)) for question in store.list()]
    return _QUESTIONS.answer(
        found,
        title="Saved reports",
        empty="No report is saved. To save one: metering reports add --help",
        commands=tuple(f"metering reports show {question.name}" for question, last in found[:3] if last),
    )


def documents_answer(name: str, found: Sequence[ReportDocument]) -> answer.Answer:
    """The reports of a question."""
    return _DOCUMENTS.answer(
        found, title=f"Reports {name}", commands=(f"metering reports show {name} --html {name}.html",)
    )
