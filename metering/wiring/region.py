"""Ports to the stores, queues and topics of a region, and the regions of a stage, for functions and commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar

from metering.adapters.aws import errors, runtime
from metering.adapters.aws.alerts import SnsAlerts
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.pacing import pace
from metering.adapters.aws.queues import SqsQueue, SqsQueueFacts
from metering.adapters.aws.session import Clients
from metering.errors import MeteringError, SettingsError
from metering.ledger.format_version import (
    LedgerFormat,
    WatchedLedger,
    check_format,
    check_readable,
    remember_format,
)
from metering.ledger.notes.written import WritingDown
from metering.ledger.usage.kinds import KindNames
from metering.settings import ApiSettings, Settings
from metering.stores.writes import ItemStore, Table
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.fleet import ports
    from metering.fleet.regions import RegionState
    from metering.lake.view import LakeView
    from metering.stores.objects import ObjectStore
    from metering.version import DropIdentity


class ResourceNames(Protocol):
    """Names of a region's resources: `Settings` in a function, `RegionResources` from stack outputs."""

    @property
    def ledger_table(self) -> str: ...
    @property
    def usage_table(self) -> str: ...
    @property
    def usage_generation(self) -> int: ...
    @property
    def data_bucket(self) -> str: ...
    @property
    def ingest_queue_url(self) -> str: ...
    @property
    def dead_letter_queue_url(self) -> str: ...
    @property
    def page_topic_arn(self) -> str: ...
    @property
    def ticket_topic_arn(self) -> str: ...
    @property
    def drop_identity(self) -> DropIdentity: ...


@dataclass(frozen=True)
class RegionPorts:
    """Ports to the resources in `names`, each created on first use."""

    # Whether the process asks on whether the ledger is in use: it lives long, and a fence does not stop its reads.
    WATCHES: ClassVar[bool] = False
    clients: Clients
    names: ResourceNames

    @property
    def region(self) -> str:
        return self.clients.access.region

    @cached_property
    def clock(self) -> runtime.SystemClock:
        return runtime.SystemClock()

    @cached_property
    def entropy(self) -> runtime.SystemEntropy:
        return runtime.SystemEntropy()

    @cached_property
    def items(self) -> ItemStore:
        """The two tables. The first use checks the data's format and generation, which readers check on (`WATCHES`).

        Raises:
            FormatTooNewError: Newer code wrote the ledger.
            FormatTooOldError: An older release wrote the data, and no upgrade has run.
            GenerationError: The ledger belongs to another usage table, or is not in use.
            LedgerCorruptError: The ledger's format item is malformed.
            UnavailableError: The ledger did not answer.
        """
        opened: list[LedgerFormat | None] = []
        items = open_ledger(self.clients, self.names, lambda tables: opened.append(self._open(tables)))
        return WatchedLedger(items, self.clock, opened[0]) if self.WATCHES else items

    @cached_property
    def eventual_items(self) -> ItemStore:
        """The tables of `items`, which checks their format, with eventually consistent reads."""
        return unwritten_ledger(self.clients, self.names, consistent=False)

    def _open(self, items: ItemStore) -> LedgerFormat | None:
        return check_format(items, usage_generation=self.names.usage_generation)

    @cached_property
    def kind_names(self) -> KindNames:
        """Kinds by the numbers that usage items contain, cached between queries."""
        return KindNames(self.items)

    @cached_property
    def objects(self) -> S3ObjectStore:
        return S3ObjectStore(self.clients.s3, self.names.data_bucket)

    @cached_property
    def ingest(self) -> SqsQueue:
        return SqsQueue(self.clients.sqs, self.names.ingest_queue_url)

    @cached_property
    def queue_facts(self) -> SqsQueueFacts:
        return SqsQueueFacts(
            self.clients.sqs,
            self.clients.cloudwatch,
            ingest_url=self.names.ingest_queue_url,
            dead_letter_url=self.names.dead_letter_queue_url,
        )

    @cached_property
    def dead_letters(self) -> SqsQueue:
        return SqsQueue(self.clients.sqs, self.names.dead_letter_queue_url)

    @property
    def chats(self) -> bool:
        """Whether a chat channel listens to the topics."""
        return False

    @cached_property
    def alerts(self) -> SnsAlerts:
        return SnsAlerts(
            self.clients.sns,
            None if self.clients.access.custom_endpoint else self.clients.cloudwatch,
            page_topic_arn=self.names.page_topic_arn,
            ticket_topic_arn=self.names.ticket_topic_arn,
            chat=self.chats,
        )


