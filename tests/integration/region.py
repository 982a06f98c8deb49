"""One region on MiniStack with production use cases over real adapters, and its expected results.

Expected results are derived by hand from the sent records, without production code.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.runtime import SystemEntropy
from metering.adapters.aws.session import Clients
from metering.commit.aggregator import InvocationResult
from metering.ledger.booked_hours import Published
from metering.ledger.periods import Period
from metering.stores.objects import closed_month_key
from metering.stores.queues import Delivery
from metering.stores.writes import Item, Put, Table
from metering.wiring.aggregator import build_aggregator
from metering.wiring.jobs import LakeJobs, lake_jobs
from metering.wiring.lake import build_rollup
from tests.support.emulated import Resources, make_resources
from tests.support.memory.clock import DeadlineAt, ManualClock, MemoryAlerts, MemoryMetrics
from tests.support.stage import settings

# 2026-11-24T13:30:00Z
NOW_S = 1_795_527_000
HOUR = "2026-11-24T13"
LATE_START = "2026-10-30T07:10:00Z"
LATE_HOUR = "2026-10-30T07"


class Line(NamedTuple):
    """Readable key of a usage total; `corrects` is empty, except in totals of late records of a closed month."""

    hour: str
    account_id: str
    usage_type: str
    corrects: str = ""


# Bytes and records by line.
Totals = dict[Line, tuple[int, int]]


def added(figures: Iterable[tuple[Line, int, int]]) -> Totals:
    totals: Totals = {}
    for line, size, records in figures:
        before = totals.get(line, (0, 0))
        totals[line] = (before[0] + size, before[1] + records)
    return totals


def record(account: int, size: object, *, usage_type: str | None = None, start: str = HOUR + ":05:00Z") -> dict:  # type: ignore[type-arg]  # JSON
    """A record as a producer writes it."""
    made = {
        "account_id": f"{account:012d}",
        "service": "AmazonEC2",
        "resource_id": f"i-{account}",
        "direction": "out",
        "from": "us-east-1/use1-az2",
        "to": "internet",
        "bytes": size,
        "start": start,
        "end": start,
    }
    return made if usage_type is None else {**made, "usage_type": usage_type}


def body(batch_id: str, records: Sequence[object], **more: object) -> str:
    message = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": len(records), "records": records}
    return json.dumps(message | more)


def delivery(message_id: str, text: str, *, receive_count: int = 1, sender: str = "alice") -> Delivery:
    return Delivery(
        message_id=message_id, body=text, sent_at_ms=NOW_S * 1000, receive_count=receive_count, sender_id=sender
    )


class Region:
    """Tables, a bucket and one worker; tables and bucket are new by default."""

    def __init__(self, clients: Clients, *, resources: Resources | None = None) -> None:
        self.resources = make_resources(clients) if resources is None else resources
        self.clock = ManualClock(NOW_S * 1000)
        self.metrics = MemoryMetrics()
        self.alerts = MemoryAlerts()
        self.entropy = SystemEntropy()
        self.items = DynamoDbItemStore(clients.dynamodb, self.resources.tables)
        self.objects = S3ObjectStore(clients.s3, self.resources.bucket)
        self.settings = settings(
            ledger_table=self.resources.ledger,
            usage_table=self.resources.usage,
            data_bucket=self.resources.bucket,
            # So few that some kinds of the scenarios get no number.
            kinds_per_account=130,
        )

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 600_000)

    def jobs(self) -> LakeJobs:
        """The lake jobs, as in a new process."""
        return lake_jobs(self, self.metrics)

    def handle(self, deliveries: Sequence[Delivery]) -> InvocationResult:
        """Run one invocation, as in a new process."""
        return build_aggregator(self, self.metrics).handle(deliveries, self.deadline())

    def roll_up(self) -> None:
        """Book waiting commits, as in a new process."""
        assert build_rollup(self, self.metrics).run(self.deadline()).finished

    def close(self, month: str) -> None:
        """Mark a month as closed, as the period close does."""
        period = Period(month=month, state="closed", frozen_key=closed_month_key(month))
        self.items.put(Put(table=Table.LEDGER, item=period.to_item()))

    def ledger(self) -> Iterable[Item]:
        return self.items.scan(Table.LEDGER)

    # --- what is there ----------------------------------------------------------------------------------------------

    def usage(self) -> Totals:
        """Bytes and records by `Line`, from the usage table and the accounts' dictionaries."""
        names = {
            (str(item["pk"])[2:], int(str(item["sk"])[2:])): str(item["usage_type"])
            for item in self.items.scan(Table.LEDGER)
            if str(item["pk"]).startswith("D#") and str(item["sk"]).startswith("N#")
        }
        figures: list[tuple[Line, int, int]] = []
        for item in self.items.scan(Table.USAGE):
            # In addition to usage, the table contains its generation.
            if not str(item["pk"]).startswith("A#"):
                continue
            account_id = str(item["pk"]).split("#")[1]
            hour, corrects, *kind = str(item["sk"]).split("#")
            for attribute, number in item.items():
                if attribute[0] in "br":
                    assert isinstance(number, int)
                    usage_type = kind[0] if len(kind) > 1 else names[account_id, int(attribute[1:])]
                    line = Line(hour, account_id, usage_type, corrects)
                    figures.append((line, number, 0) if attribute[0] == "b" else (line, 0, number))
        return added(figures)

    def lake(self) -> Totals:
        """Bytes and records by `Line`, from the lake's rows: published, placed or waiting."""
        figures: list[tuple[Line, int, int]] = []
        objects: dict[str, list[dict[str, Any]]] = {}
        for hour, key in self._sources():
            if key not in objects:
                objects[key] = pq.read_table(io.BytesIO(self.objects.get(key))).to_pylist()
            for row in objects[key]:
                if key.startswith("staging/") and row["booked_hour"] != _epoch(hour):
                    continue
                own = row["start_time"].strftime("%Y-%m-%dT%H")
                line = Line(hour, row["account_id"], row["usage_type"], "" if own == hour else own)
                figures.append((line, row["bytes"], 1))
        return added(figures)

    def _sources(self) -> Iterable[tuple[str, str]]:
        """Hour and key of each object whose rows a reader sees."""
        ledger = list(self.items.scan(Table.LEDGER))
        hours = [item for item in ledger if str(item["pk"]).startswith("H#")]
        published = [Published.from_item(item) for item in hours if str(item["sk"]).startswith("1#")]
        runs = {(item["pk"], str(item["sk"])[2:]) for item in hours if str(item["sk"]).startswith("1#")}
        placed = {
            (str(item["pk"])[2:], str(item["staging"]))
            for item in hours
            if str(item["sk"]).startswith("2#") and (item["pk"], item.get("run")) not in runs
        }
        for item in ledger:
            if str(item["pk"]).startswith("U#"):
                totals = item["totals"]
                assert isinstance(totals, dict)
                placed |= {(hour, str(item["staging"])) for hour in totals}
        yield from placed
        for entry in published:
            for file in entry.files:
                yield entry.key.pk[2:], file.key

    def verdicts(self) -> set[tuple[str, str, str]]:
        """Batch id, kind (`M` or `X`) and verdict of every marker and conflict."""
        return {
            (str(item["pk"])[2:], str(item["sk"])[0], str(item.get("verdict", "conflict")))
            for item in self.items.scan(Table.LEDGER)
            if str(item["pk"]).startswith("B#")
        }


