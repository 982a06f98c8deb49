"""The bench of the doctor in one region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering.adapters.aws.doctor.asking import asking
from metering.adapters.aws.doctor.athena import AthenaEngine
from metering.adapters.aws.doctor.facts import AwsFacts
from metering.adapters.aws.doctor.scratch import AwsScratch
from metering.adapters.aws.fleet.account import AwsAccount
from metering.adapters.aws.published_settings import read_settings
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.roles import assumed
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.adapters.aws.stacks import read_outputs
from metering.fleet.ports import RegionStacks
from metering.fleet.regions import Answered, Finding
from metering.fleet.settings.layers import config_of
from metering.fleet.settings.tunables import TABLE_WRITES_PER_S, peak_writes_per_s
from metering.fleet.state_store import LedgerRegionStates
from metering.fleet.steps import DOCTOR
from metering.hours import date_of
from metering.operations.doctor.bench import THOROUGH, Bench, CannotAskError, Effort
from metering.operations.doctor.catalogue import CHECKS
from metering.operations.doctor.checks import Verdict, examine
from metering.stores.bucket import LAKE_PREFIX, hour_of_lake_key
from metering.stores.writes import Table
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.adapters.aws.doctor.athena import AthenaClient
    from metering.adapters.aws.session import Clients
    from metering.operations.doctor.bench import Engine
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue
    from metering.usage.totals import Total
    from metering.wiring.connection import RegionConnection

_ROLES = ("reader", "operator", "producer")
# Days in which the newest hour of the lake is looked for.
_LOOK_BACK_DAYS = 40


def doctor_bench(region: RegionConnection, *, thorough: bool) -> Bench:
    """Everything that the checks work with, made on first use where AWS is asked for it.

    Raises:
        SettingsError: The stage is not deployed.
        UnavailableError: The region gives no answer.
    """
    clients, names = region.clients, region.names
    outputs = read_outputs(clients, RegionStacks.of(region.stage).data)
    token = region.entropy.token()
    roles = {role: _as_role(clients, outputs.get(f"{role.capitalize()}RoleArn", ""), role) for role in _ROLES}
    tables = {Table.LEDGER: names.ledger_table, Table.USAGE: names.usage_table}
    return Bench(
        region=region.region,
        token=token,
        bucket=names.data_bucket,
        clock=region.clock,
        objects=region.objects,
        as_roles={role: _bucket_of(clients_of, names.data_bucket) for role, clients_of in roles.items()},
        items=region.items,
        ingest=_ingest(roles["operator"], region),
        needed_writes_per_s=_needed(region),
        logs=lambda: region.function_logs,
        facts=AwsFacts(
            clients,
            bucket=names.data_bucket,
            tables=tables,
            rollout=RegionStacks.of(region.stage).rollout,
            logs=lambda: region.function_logs,
            account=lambda: AwsAccount(clients.account, custom_endpoint=clients.access.custom_endpoint),
            states=lambda: LedgerRegionStates(lambda: region.items).everything(),
        ),
        scratch=AwsScratch(
            clients,
            prefix=f"metering-{region.stage}-doctor",
            token=token,
            topics={"page": names.page_topic_arn, "ticket": names.ticket_topic_arn},
        ),
        lake=NewestHour(region),
        engine=_engine(clients, outputs),
        asking=asking,
        effort=THOROUGH if thorough else Effort(),
    )


_ANSWERS = {Verdict.OK: Answered.PASSED, Verdict.DIFFERS: Answered.FAILED, Verdict.UNKNOWN: Answered.UNKNOWN}


def findings_of(region: RegionConnection) -> tuple[Finding, ...]:
    """What the doctor finds in a region, of all that costs next to nothing and pages nobody.

    Raises:
        SettingsError, UnavailableError: As `doctor_bench`.
    """
    quick = [check for check in CHECKS if not check.thorough]
    return tuple(
        Finding(
            check=f"{DOCTOR}{check.name}",
            answered=_ANSWERS[seen.verdict],
            detail=f"{seen.saw}. {seen.advice}" if seen.advice else seen.saw,
        )
        for check, seen in examine(doctor_bench(region, thorough=False), quick, thorough=False)
    )


@dataclass(frozen=True, slots=True)
class NewestHour:
    """`LakeHours` of a region."""

    region: RegionConnection

    def newest(self) -> tuple[int, Total] | None:
        now_s = self.region.clock.now_ms() // 1000
        for days in range(_LOOK_BACK_DAYS):
            prefix = f"{LAKE_PREFIX}dt={date_of(now_s - days * DAY_S)}/"
            hours = {hour_of_lake_key(each.key) for each in self.region.objects.list(prefix)} - {None}
            for hour_s in sorted(cast("set[int]", hours), reverse=True):
                state = self.region.view.read(hour_s, lambda state: state)
                if state.published and state.sources:
                    return hour_s, state.total
        return None


def _as_role(clients: Clients, role_arn: str, role: str) -> Callable[[], Clients]:
    """Gives clients with the rights of a role, or says why not."""

    def assume() -> Clients:
        if not role_arn:
            raise CannotAskError(f"the stage does not name its {role} role")
        with asking():
            return assumed(clients, role_arn)

    return assume


def _bucket_of(clients_of: Callable[[], Clients], bucket: str) -> Callable[[], ObjectStore]:
    return lambda: S3ObjectStore(clients_of().s3, bucket)


def _ingest(operator: Callable[[], Clients], region: RegionConnection) -> Queue:
    """The ingest queue: as the operator where that is possible, for a stage may take nobody else's batches."""
    try:
        return SqsQueue(operator().sqs, region.names.ingest_queue_url)
    except CannotAskError:
        return region.ingest


def _needed(region: RegionConnection) -> Mapping[Table, int]:
    given = read_settings(region.clients, region.stage).given
    config = None if given is None else config_of(region.stage, given, {})
    if config is None:
        return dict.fromkeys((Table.LEDGER, Table.USAGE), TABLE_WRITES_PER_S)
    return {
        Table.LEDGER: peak_writes_per_s(config.ledger_warm_writes_per_s),
        Table.USAGE: peak_writes_per_s(config.usage_warm_writes_per_s),
    }


def _engine(clients: Clients, outputs: Mapping[str, str]) -> Engine | None:
    database, workgroup = outputs.get("LakeDatabaseName", ""), outputs.get("WorkGroupName", "")
    if not database or not workgroup:
        return None
    return AthenaEngine(cast("AthenaClient", clients.client("athena")), database=database, workgroup=workgroup)