def open_ledger(clients: Clients, names: ResourceNames, check: Callable[[ItemStore], object]) -> ItemStore:
    """The two tables of a region, if `check` accepts their format."""
    items = unwritten_ledger(clients, names)
    check(items)
    return WritingDown(
        items=items,
        objects=lambda: S3ObjectStore(clients.s3, names.data_bucket),
        clock=runtime.SystemClock(),
        entropy=runtime.SystemEntropy(),
    )


def unwritten_ledger(clients: Clients, names: ResourceNames, *, consistent: bool = True) -> DynamoDbItemStore:
    """The two tables without a check and without lines in S3: for a restore, which puts these lines, and for reads."""
    tables = {Table.LEDGER: names.ledger_table, Table.USAGE: names.usage_table}
    return DynamoDbItemStore(clients.dynamodb, tables, consistent=consistent)


class Named(Protocol):
    """A connection to a region, with its name."""

    @property
    def region(self) -> str: ...


R = TypeVar("R", bound=Named)


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[R]):
    """Regions of one stage. The list of regions is read once.

    Attributes:
        home: Name of the home region, which stores prices, payers and the states of all regions.
        connect: Connects to a region by its name. If the stage is not deployed in this region, the error or its cause
            is a `SettingsError`.
        states: States of the regions in which the stage was ever built.
    """

    home: str
    connect: Callable[[str], R]
    states: ports.RegionStates

    @cached_property
    def known(self) -> Mapping[str, RegionState]:
        """States by region; regions without a state, such as some home regions, are absent."""
        return {state.region: state for state in self.states.everything()}

    @property
    def names(self) -> list[str]:
        """Every region that may hold data, sorted."""
        return sorted({self.home, *self.known})

    @property
    def holding_data(self) -> list[str]:
        """The home region and every region that was ever fully deployed, sorted."""
        return [name for name in self.names if name == self.home or self.known[name].holds_data]

    @property
    def left_out(self) -> dict[str, list[str]]:
        """Parts of the service that regions run without, because the region does not offer them."""
        return {name: list(state.left_out) for name, state in self.known.items() if state.left_out}

    def reached(self, name: str) -> list[R]:
        """Connect to a region of `names`; [] if the region is unreadable and was never fully deployed.

        Raises:
            MeteringError: The region may hold data, but cannot be read, so totals would be too small.
        """
        try:
            with errors.refusals_explained():
                return [self.connect(name)]
        except MeteringError as error:
            state = self.known.get(name)
            if not is_absent(error) if state is None else state.holds_data:
                raise
            return []

    def readable(
        self, home: R, check: Callable[[R], object] = lambda _region: None
    ) -> tuple[list[R], dict[str, MeteringError]]:
        """Regions to rate with a home region: the readable regions, sorted, and the errors of the other regions.

        A region that was never fully deployed is omitted without an error only if the stage is not deployed there. A
        stage on an emulator may have only `home`. `check` reads something from a region.
        """
        found, silent = [home], dict[str, MeteringError]()
        for name in self._others(home):
            try:
                with errors.refusals_explained():
                    region = self.connect(name)
                    check(region)
                    found.append(region)
            except MeteringError as error:
                if self.known[name].holds_data or not is_absent(error):
                    silent[name] = error
        return sorted(found, key=lambda region: region.region), silent

    def billing_home(self, asked: str | None, *, emulated: Callable[[], bool]) -> R:
        """Connect to the home region. If an emulator lacks the home region, connect to `asked` (if given).

        `asked` is the requested region, or None for all; `emulated` returns whether the region is on an emulator.

        Raises:
            MeteringError: The home region cannot be read.
        """
        try:
            return self.connect(self.home)
        except MeteringError as error:
            if asked is None or asked == self.home or not is_absent(error) or not emulated():
                raise
        return self.connect(asked)

    def is_alone(self, home: R) -> bool:
        """Whether the region is rated alone, because there are no other regions or it is not the home region."""
        return not self._others(home)

    def _others(self, home: R) -> list[str]:
        return sorted(self.known.keys() - {home.region}) if home.region == self.home else []


