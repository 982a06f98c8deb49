"""`Facts` over the services of a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from metering.adapters.aws.doctor.asking import asking
from metering.adapters.aws.fleet.probe import TABLE_WRITES
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.adapters.aws.stacks import read_outputs
from metering.errors import SettingsError
from metering.fleet.regions import Phase
from metering.operations.doctor.bench import BuiltRegion, CannotAskError, EndlessListingError, Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.adapters.aws.function_logs import CloudWatchFunctionLogs
    from metering.adapters.aws.session import Clients
    from metering.fleet.ports import Account
    from metering.fleet.regions import RegionState
    from metering.stores.writes import Table

_LISTED = "after-call.s3.ListObjectsV2"
_MOST_BUILDS = 20
# Status of a region that is enabled because the account asked for it (account API reference).
_OPTED_IN = "ENABLED"


class AwsFacts:
    """Facts of one stage in the region of `clients`.

    Args:
        clients: Clients with the caller's own rights.
        bucket: Name of the data bucket.
        tables: Names of the tables.
        rollout: Name of the stack that has the project that builds regions.
        logs: Gives the logs of the functions.
        account: The account of the caller.
        states: Gives the states of regions in this region's ledger.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        bucket: str,
        tables: Mapping[Table, str],
        rollout: str,
        logs: Callable[[], CloudWatchFunctionLogs],
        account: Callable[[], Account],
        states: Callable[[], Sequence[RegionState]],
    ) -> None:
        self._clients = clients
        self._bucket = bucket
        self._tables = tables
        self._rollout = rollout
        self._logs = logs
        self._account = account
        self._states = states

    def bucket_is_versioned(self) -> bool:
        with asking():
            return self._clients.s3.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled"

    def pages(self, prefix: str, *, most: int) -> Pages:
        sizes: list[int] = []

        def count(*, parsed: Mapping[str, object], **_others: object) -> None:
            sizes.append(len(cast("Sequence[object]", parsed.get("Contents", ()))))
            if len(sizes) > most:
                raise EndlessListingError(f"a listing had more than {most} pages")

        events = self._clients.s3.meta.events
        events.register(_LISTED, count, unique_id="metering-doctor-pages")
        try:
            with asking():
                keys = tuple(each.key for each in S3ObjectStore(self._clients.s3, self._bucket).list(prefix))
        finally:
            events.unregister(_LISTED, count, unique_id="metering-doctor-pages")
        return Pages(keys=keys, pages=len(sizes), empty=sizes.count(0))

    def writes_per_s(self, table: Table) -> int:
        with asking():
            described = self._clients.dynamodb.describe_table(TableName=self._tables[table])["Table"]
        units = described.get("WarmThroughput", {}).get("WriteUnitsPerSecond")
        # An emulator may name it and know no figure.
        if not units:
            raise CannotAskError("this endpoint does not say what a table takes at once")
        return units

    def table_quota_per_s(self) -> int:
        with asking():
            answer = self._clients.service_quotas.get_service_quota(
                ServiceCode=TABLE_WRITES.service, QuotaCode=TABLE_WRITES.code
            )
        return int(answer["Quota"]["Value"])

    def cold_starts_ms(self, *, since_s: int) -> Mapping[str, int]:
        with asking():
            return self._logs().slowest_starts_ms(from_s=since_s)

    def regions(self) -> Sequence[BuiltRegion]:
        with asking():
            opted = {region.name for region in self._account().regions() if region.opt_status == _OPTED_IN}
            return [
                BuiltRegion(name=state.region, ready=state.phase is Phase.READY, opted_in=state.region in opted)
                for state in self._states()
                if state.region != self._clients.access.region
            ]

    def builds(self) -> Sequence[str]:
        try:
            with asking():
                project = read_outputs(self._clients, self._rollout).get("RolloutProjectName", "")
        except SettingsError as error:
            raise CannotAskError("no project here builds regions", "Ask in the home region of the stage.") from error
        with asking():
            ids = self._clients.codebuild.list_builds_for_project(projectName=project).get("ids", [])[:_MOST_BUILDS]
            if not ids:
                return ()
            found = self._clients.codebuild.batch_get_builds(ids=ids).get("builds", [])
        status = {build.get("id", ""): build.get("buildStatus", "") for build in found}
        return [status[each] for each in ids if status.get(each) not in {None, "", "IN_PROGRESS"}]
