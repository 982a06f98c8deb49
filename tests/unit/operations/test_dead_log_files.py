"""Dead letters of log files: which file each is about, and what is known of it without reading it."""

from __future__ import annotations

import json

import pytest

from metering.onramps.context.document import Context
from metering.onramps.context.facts import FlowLog
from metering.onramps.kinds import recognised
from metering.onramps.plans import plan_key
from metering.onramps.sources import LogSource
from metering.operations.dead_letters import DeadLogFiles
from metering.units import DAY_S, HOUR_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue

NOW_S = 1_800_000_000
ACCOUNT = "123456789012"
NAME = f"{ACCOUNT}_vpcflowlogs_us-west-2_fl-0a1b2c3d_20270115T0700Z_1a2b3c4d.log.gz"
KEY = f"AWSLogs/{ACCOUNT}/vpcflowlogs/us-west-2/2027/01/15/{NAME}"
FLOWS = LogSource(name="flows", bucket="acme-logs", region="us-west-2", prefix="AWSLogs/", accounts=(ACCOUNT,))
FLOW_LOG = FlowLog(
    id="fl-0a1b2c3d",
    resource_id="vpc-0a",
    resource_type="vpc",
    created_s=NOW_S - DAY_S,
    fields=(),
    traffic_type="ACCEPT",
    destination="arn:aws:s3:::acme-logs",
    destination_type="s3",
    account_id=ACCOUNT,
    region="us-west-2",
)


class Setup:
    """A region whose queue of dead letters of log files holds what a test puts there."""

    def __init__(self, *, context: Context | None = None) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.objects = MemoryObjectStore(self.clock)
        self.dead = MemoryQueue(self.clock)
        self.context = context
        self.listing = DeadLogFiles(
            dead=self.dead,
            sources=(FLOWS,),
            recognise=recognised,
            objects=self.objects,
            contexts=self,
            clock=self.clock,
            retention_s=14 * DAY_S,
        )

    def newest(self) -> Context | None:
        return self.context

    def die(self, body: str, *, name: str = "m-1", age_s: int = HOUR_S) -> None:
        self.dead.put_dead(name, body, (NOW_S - age_s) * 1000, 6, "events")

    def why(self, body: str) -> str:
        self.die(body)
        [found] = self.listing.files(limit=10)
        return found.why


def event(key: str = KEY, bucket: str = "acme-logs", **instead: object) -> str:
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "etag": "e"}}
    return json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail, **instead})


def captured() -> Context:
    return Context(sha256="0" * 64, effective_s=0, accounts=frozenset({ACCOUNT}), flow_logs={FLOW_LOG.id: FLOW_LOG})


def test_each_file_is_shown_with_its_place_and_age_and_stays_in_the_queue() -> None:
    setup = Setup(context=captured())
    setup.die(event(), name="m-2", age_s=60)
    setup.die(event(key=KEY.replace("0700Z", "0705Z")), age_s=HOUR_S)

    older, newer = setup.listing.files(limit=10)

    assert (older.age_s, newer.age_s) == (HOUR_S, 60)
    assert newer.file == f"s3://acme-logs/{KEY}"
    assert (newer.log_source, newer.receives, newer.message_id) == ("flows", 7, "m-2")
    assert newer.kept_until_s == NOW_S - 60 + 14 * DAY_S
    assert "metering errors onramp" in newer.why
    assert setup.dead.depth().visible == 2


def test_no_more_than_asked_for_is_looked_at() -> None:
    setup = Setup()
    for number in range(12):
        setup.die(event(), name=f"m-{number}")
    assert len(setup.listing.files(limit=11)) == 11


def test_a_file_that_waits_for_a_context_says_so() -> None:
    assert Setup().why(event()).startswith("No context that lists flow logs is captured yet")


def test_a_file_that_has_a_plan_says_that_nothing_is_lost() -> None:
    setup = Setup(context=captured())
    known = recognised(KEY)
    assert known is not None
    name = known[1]
    setup.objects.put(plan_key("vpc-flow", name.source, name.slot_s, name.identity), b"{}", if_absent=False)
    assert setup.why(event()).startswith("It has a plan")


@pytest.mark.parametrize(("body", "said"), [
    (event(bucket="other-logs"), "It lies in no log source of this region any more"),
    (event(key="AWSLogs/notes.txt"), "Its name is that of no log"),
    (event(key="AWSLogs/E2EXAMPLE12345.2027-01-15-07.a1b2c3d4.gz"), "Its kind is cloudfront, and flows does not take"),
    (event(**{"detail-type": "Object Deleted"}), "It is about no log file: an event that creates no object."),
    ("an event", "Its event cannot be read: "),
])  # fmt: skip
def test_what_the_event_and_the_name_tell_is_said(body: str, said: str) -> None:
    assert Setup(context=captured()).why(body).startswith(said)
