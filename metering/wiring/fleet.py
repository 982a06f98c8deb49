"""Builds what is needed to build and remove the regions of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, cast

from metering.adapters.aws import cloudformation, deployed_regions, deployment, objects, probe
from metering.adapters.aws.demands import Demands
from metering.adapters.aws.doctor import AthenaClient, AthenaEngine, AwsFacts, AwsScratch, asking
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients, assumed, caller_arn
from metering.adapters.aws.stacks import functions_outputs, read_outputs
from metering.errors import MeteringError, SettingsError
from metering.fleet import steps
from metering.fleet.ports import RegionStacks, own_release
from metering.fleet.regions import Answered, Finding, LedgerRegionStates, Phase, RegionState, Step, reserved_executions
from metering.fleet.rollout import RegionManager, RegionRemoval, Uninstall
from metering.fleet.settings import bases, layers
from metering.fleet.settings.regions import RegionSettings
from metering.fleet.survey import Surveyed, survey
from metering.hours import date_of
from metering.operations.doctor import catalogue
from metering.operations.doctor.bench import THOROUGH, Bench, CannotAskError, Effort, Engine, Verdict, examine
from metering.stores.objects import LAKE_PREFIX, ObjectStore, hour_of_lake_key
from metering.stores.writes import ItemStore, Table
from metering.units import DAY_S
from metering.wiring.connection import RegionConnection, connected
from metering.wiring.region import Stage, home_ledger

if TYPE_CHECKING:
    from metering.fleet.stage import RolloutRules, StageConfig
    from metering.stores import queues
    from metering.usage.totals import Total

_ROLES = ("reader", "operator", "producer")
# The newest hour of the lake is searched for in this many days.
_LOOK_BACK_DAYS = 40


def doctor_bench(region: RegionConnection, *, thorough: bool, caller: Clients | None = None) -> Bench:
    """Build the inputs of the doctor's checks; inputs that call AWS are created on first use.

    Args:
        region: The region, with the clients that ask.
        thorough: Whether checks that cost money or page people are run as well.
        caller: Clients that may assume the stage's roles; None for those of the region.

    Raises:
        SettingsError: The stage is not deployed.
        UnavailableError: The region does not answer.
    """
    clients, names = region.clients, region.names
    stacks = RegionStacks.of(region.stage)
    outputs = read_outputs(clients, stacks.data)
    token = region.entropy.token()
    roles = {role: _as_role(caller or clients, outputs, role) for role in _ROLES}
    tables = {Table.LEDGER: names.ledger_table, Table.USAGE: names.usage_table}
    topics = {"page": names.page_topic_arn, "ticket": names.ticket_topic_arn}
    config = region.config
    return Bench(
        region=region.region,
        token=token,
        bucket=names.data_bucket,
        drop_identity=region.settings.drop_identity,
        clock=region.clock,
        objects=region.objects,
        as_roles={role: _bucket_of(clients_of, names.data_bucket) for role, clients_of in roles.items()},
        items=region.items,
        ingest=_ingest(roles["operator"], region),
        emulated=region.emulated,
        needed_writes_per_s={Table(name): writes for name, writes in config.table_peaks.items()},
        ledger_scales=config.writes_per_s if config.ledger_scales else None,
        needed_executions=_unreserved(config),
        project_wanted=bool(config.rollout_project),
        logs=lambda: region.function_logs,
        facts=AwsFacts(
            clients,
            bucket=names.data_bucket,
            tables=tables,
            names=stacks,
            topics=topics,
            qualifier=config.bootstrap.qualifier,
            functions=lambda: _function_names(clients, region.stage),
            logs=lambda: region.function_logs,
            account=lambda: _account(clients, clients.beside),
            states=lambda: LedgerRegionStates(lambda: region.items).everything(),
        ),
        scratch=AwsScratch(
            clients,
            prefix=f"metering-{region.stage}-doctor",
            token=token,
            topics=topics,
            demands=Demands.of(config, clients),
        ),
        lake=NewestHour(region),
        engine=_engine(clients, outputs),
        asking=asking,
        effort=THOROUGH if thorough else Effort(),
    )


def _account(clients: Clients, clients_of: Callable[[str], Clients]) -> probe.AwsAccount:
    return probe.AwsAccount(
        clients.account,
        custom_endpoint=clients.access.custom_endpoint,
        answers=lambda region: probe.answers(clients_of(region)),
    )


_ANSWERS = {Verdict.OK: Answered.PASSED, Verdict.DIFFERS: Answered.FAILED, Verdict.UNKNOWN: Answered.UNKNOWN}


def findings_of(region: RegionConnection) -> tuple[Finding, ...]:
    """Findings of the doctor's cheap checks in a region, asked as the operator's role.

    The deployer only needs the right to assume the stage's roles.

    Raises:
        SettingsError, UnavailableError: As `doctor_bench`.
    """
    outputs = read_outputs(region.clients, RegionStacks.of(region.stage).data)
    try:
        operator = replace(region, clients=_as_role(region.clients, outputs, "operator")())
    except CannotAskError as error:
        return (Finding(check=f"{steps.DOCTOR}role", answered=Answered.UNKNOWN, detail=f"{error}. {error.advice}"),)
    return findings(doctor_bench(operator, thorough=False, caller=region.clients))


def findings(bench: Bench) -> tuple[Finding, ...]:
    """Findings of the cheap checks."""
    quick = [check for check in catalogue.CHECKS if not check.thorough]
    return tuple(
        Finding(
            check=f"{steps.DOCTOR}{check.name}",
            answered=_ANSWERS[seen.verdict],
            detail=f"{seen.saw}. {seen.advice}" if seen.advice else seen.saw,
        )
        for check, seen in examine(bench, quick, thorough=False)
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


def _as_role(clients: Clients, outputs: Mapping[str, str], role: str) -> Callable[[], Clients]:
    """Return a function that assumes a role and returns clients with it, or raises the reason why it cannot."""

    def assume() -> Clients:
        arn = outputs.get(f"{role.capitalize()}RoleArn", "")
        if not arn:
            raise CannotAskError(f"the stage does not name its {role} role")
        with asking():
            return assumed(clients, arn)

    return assume


def _function_names(clients: Clients, stage: str) -> dict[str, str]:
    """Names of the functions by their constructs."""
    suffix = "FunctionName"
    outputs = functions_outputs(clients, stage)
    return {output.removesuffix(suffix): name for output, name in outputs.items() if output.endswith(suffix)}


def _bucket_of(clients_of: Callable[[], Clients], bucket: str) -> Callable[[], ObjectStore]:
    return lambda: objects.S3ObjectStore(clients_of().s3, bucket)


def _ingest(operator: Callable[[], Clients], region: RegionConnection) -> queues.Queue:
    """The ingest queue, used as the operator's role if possible, because a stage may refuse other senders."""
    try:
        return SqsQueue(operator().sqs, region.names.ingest_queue_url)
    except CannotAskError:
        return region.ingest