def _epoch(hour: str) -> int:
    return int(datetime.fromisoformat(hour + ":00:00+00:00").timestamp())


def _label(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H")


class Scenario(NamedTuple):
    """Messages of one invocation, and the expected state afterwards."""

    deliveries: list[Delivery]
    totals: Totals
    verdicts: set[tuple[str, str, str]]


def mixed(region: Region) -> Scenario:
    """Messages of every kind and form for one invocation; October is closed."""
    region.close("2026-10")
    put_ingest(region, "ingest/p1.ndjson.gz", [record(5, 500), record(5, 50)])
    put_ingest(region, "drop/d1.ndjson.gz", [record(6, 600)])
    drop = json.dumps({"Records": [_created(region, "drop/d1.ndjson.gz")]})
    drop_id = _drop_id(region, "drop/d1.ndjson.gz")
    pointer = {"bucket": region.resources.bucket, "key": "ingest/p1.ndjson.gz", "format": "ndjson"}
    pointed = json.loads(body("p1", [], record_count=2, location={**pointer, "compression": "gzip"}))
    del pointed["records"]
    texts = [
        ("b1", body("b1", [record(1, 2**62), record(1, 2**62, usage_type="Other")])),
        ("copy of b1", body("b1", [record(1, 2**62), record(1, 2**62, usage_type="Other")])),
        ("b2", body("b2", [record(2, 20)])),
        ("other b2", body("b2", [record(2, 21)])),
        ("b3", body("b3", [record(3, 30), record(3, -1)])),
        ("b4", body("b4", [record(4, "much")])),
        ("junk", "no json"),
        ("p1", json.dumps(pointed)),
        ("late", body("late", [record(7, 70, start=LATE_START), record(7, 7)])),
        ("drop", drop),
    ]
    out = "DataTransfer-Out-Bytes"
    return Scenario(
        deliveries=[delivery(name, text) for name, text in texts],
        totals={
            Line(HOUR, "000000000001", out): (2**62, 1),
            Line(HOUR, "000000000001", "Other"): (2**62, 1),
            Line(HOUR, "000000000002", out): (20, 1),
            Line(HOUR, "000000000003", out): (30, 1),
            Line(HOUR, "000000000005", out): (550, 2),
            Line(HOUR, "000000000006", out): (600, 1),
            Line(HOUR, "000000000007", out): (7, 1),
            Line(HOUR, "000000000007", out, LATE_HOUR): (70, 1),
        },
        verdicts={
            *((batch_id, "M", "accepted") for batch_id in ("b1", "b2", "b3", "p1", "late", drop_id)),
            ("b2", "X", "conflict"),
            ("b4", "M", "rejected"),
        },
    )


def many_kinds(region: Region) -> Scenario:
    """An account with more kinds of usage than one usage item, one number claim or the account's dictionary holds."""
    del region
    batches = {"w1": (1, 150), "w2": (2, 3)}
    return Scenario(
        deliveries=[
            delivery(batch_id, body(batch_id, [record(n, 1000 + key, usage_type=f"Type-{key}") for key in range(keys)]))
            for batch_id, (n, keys) in batches.items()
        ],
        totals={
            Line(HOUR, f"{n:012d}", f"Type-{key}"): (1000 + key, 1)
            for n, keys in batches.values()
            for key in range(keys)
        },
        verdicts={(batch_id, "M", "accepted") for batch_id in batches},
    )


def many_hours(region: Region) -> Scenario:
    """A batch with too many hours for one roll-up transaction."""
    del region
    hours = [_label(NOW_S - n * 3600) for n in range(120)]
    records = [record(1, 10 + n, start=f"{hour}:10:00Z") for n, hour in enumerate(hours)]
    return Scenario(
        deliveries=[delivery("h1", body("h1", records))],
        totals={Line(hour, "000000000001", "DataTransfer-Out-Bytes"): (10 + n, 1) for n, hour in enumerate(hours)},
        verdicts={("h1", "M", "accepted")},
    )


def put_ingest(region: Region, key: str, records: Sequence[object]) -> None:
    """An object with records, put by a producer."""
    lines = "".join(json.dumps(one) + "\n" for one in records)
    region.objects.put(key, gzip.compress(lines.encode(), mtime=0), if_absent=False)


def _created(region: Region, key: str) -> dict[str, object]:
    info = region.objects.head(key)
    assert info is not None
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": region.resources.bucket},
            "object": {"key": key, "size": info.size_bytes, "eTag": info.etag.strip('"')},
        },
    }


def _drop_id(region: Region, key: str) -> str:
    info = region.objects.head(key)
    assert info is not None
    named = "\n".join([region.resources.bucket, key, info.etag.strip('"')])
    return "s3:" + hashlib.sha256(named.encode()).hexdigest()
