"""Outcomes of a new object in a log source: only transient errors are retried."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.errors import LogFileRefusedError, UnavailableError
from metering.intake.envelopes import CreatedObject
from metering.onramps.arrivals import Arrival, Arrivals
from metering.onramps.context.document import Context, FlowLog
from metering.onramps.ingest.taking import Taken, TakenAs
from metering.onramps.reading import NO_OTHERS, FileName, Others
from metering.onramps.sources import NAMED, SHARED_SUBNETS, Bills, LogSource
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.small_logs import NEEDS_CONTEXT
from tests.unit.onramps.coverage.world import plan

if TYPE_CHECKING:
    from metering.onramps.kinds import LogKind

FLOWS = LogSource(
    name="flows", bucket="acme-logs", region="us-west-2", prefix="AWSLogs/", kinds=("small",), accounts=("1" * 12,)
)
WIDE = LogSource(name="wide", bucket="wide-logs", region="us-west-2", kinds=("small",))
KEY = "AWSLogs/small_1"


def taken(
    verdict: TakenAs = "metered", problem: tuple[str, str] | None = None, messages: int = 1, others: Others = NO_OTHERS
) -> Taken:
    return Taken(verdict=verdict, place="", plan=plan(None, others=others), problem=problem, messages=messages)


@dataclass
class World:
    """The handler of arrivals, with fakes that record the calls made to them."""

    says: Taken | Exception = field(default_factory=taken)
    context: Context | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    kept: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objects = MemoryObjectStore(ManualClock(0))
        self.objects.put(KEY, b"x", if_absent=False)

    @property
    def arrivals(self) -> Arrivals:
        return Arrivals(
            sources=(FLOWS, WIDE),
            store_of=lambda _: self,  # type: ignore[arg-type,return-value]  # the reading half, and a place
            recognise=recognise,
            files=self,
            refusals=self,
            contexts=self,
        )

    def take(self, store: object, key: str, **asked: Any) -> Taken:
        self.asked.append({"key": key, **asked})
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def keep_file(self, place: str, error: LogFileRefusedError, *, etag: str = "", version_id: str = "") -> str:
        self.kept.append((place, error.reason, f"{etag}/{version_id}"))
        return "quarantine/logs/file/x.json"

    def newest(self) -> Context | None:
        return self.context

    def list(self, prefix: str, *, after: str = "") -> Any:
        return self.objects.list(prefix, after=after)


def recognise(key: str) -> tuple[LogKind, FileName] | None:
    other = replace(NEEDS_CONTEXT, name="other")
    if "other_" in key:
        return other, FileName(kind="other", identity="other:1")
    name = NEEDS_CONTEXT.recognise(key)
    return None if name is None else (NEEDS_CONTEXT, name)


def found(key: str = KEY, bucket: str = "acme-logs") -> CreatedObject:
    return CreatedObject(bucket=bucket, key=key, etag="e", version_id="v")


def a_context(*accounts: str, flow_logs: bool = True) -> Context:
    log = FlowLog("fl-1", "vpc-1", "vpc", 0, (), "ALL", "", "s3", "1" * 12, "us-west-2")
    logs = {"fl-1": log} if flow_logs else {}
    return Context(sha256="0" * 64, effective_s=0, accounts=frozenset(accounts), flow_logs=logs)


@pytest.mark.parametrize("verdict", ["metered", "repeated", "empty"])
def test_a_new_file_is_taken_as_the_very_object_that_was_announced(verdict: Any) -> None:
    world = World(says=taken(verdict=verdict), context=a_context())
    assert world.arrivals.take(found()) == Arrival(
        verdict=verdict, place="s3://acme-logs/AWSLogs/small_1", source="flows", messages=1
    )
    assert world.asked == [{"key": KEY, "etag": "e", "version_id": "v", "bills": Bills.listed(["1" * 12])}]
    assert world.kept == []


def test_organization_allows_the_accounts_of_the_context() -> None:
    world = World(context=a_context("2" * 12, "3" * 12))
    answer = world.arrivals.take(found("small_1", "wide-logs"))
    assert answer.deprecated.startswith('accounts = "organization" lets the lines of any file bill')
    assert world.asked[0]["bills"] == Bills.listed(["2" * 12, "3" * 12])


@pytest.mark.parametrize("bills", [NAMED, SHARED_SUBNETS])
def test_a_source_bills_whom_names_and_subnets_say(bills: Bills) -> None:
    world = World(context=a_context("2" * 12))
    source = replace(WIDE, billed_as=str(bills.billed_as))
    answer = replace(world.arrivals, sources=(source,)).take(found("small_1", "wide-logs"))
    assert world.asked[0]["bills"] == bills
    assert answer.deprecated == ""


@pytest.mark.parametrize("context", [None, a_context(flow_logs=False)])
def test_a_file_that_came_before_the_first_context_waits_for_it(context: Context | None) -> None:
    world = World(context=context)
    with pytest.raises(UnavailableError, match="no context that lists flow logs"):
        world.arrivals.take(found())
    assert (world.asked, world.kept) == ([], [])


def test_a_file_of_a_name_like_no_logs_is_left_to_the_verdict_of_who_takes_files() -> None:
    world = World(says=taken(verdict="refused", problem=("unknown_name", "why"), messages=0))
    answer = world.arrivals.take(found("AWSLogs/else.log"))
    assert (answer.verdict, answer.reason, answer.detail) == ("refused", "unknown_name", "why")


@pytest.mark.parametrize(("event", "reason"), [
    (found("else/small_1"), "not_allowed"),
    (found(bucket="others-logs"), "not_allowed"),
    (found("AWSLogs/other_1"), "not_metered_kind"),
])  # fmt: skip
def test_what_the_source_is_not_for_is_kept_by_reference_and_not_read(event: CreatedObject, reason: str) -> None:
    world = World(context=a_context())
    answer = world.arrivals.take(event)
    assert (answer.verdict, answer.reason) == ("refused", reason)
    assert world.kept == [(f"s3://{event.bucket}/{event.key}", reason, "e/v")]
    assert world.asked == []


def test_an_object_that_is_gone_is_done_with_whatever_s3_calls_it() -> None:
    missing = World(says=taken(verdict="refused", problem=("missing", "gone"), messages=0), context=a_context())
    assert missing.arrivals.take(found()).verdict == "vanished"

    denied = World(says=UnavailableError("s3.HeadObject", "403"), context=a_context())
    denied.objects.delete([KEY])
    # The key is a prefix of another key, and that other key exists.
    denied.objects.put(f"{KEY}0", b"x", if_absent=False)
    assert denied.arrivals.take(found()).verdict == "vanished"


@pytest.mark.parametrize(("call", "gone"), [
    ("sqs.SendMessageBatch", True), ("s3.PutObject", True), ("s3.GetObject", False),
])  # fmt: skip
def test_an_object_that_is_gone_once_it_was_read_or_cannot_be_read_now_is_taken_again(call: str, gone: bool) -> None:
    """If plan and parts are already stored, the next delivery sends the parts without a read of the file."""
    world = World(says=UnavailableError(call, "no answer"), context=a_context())
    if gone:
        world.objects.delete([KEY])
    with pytest.raises(UnavailableError, match="no answer"):
        world.arrivals.take(found())


def test_a_message_that_nobody_understands_is_kept_and_done_with() -> None:
    world = World()
    assert world.arrivals.refuse("message 1", "not JSON").verdict == "refused"
    assert world.kept == [("message 1", "unreadable", "/")]