def _unreserved(config: StageConfig) -> int:
    """Most executions at a time of the functions without a reservation: aggregator, canary, watch and on-ramp."""
    of_logs = config.onramp_concurrency + 1 if config.log_sources else 0
    return config.max_concurrency + 2 + of_logs


def _engine(clients: Clients, outputs: Mapping[str, str]) -> Engine | None:
    database, workgroup = outputs.get("LakeDatabaseName", ""), outputs.get("WorkGroupName", "")
    if not database or not workgroup:
        return None
    return AthenaEngine(cast("AthenaClient", clients.client("athena")), database=database, workgroup=workgroup)


Say = Callable[[str, str], None]
"""Tells people one line: region (or empty) and message."""

# Number of parallel deployments in one wave. Each deployment is a separate process that mostly waits.
_SIDE_BY_SIDE = 3


def silent(_region: str, _message: str) -> None:
    """Tell nothing."""


def _aws() -> bool:
    """No emulator."""
    return False


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Regions of one stage; each part is created on first use.

    Attributes:
        asked: Stage and settings given on the command line.
        home: Home region (the default, or as given); new regions copy its settings.
        environ: Environment variables for the SDK and for deployments: credentials, certificates.
        no_pager: Whether a region may be ready even if no subscription to its `page` topic is confirmed.
        say: Told of each step.
        say_resource: Called for each resource that a deployment creates.
        reaching_home: Context manager around the first call to the home region; it may explain a failure of this call.
        assembly: Folder of assemblies to deploy; empty if they are synthesised.
        without_home: Whether `home` is not the home region, but a deployed region that is the only one to be reached.
        restores: Region whose tables a restore has made, which the option `ledger_table` names, or empty.
    """

    asked: layers.Asked
    home: str
    endpoint: str | None
    environ: Mapping[str, str]
    on_emulator: Callable[[], bool] = _aws
    no_pager: bool = False
    say: Say = silent
    say_resource: Say = silent
    reaching_home: Callable[[], AbstractContextManager[None]] = nullcontext
    assembly: str = ""
    without_home: bool = False
    restores: str = ""

    @cached_property
    def clients_of(self) -> Callable[[str], Clients]:
        return cache(lambda region: Clients.from_env(self.environ, region=region, endpoint_url=self.endpoint))

    @cached_property
    def deployed(self) -> deployed_regions.DeployedRegions:
        return deployed_regions.DeployedRegions(self.clients_of, stage=self.asked.stage, ledger_of=self._ledger_of)

    def _ledger_of(self, region: str) -> str:
        table = self.asked.table.values if self.asked.table is not None else {}
        if "ledger_table" not in {*self.asked.options, *table} or self.restores not in ("", region):
            # Another region's ledger, and a ledger that was named earlier, is as deployed.
            return ""
        try:
            return self.settings.of(region).config.ledger_table
        except SettingsError:
            # A deployment reports invalid settings. Everything else goes on with what is deployed.
            return ""

    def _check_tables(self, region: str) -> None:
        config = self.settings.of(region).config
        self.deployed.check_tables(region, ledger=config.ledger_table, usage=config.usage_table)

    def _bill(self, region: str) -> None:
        """Bill a restored ledger before its stack scales it: the stack does not make that table."""
        config = self.settings.of(region).config
        if config.ledger_table:
            self.deployed.bill(region, config.ledger_table, config)

    @cached_property
    def settings(self) -> RegionSettings:
        return RegionSettings(asked=self.asked, home=self.home, deployed=self.deployed)

    @cached_property
    def config(self) -> StageConfig:
        """Configuration of the home region, from its deployed settings and the command's.

        Raises:
            SettingsError: Names every problem.
        """
        with self.reaching_home():
            return self.settings.of(self.home).config

    @cached_property
    def rehearsal(self) -> bool:
        """Whether the stage is meant for an AWS account, but runs on an emulator."""
        return not self.config.emulated and self.on_emulator()

    @cached_property
    def rules(self) -> RolloutRules:
        own = bases.REHEARSAL_RULES if self.rehearsal else {}
        home = self.config.rollout.home if self.without_home else self.home
        return self.config.rollout.model_copy(update={**own, "home": home})

    @cached_property
    def builder(self) -> deployment.CdkBuilder:
        return deployment.CdkBuilder(
            stage=self.asked.stage,
            endpoint=self.endpoint,
            environ=self.environ,
            given=cache(lambda region: self.settings.of(region).given),
            rehearsal=self.rehearsal,
            assembly=self.assembly,
            say=self.say_resource,
        )

    @cached_property
    def ports(self) -> steps.FleetPorts:
        home = self.clients_of(self.home)
        return steps.FleetPorts(
            account=_account(home, self.clients_of),
            stacks=cloudformation.CloudFormationStacks(self.clients_of),
            builder=self.builder,
            probe=probe.RegionProbe(
                self.clients_of,
                reserved=reserved_executions(shards=self.config.policy().shards),
                api_concurrency=self.config.api_concurrency,
                writes_per_s=max(self.config.table_peaks.values()),
                emulated=self.config.emulated or self.rehearsal,
                qualifier=self.config.bootstrap.qualifier,
                held=self._held,
                subscribers=lambda region: [
                    (each.protocol, each.endpoint) for each in self.settings.of(region).config.subscriptions
                ],
                networks=lambda region: next(iter(self.settings.of(region).config.in_region(region).vpc), None),
            ),
            deployed=self.deployed,
            tell=self.say,
            usage_before=self._usage_before,
            check_tables=self._check_tables,
            bill=self._bill,
            examined=self._examined,
            clock=SystemClock(),
            rules=self.rules,
            no_pager=self.no_pager,
            architecture=self.config.architecture,
            # Emulators have no CodeBuild.
            project=False if self.config.emulated or self.rehearsal else self.config.rollout_project,
            rolls_back=not self.restores,
        )

    def _held(self, region: str) -> int:
        """Executions that the deployed functions of a region reserve, by their settings."""
        names, describe = RegionStacks.of(self.asked.stage), self.ports.stacks.describe
        if describe(region, names.pipeline) is None:
            return 0
        try:
            current = self.settings.current(region)
        except SettingsError:
            current = None
        # Of an unreadable deployment at least this is known.
        config = self.settings.of(region).config if current is None else current.config
        # A region may be without the API that the settings want.
        api = config.api_concurrency if describe(region, names.api) is not None else 0
        return reserved_executions(shards=config.policy().shards) + api

    def _usage_before(self, region: str) -> int:
        """Generation of the usage table (the ledger's) that must be kept until a restore is done; 0 if none."""
        found = self.deployed.usage_generation(region)
        return 0 if found == self.settings.of(region).config.policy().usage_generation else found

    def _examined(self, region: str) -> Sequence[Finding]:
        if self.clients_of(region).access.custom_endpoint:
            # An emulator cannot perform most of these checks, and would report that for each region.
            return ()
        try:
            return findings_of(self._connected(region))
        except MeteringError as error:
            return (Finding(check=steps.DOCTOR.strip(), answered=Answered.UNKNOWN, detail=str(error)),)

    def _connected(self, region: str) -> RegionConnection:
        return connected(self.clients_of(region), self.asked.stage)

    @cached_property
    def states(self) -> LedgerRegionStates:
        if not self.without_home:
            return LedgerRegionStates(self.home_items)
        # Nothing is kept of this run: what the home region knows of the region stays true.
        states = LedgerRegionStates(lambda: None)
        done = {Step.OPT_IN: 0}
        states.save(RegionState(region=self.home, phase=Phase.READY, done=done, deployments=1))
        return states

    @property
    def regions(self) -> Stage[RegionConnection]:
        return Stage(home=self.home, connect=self._connected, states=self.states)

    @cached_property
    def manager(self) -> RegionManager:
        return RegionManager(ports=self.ports, states=self.states, say=self.say, side_by_side=_side_by_side)

    @cached_property
    def uninstall(self) -> Uninstall:
        return Uninstall(ports=self.ports, states=self.states, removal=self.removal, say=self.say)

    def survey(self, region: str, phase: Phase | None) -> Surveyed:
        """Compare a region's deployed state with the state that this checkout would deploy."""
        # If there is a note, the region's settings are only partly known.
        same = not (self.settings.change(region).differences or self.settings.before(region).note)
        return survey(self.ports, region, phase=phase, own=own_release(), same_settings=same)

    @cached_property
    def removal(self) -> RegionRemoval:
        return RegionRemoval(ports=self.ports, states=self.states, say=self.say)

    def caller(self) -> str:
        return caller_arn(self.clients_of(self.home).sts)

    def home_items(self) -> ItemStore | None:
        """Tables of the home region; None if the stage is not deployed there."""
        with self.reaching_home():
            return home_ledger(self.clients_of(self.home), self.asked.stage, ledger=self._ledger_of(self.home))


def _side_by_side(build: Callable[[str], RegionState], regions: Sequence[str]) -> Iterable[RegionState]:
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        return list(pool.map(build, regions))