def is_absent(error: MeteringError) -> bool:
    """Whether the error means that the stage is not deployed in the region."""
    return isinstance(error, SettingsError) or isinstance(error.__cause__, SettingsError)


def home_ledger(clients: Clients, stage: str, *, ledger: str = "") -> ItemStore | None:
    """Tables of the home region, regardless of their data format; None if the stage is not deployed there.

    `ledger` names a restored ledger that is not deployed yet; empty for the deployed one.

    Raises:
        UnavailableError: The region does not answer.
    """
    from metering.adapters.aws.stacks import stack_outputs

    try:
        # The states of regions are the same in all ledger formats.
        names = stack_outputs(clients, stage)
        return open_ledger(clients, replace(names, ledger_table=ledger or names.ledger_table), check_readable)
    except SettingsError:
        return None


@dataclass(frozen=True)
class FunctionParts(RegionPorts):
    """Ports of the function's region, and the settings, which contain the resources' names.

    Attributes:
        reads: Class of the settings in the function's environment.
    """

    reads: ClassVar[type[Settings]] = Settings
    names: Settings

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Build a function's ports and settings from its environment variables.

        Raises:
            SettingsError: Lists every problem of the environment.
        """
        made = cls(clients=Clients.from_env(environ), names=cls.reads.from_env(environ))
        made.check()
        return made

    def check(self) -> None:
        """Run, when the function starts, the checks that must not fail later."""

    @property
    def chats(self) -> bool:
        return self.names.chat

    def objects_in(self, region: str) -> ObjectStore:
        """The data bucket of the stage in a region.

        Raises:
            SettingsError: The stage is not deployed there.
            UnavailableError: The region does not answer.
        """
        if region == self.region:
            return self.objects
        from metering.adapters.aws.stacks import stack_outputs

        clients = Clients(replace(self.clients.access, region=region))
        return RegionPorts(clients, stack_outputs(clients, self.stage)).objects

    @property
    def settings(self) -> Settings:
        return self.names

    @property
    def stage(self) -> str:
        return self.names.stage

    @cached_property
    def view(self) -> LakeView:
        """The lake. The lake's modules are imported on first use, because most requests read only the usage table."""
        from metering.wiring.lake import lake_view

        return lake_view(
            self.items,
            self.objects,
            shards=self.settings.shards,
            life_s=self.settings.lake_life_s,
            clock=self.clock,
        )


@dataclass(frozen=True)
class JobParts(FunctionParts):
    """Ports of a function that reads or writes the ledger in bulk, below the capacity that the table has."""

    @cached_property
    def items(self) -> ItemStore:
        items = super().items
        pace(self.clients, self.names.ledger_table)
        return items


@dataclass(frozen=True)
class WriterParts(FunctionParts):
    """Ports of the function that is the first to write to a new region, and so records the data format there."""

    def _open(self, items: ItemStore) -> None:
        remember_format(
            items,
            written_by=package_version(),
            usage_generation=self.names.usage_generation,
            drop_identity=self.names.drop_identity,
        )


@dataclass(frozen=True)
class ReaderParts(FunctionParts):
    """Ports and settings of a read-only function, as `metering.wiring.answers` needs them (`ReadableRegion`)."""

    WATCHES = True
    reads = ApiSettings
    names: ApiSettings
