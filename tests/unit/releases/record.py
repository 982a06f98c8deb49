"""Runs release 0.2.0, and records the state that the release leaves. Not a test: it writes `release_0_2_0.json.gz`.

    git worktree add --detach <release> bece5da6 && cd <release> && D=transfer_metering-0.2.0.dist-info && mkdir $D
    printf 'Metadata-Version: 2.1\nName: transfer-metering\nVersion: 0.2.0\n' > $D/METADATA
    PYTHONPATH=. <python of this checkout> -P <this file> <the result>

Runs in the release's checkout, with this checkout's packages. The region has two shards; a closed month with a late
row; hours that are compacted and cleaned, only compacted, or waiting; one planned run each of compactor and roll-up;
refused, conflicting and duplicate batches; a commit without a transaction; notes of the reconciler. The file also has
the release's own results of reads after its roll-up and its compactor.
"""

import base64
import gzip
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metering.adapters.aws.items import to_attributes
from metering.stores.queues import Delivery
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey
from tests.support.lake_world import World, record

OCTOBER_30_S = int(datetime(2026, 10, 30, 10, 30, tzinfo=UTC).timestamp())
ACCOUNTS = tuple(f"11000000000{digit}" for digit in range(5))
PEERS = ("internet", "us-east-1/use1-az4", "eu-west-1", "cloudfront", "ap-southeast-2")


def dies_at(region: World, name: str, times: int, run: Callable[[], object]) -> None:
    """Call `run`, and kill it at call `name`, after `times` earlier calls of this name."""
    left = times

    def die(call: str) -> None:
        nonlocal left
        if call == name:
            if left == 0:
                raise KeyboardInterrupt
            left -= 1

    region.items.on_call = region.objects.on_call = die
    try:
        run()
    except KeyboardInterrupt:
        return
    finally:
        region.items.on_call = region.objects.on_call = lambda _call: None
    raise AssertionError("it was not killed")


def deliver(region: World, batch_id: str, *records: dict[str, str | int], count: int | None = None) -> None:
    count = len(records) if count is None else count
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": count, "records": list(records)}
    delivery = Delivery(
        message_id=batch_id,
        body=json.dumps(body),
        sent_at_ms=region.clock.now_ms(),
        receive_count=1,
        sender_id="sender",
    )
    assert not region.aggregator.handle([delivery], region.deadline()).retry


def traffic(region: World, base: int, *, rolled_up: bool = True) -> None:
    """Meter four batches, each with a record of every account in the last hours."""
    now_s = region.clock.now_ms() // 1000
    for number in range(4):
        region.send(
            [
                record(base + 17 * each + number, start_s=now_s - each * HOUR_S, account=account, to=peer)
                for each, (account, peer) in enumerate(zip(ACCOUNTS, PEERS, strict=True))
            ],
            source=f"edge-{number % 2}",
            rolled_up=rolled_up,
        )


def october(region: World) -> None:
    """Make a closed month with a late row, and runs that are cleaned."""
    traffic(region, 1_000)
    traffic(region, 5_000)
    assert region.compact_all() >= 1
    region.clock.sleep_ms(2 * DAY_S * 1000)
    region.jobs.cleaner.run(region.deadline())
    region.clock.sleep_ms(3 * DAY_S * 1000)
    region.jobs.closer.close("2026-10", region.deadline())
    now_s = region.clock.now_ms() // 1000
    region.send([record(77, start_s=now_s - 5 * DAY_S), record(78, start_s=now_s)])


def november(region: World) -> None:
    """Unfinished work."""
    region.clock.sleep_ms(9 * DAY_S * 1000)
    traffic(region, 20_000)
    good = record(4_321, start_s=region.clock.now_ms() // 1000)
    for each in (good, good, {**good, "bytes": 1}):
        deliver(region, "told-twice", each)
    deliver(region, "too-few", good, count=5)
    deliver(region, "partly", good, {**good, "bytes": -1})
    region.roll_up()
    # Compacted, and not cleaned.
    assert region.compact_all() >= 1
    region.clock.sleep_ms(HOUR_S * 1000)
    traffic(region, 90_000)
    dies_at(region, "items.update", 3, region.compact_all)
    traffic(region, 300_000, rolled_up=False)
    dies_at(region, "items.update", 2, region.roll_up)
    dies_at(region, "items.transact", 0, lambda: region.send([record(9)]))
    traffic(region, 700_000, rolled_up=False)
    region.jobs.reconcile_tick.run(region.deadline())


def left_by(region: World) -> dict[str, Any]:
    tables = {
        table.value: sorted(
            (to_attributes(item) for item in region.items.everything(table)),
            key=lambda item: (str(item["pk"]), str(item["sk"])),
        )
        for table in (Table.LEDGER, Table.USAGE)
    }
    objects = {
        each.key: [each.modified_s, base64.b85encode(region.objects.get(each.key)).decode()]
        for each in region.objects.list("")
    }
    return {"now_s": region.clock.now_ms() // 1000, **tables, "objects": objects}


def rows_of(usage: Mapping[UsageKey, Total]) -> list[list[str]]:
    """Totals as strings, sorted by key."""
    return sorted([*map(str, key), str(total.bytes), str(total.records)] for key, total in usage.items())


def read_at_rest(region: World) -> dict[str, Any]:
    """Results of reads of lake, usage table and closed month, after roll-up and compactor."""
    region.roll_up()
    while region.compact_all():
        pass
    return {
        "lake": rows_of(region.visible()),
        "usage": rows_of(region.usage()),
        "october": rows_of(region.frozen_usage("2026-10")),
    }


def main(target: Path) -> None:
    region = World(now_s=OCTOBER_30_S, shards=2)
    october(region)
    november(region)
    found = left_by(region)
    text = json.dumps({**found, "read": read_at_rest(region)}, sort_keys=True, default=sorted, separators=(",", ":"))
    target.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
