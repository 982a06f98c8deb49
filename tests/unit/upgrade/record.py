"""Records what release 0.1.0 leaves behind, by running that release. Not a test: its result is `release_0_1_0.json.gz`.

    git worktree add --detach <release> 9598dc1 && cd <release> && mkdir metering-0.1.0.dist-info
    printf 'Metadata-Version: 2.1\nName: metering\nVersion: 0.1.0\n' > metering-0.1.0.dist-info/METADATA
    PYTHONPATH=. <python of this checkout> -P <this file> <the result>

Runs in the checkout of that release, with the packages of this one. What is in the region: two shards and four
suffixes; a closed month, and a late row of it; hours that are compacted and cleaned, compacted and not cleaned, and
waiting; a run that was planned and did not get further; a narrow and an applied wide commit; two wide commits whose
worker died after the first transaction and after a chunk, one of them with hours that did not fit; refused, conflicting
and duplicate batches; commits without a transaction, one of which was fenced off; notes of the reconciler.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering.adapters.aws.dynamodb.attributes import to_attributes
from metering.errors import UnavailableError
from metering.stores.deliveries import Delivery
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import World, record

if TYPE_CHECKING:
    from collections.abc import Callable

OCTOBER_30_S = int(datetime(2026, 10, 30, 10, 30, tzinfo=UTC).timestamp())
ACCOUNTS = tuple(f"11000000000{digit}" for digit in range(5))
PEERS = ("internet", "us-east-1/use1-az4", "eu-west-1", "cloudfront", "ap-southeast-2", "us-west-2/usw2-az1")


class Recorded(World):
    """The region that is recorded."""

    def dies_at(self, name: str, times: int, run: Callable[[], object]) -> None:
        """Run something in a process that is killed before its call `name` after so many of them."""
        left = times

        def die(call: str) -> None:
            nonlocal left
            if call == name:
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1

        self.items.on_call = self.objects.on_call = die
        try:
            run()
        except KeyboardInterrupt:
            return
        finally:
            self.items.on_call = self.objects.on_call = lambda _call: None
        raise AssertionError("it was not killed")

    def deliver(self, body: dict[str, Any], *, times: int = 1) -> None:
        for _ in range(times):
            delivery = Delivery(
                message_id=f"own-{self._sent}",
                body=json.dumps(body),
                sent_at_ms=self.clock.now_ms(),
                receive_count=1,
                sender_id="sender",
            )
            self._sent += 1
            assert not self.aggregator.handle([delivery], self.deadline()).retry

    def wide(self, hours: int) -> list[dict[str, str | int]]:
        """Records of more usage items than a transaction holds."""
        now_s = self.clock.now_ms() // 1000
        return [
            record(10 + each, start_s=now_s - each % hours * HOUR_S, account=ACCOUNTS[each % 5], to=PEERS[each % 6])
            | {"service": f"Service{each % 120}"}
            for each in range(max(hours, 240))
        ]

    def traffic(self, base: int) -> None:
        now_s = self.clock.now_ms() // 1000
        for number in range(4):
            self.send(
                [
                    record(base + 17 * each + number, start_s=now_s - each * HOUR_S, account=account, to=peer)
                    for each, (account, peer) in enumerate(zip(ACCOUNTS, PEERS, strict=False))
                ],
                source=f"edge-{number % 2}",
            )


def body(batch_id: str, *records: dict[str, str | int], count: int | None = None) -> dict[str, Any]:
    return {
        "schema": "metering.batch/1",
        "batch_id": batch_id,
        "record_count": len(records) if count is None else count,
        "records": list(records),
    }


def october(region: Recorded) -> None:
    """A month that is closed, its late row, and runs that are cleaned."""
    region.traffic(1_000)
    region.traffic(5_000)
    assert region.compact_all() >= 2
    region.clock.sleep_ms(2 * DAY_S * 1000)
    region.jobs.cleaner.run(region.deadline())
    region.clock.sleep_ms(3 * DAY_S * 1000)
    region.jobs.closer.close("2026-10", region.deadline())
    now_s = region.clock.now_ms() // 1000
    region.send([record(77, start_s=now_s - 5 * DAY_S), record(78, start_s=now_s)])


def november(region: Recorded) -> None:
    """What is not finished."""
    region.clock.sleep_ms(9 * DAY_S * 1000)
    region.traffic(20_000)
    # Applied, and pending in all its hours.
    region.send(region.wide(7))
    assert region.compact_all() >= 1
    region.clock.sleep_ms(DAY_S // 2 * 1000)
    region.traffic(50_000)
    refused_and_conflicting(region)
    # Compacted, and not cleaned.
    assert region.compact_all() >= 1
    region.clock.sleep_ms(HOUR_S * 1000)
    region.traffic(90_000)
    # Planned, and killed while it marked its pointers.
    region.dies_at("items.update", 3, region.compact_all)
    unfinished(region)


def refused_and_conflicting(region: Recorded) -> None:
    now_s = region.clock.now_ms() // 1000
    good = record(4_321, start_s=now_s)
    region.deliver(body("told-twice", good), times=2)
    region.deliver(body("told-twice", record(1, start_s=now_s)))
    region.deliver(body("too-few", good, count=5))
    region.deliver(body("partly", good, {**good, "bytes": -1}))
    region.deliver({"schema": "metering.batch/1", "records": []})


def unfinished(region: Recorded) -> None:
    now_s = region.clock.now_ms() // 1000
    region.dies_at("items.transact", 1, lambda: region.send(region.wide(5)))
    region.dies_at("items.transact", 2, lambda: region.send(region.wide(110)))
    # Only objects: the process died before its transaction. One of the two is old, and fenced off.
    region.dies_at("items.transact", 0, lambda: region.send([record(9, start_s=now_s)]))
    region.clock.sleep_ms(2 * HOUR_S * 1000)
    region.jobs.orphans.run(region.deadline())
    region.dies_at("items.transact", 0, lambda: region.send([record(10, start_s=now_s)]))
    region.traffic(300_000)


def notes(region: Recorded) -> None:
    """What jobs keep; they meet open commits, and say so."""
    try:
        region.jobs.reconcile_tick.run(region.deadline())
    except UnavailableError as error:
        raise AssertionError("the stores are all there") from error


def recorded(region: Recorded) -> dict[str, Any]:
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


def main(target: Path) -> None:
    region = Recorded(now_s=OCTOBER_30_S, shards=2, usage_shards=4)
    october(region)
    november(region)
    notes(region)
    text = json.dumps(recorded(region), sort_keys=True, default=sorted, separators=(",", ":"))
    target.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
