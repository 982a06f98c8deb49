"""Formats of regions' data, and their upgrade, over DynamoDB and S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.dynamodb.items import DynamoDbItemStore
from metering.adapters.aws.published_settings import read_settings
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.adapters.aws.stacks import stack_outputs
from metering.errors import SettingsError
from metering.ledger.format_version import FIRST_FORMAT, check_readable, ledger_format
from metering.stores.retrying import Retrier
from metering.stores.threads import CALLS_AT_ONCE
from metering.stores.writes import Table
from metering.upgrade.note import forget_upgrade, upgrade_note
from metering.upgrade.upgrade import DataUpgrade, is_old, stopped
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.adapters.aws.session import Clients
    from metering.adapters.aws.stacks import RegionResources
    from metering.stores.items import ItemStore

# Attempts of each call, beside the SDK's own.
_ATTEMPTS = 6


class DataUpgrades:
    """`RegionData` of one stage.

    Args:
        clients_of: Gives the clients of a region.
        stage: Name of the stage.
        generation_of: Generation of the usage table that a region's settings ask for.
        repair: Books in a region's usage table what rows have and usage lacks.
        threads: Calls that are made side by side.
    """

    def __init__(
        self,
        clients_of: Callable[[str], Clients],
        *,
        stage: str,
        generation_of: Callable[[str], int],
        repair: Callable[[str], object],
        threads: int = CALLS_AT_ONCE,
    ) -> None:
        self._clients_of = clients_of
        self._stage = stage
        self._generation_of = generation_of
        self._repair = repair
        self._threads = threads
        self._clock = SystemClock()
        self._retrier = Retrier(clock=self._clock, entropy=SystemEntropy(), attempts=_ATTEMPTS)

    def is_old(self, region: str) -> bool:
        try:
            items = self._items(region)
        except SettingsError:
            # Nothing is deployed.
            return False
        return self._retrier.call(lambda: is_old(items))

    def usage_before(self, region: str) -> int:
        try:
            items, wanted = self._items(region), self._generation_of(region)
        except SettingsError:
            return 0
        note = self._retrier.call(lambda: upgrade_note(items))
        if note is not None and not note.settled:
            return FIRST_FORMAT
        found = self._retrier.call(lambda: ledger_format(items))
        # A region without a batch has the table that it was deployed with.
        goes_with = self._resources(region).usage_generation if found is None else found.usage_generation
        return 0 if goes_with == wanted else goes_with

    def begin(self, region: str) -> None:
        items = self._items(region)
        self._retrier.call(lambda: forget_upgrade(items))

    def stopped(self, region: str, *, worker_timeout_s: int) -> None:
        items, now_ms = self._items(region), self._clock.now_ms()
        self._retrier.call(lambda: stopped(items, now_ms=now_ms, worker_timeout_s=worker_timeout_s))

    def convert(self, region: str, tell: Callable[[str], None]) -> None:
        upgrade = self._upgrade(region)
        tell("waiting until the workers of the version before are out")
        upgrade.wait_out()
        upgrade.convert(tell)

    def is_unsettled(self, region: str) -> bool:
        items = self._items(region)
        return self._retrier.call(lambda: upgrade_note(items)) is not None

    def settle(self, region: str, tell: Callable[[str], None]) -> None:
        items = self._items(region)
        note = self._retrier.call(lambda: upgrade_note(items))
        if note is None or note.settled:
            # Only the deployment without the old usage table is left.
            return
        upgrade = self._upgrade(region)
        upgrade.look_again(lambda: self._repair(region), tell)
        upgrade.tidy()
        table = self._resources(region).usage_before_table
        tell(f"usage table {table} is not needed any more: a stage that keeps its data keeps it, outside of the stack")

    def forget(self, region: str) -> None:
        items = self._items(region)
        self._retrier.call(lambda: forget_upgrade(items))

    def _upgrade(self, region: str) -> DataUpgrade:
        """The upgrade as the deployed settings want it."""
        clients, resources = self._clients_of(region), self._resources(region)
        policy = read_settings(clients, self._stage).policy
        return DataUpgrade(
            items=self._items(region),
            objects=S3ObjectStore(clients.s3, resources.data_bucket),
            clock=self._clock,
            retrier=self._retrier,
            shards=policy.shards,
            kinds_per_account=policy.kinds_per_account,
            usage_generation=policy.usage_generation,
            version=package_version(),
            threads=self._threads,
        )

    def _items(self, region: str) -> ItemStore:
        """Ledger, usage table and the one before, in this format or the one before."""
        resources = self._resources(region)
        tables = {Table.LEDGER: resources.ledger_table, Table.USAGE: resources.usage_table}
        if resources.usage_before_table:
            tables[Table.USAGE_BEFORE] = resources.usage_before_table
        items = DynamoDbItemStore(self._clients_of(region).dynamodb, tables)
        self._retrier.call(lambda: check_readable(items))
        return items

    def _resources(self, region: str) -> RegionResources:
        return stack_outputs(self._clients_of(region), self._stage)
