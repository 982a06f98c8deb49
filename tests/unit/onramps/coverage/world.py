"""Plans of flow logs in an in-memory bucket, and the coverage job over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError
from metering.hours import parse_hour
from metering.onramps.context.document import Context, FlowLog
from metering.onramps.coverage.job import CoverageJob
from metering.onramps.coverage.looking import SLOT_S
from metering.onramps.plans import Part, Plan, Share
from metering.onramps.reading import Balance
from metering.onramps.sources import LogSource
from metering.units import DAY_S, HOUR_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from metering.ledger.notes.log_sources import LogFigures, LogSourceState

HOUR = parse_hour("2026-11-24T13")
ACCOUNT = "123456789012"
LOG = "fl-0a1b2c3d4e5f60718"
STAGE = LogSource(
    name="network", bucket="acme-logs", region="us-west-2", prefix="AWSLogs/", kinds=("vpc-flow", "cloudfront")
)


def plan(slot_s: int | None, *, log: str = LOG, number: int = 0, kind: str = "vpc-flow", **changes: object) -> Plan:
    """A plan of a file of 10 lines, of which 6 are metered with 600 bytes; 60 of these bytes are unclassified."""
    values: dict[str, object] = {
        "identity": f"flow:{log}_{slot_s}_{number}", "kind": kind, "source": log, "account_id": ACCOUNT,
        "region": "us-west-2", "slot_s": slot_s, "etag": "e", "content_sha256": "0" * 64, "contexts": {}, "rules": "1",
        "place": f"s3://acme-logs/AWSLogs/{ACCOUNT}/vpcflowlogs/us-west-2/2026/11/24/{log}_{slot_s}_{number}.log.gz",
        "parts": (Part(batch_id=f"flow:{log}_{slot_s}_{number}/0", records=2, bytes=600),),
        "balance": Balance(
            lines=10, header=1, metered=6, rejected=1, nodata=1, skipdata=1, stated_bytes=640, metered_bytes=600,
            rejected_bytes=40,
        ),
        "shares": (
            Share(usage_type="USW2-DataTransfer-Out-Bytes", rule="internet", reason="", bytes=540, lines=5),
            Share(usage_type="USW2-Unclassified-Out-Bytes", rule="unknown", reason="on_premises", bytes=60, lines=1),
        ),
        "shadowed": (), "refusals": (), "planned_s": (slot_s or HOUR) + 15 * 60,
    }  # fmt: skip
    return Plan(**{**values, **changes})  # type: ignore[arg-type]  # the fields of a plan


@dataclass
class Setup:
    """A region with plans; `reads` has the keys of the plans that were read, `calls` the calls to the bucket."""

    log_sources: tuple[LogSource, ...] = (STAGE,)
    context: Context | None = None
    now_s: int = HOUR
    items: MemoryItemStore = field(default_factory=MemoryItemStore)
    plans: dict[str, Plan] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = ManualClock(self.now_s * 1000)
        self.objects = MemoryObjectStore(self.clock, on_call=self.calls.append)

    def put(self, *plans: Plan) -> None:
        for each in plans:
            self.plans[each.key] = each
            self.objects.put(each.key, b"{}", if_absent=True)

    def put_slots(self, from_s: int, to_s: int, *, log: str = LOG) -> None:
        """Put a plan for each slot from `from_s` (inclusive) to `to_s` (exclusive)."""
        self.put(*(plan(slot_s, log=log) for slot_s in range(from_s, to_s, SLOT_S)))

    def drop(self, slot_s: int, *, log: str = LOG) -> None:
        key = plan(slot_s, log=log).key
        self.objects.remove(key)
        del self.plans[key]

    def read(self, key: str) -> Plan:
        self.reads.append(key)
        if key not in self.plans:
            raise ObjectMissingError(key)
        return self.plans[key]

    @property
    def job(self) -> CoverageJob:
        return CoverageJob(
            items=self.items, objects=self.objects, clock=self.clock, kinds={"vpc-flow": None, "cloudfront": DAY_S},
            log_sources=self.log_sources, newest_context=lambda: self.context, read_plan=self.read, window_s=35 * DAY_S,
            keep_s=65 * DAY_S, unclassified_permille=200,
        )  # fmt: skip

    def run(self, now_s: int, *, whole: bool = False) -> LogFigures:
        self.clock.advance_s(max(now_s - self.clock.now_ms() // 1000, 0))
        return self.job.run(now_s, whole=whole)

    def state(self, log: str = LOG, kind: str = "vpc-flow") -> LogSourceState:
        return next(each for each in self.job.states() if (each.kind, each.source) == (kind, log))


def listed(*logs: str, effective_s: int = HOUR, status: str = "", bucket: str = "acme-logs") -> Context:
    """A context that lists these flow logs."""
    what = ("vpc-1", "vpc", HOUR - HOUR_S, (), "ALL", f"arn:aws:s3:::{bucket}", "s3", ACCOUNT, "us-west-2", status)
    found = {log: FlowLog(log, *what) for log in logs}
    return Context(sha256="", effective_s=effective_s, places=((ACCOUNT, "us-west-2"),), flow_logs=found)
