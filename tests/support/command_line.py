"""Commands run on in-memory regions, with a stopped clock."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner, Result

from metering.cli.app import app
from metering.cli.command import Session
from metering.cli.failures import CommandFailedError
from metering.cli.groups import RootGroup, load
from metering.cli.printing.output import Format
from metering.errors import SettingsError, UnavailableError
from metering.fleet.regions import Phase, RegionState
from metering.ledger.notes.watch import Completeness
from metering.ledger.usage.kinds import KindNames
from metering.operations.logged_errors import DeedTrail
from metering.stores.writes import Put, Table
from metering.units import DAY_S
from metering.wiring.region import Stage
from tests.cli.lively import Lively
from tests.support.lake_world import NOW_S, World
from tests.support.memory.queues import MemoryQueue
from tests.support.memory.regions import MemoryRegionStates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from metering.ledger.notes.deeds import Deed


@contextmanager
def typed_at(connect: Callable[..., object], regions: object = None) -> Iterator[None]:
    """Connect commands to in-memory regions, and stop the clock."""
    with ExitStack() as stack:
        for target, value in {
            "metering.cli.command.connect": connect,
            "metering.cli.command.emulated": lambda **_place: True,
            "metering.cli.command.refuse_aws_for_emulated": lambda _stage, **_place: None,
            **({} if regions is None else {"metering.cli.command.Session.regions": regions}),
            "time.time": lambda: NOW_S,
            "time.time_ns": lambda: NOW_S * 10**9,
        }.items():
            stack.enter_context(patch(target, value))
        yield


def run(*line: object) -> Result:
    """Run a command line; the endpoint is a closed port, so that no call reaches AWS."""
    return CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", *map(str, line)])


def ask(*line: object) -> Any:
    """Run a command line that succeeds, and parse its JSON."""
    result = run(*line, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*line: object, code: int = 1) -> str:
    """Run a command line, expect exit code `code` and no output, and return the message with single spaces."""
    result = run(*line)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    return " ".join(result.stderr.split())


CALLER = "arn:aws:sts::123456789012:assumed-role/Operator/ada"
_FAR_S = 4_102_444_800


class Facts:
    """Queue facts as on an emulator, which reports no message age."""

    def oldest_age_s(self) -> None:
        return None

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    dead_letter_retention_s = longest_retention_s

    def redelivery(self) -> SimpleNamespace:
        return SimpleNamespace(visibility_s=420, max_receives=5)


class Here:
    """The attributes of a connection that commands use; without log sources, `onramp` is None."""

    stage = "dev"
    services = None
    log_sources = ()
    queue_facts = Facts()
    names = SimpleNamespace(data_bucket="data")
    config = SimpleNamespace(causes=SimpleNamespace(enabled=True))

    def __init__(self, world: World, region: str = "us-east-1", *, log_sources: bool = False) -> None:
        self.region = region
        self.items, self.objects, self.clock = world.items, world.objects, world.clock
        self.settings, self.jobs, self.view = world.settings, world.jobs, world.jobs.view
        self.kind_names = KindNames(world.items)
        self.ingest, self.dead_letters, events, dead = (MemoryQueue(world.clock) for _ in range(4))
        self.onramp = SimpleNamespace(events=events, dead=dead) if log_sources else None
        self.billing: list[str] = []

    @contextmanager
    def on_demand(self, _say: object) -> Iterator[None]:
        self.billing.append("on demand")
        yield
        self.billing.append("as before")

    def caller(self) -> str:
        return CALLER


class OperatorSession(Session):
    """A session that changes an in-memory region as if it were in AWS; `agreed` means that `--yes` was given."""

    def __init__(
        self,
        world: World,
        *,
        form: Format | None = Format.JSON,
        output: Path | None = None,
        agreed: bool = True,
        region: str = "eu-west-1",
        log_sources: bool = False,
    ) -> None:
        super().__init__(
            endpoint=None, region=region, stage="dev", form=form, output=output, agreed=agreed, changes=True
        )
        self.here = Here(world, region, log_sources=log_sources)

    def region(self) -> Here:  # type: ignore[override]  # as much of it as is used
        return self.here

    @property
    def regions(self) -> Any:
        return SimpleNamespace(billing_home=lambda _asked, **_place: self.here)

    def trail(self) -> list[Deed]:
        return list(DeedTrail(items=self.here.items).between(0, _FAR_S))


class HereSession(OperatorSession):
    """A session on an in-memory region; the watch has measured the region, so that commands do not read the queues."""

    def __init__(self, world: World, *, form: Format | None = Format.JSON, output: Path | None = None) -> None:
        super().__init__(world, form=form, output=output, region="us-east-1")
        world.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=world.clock.now_ms() // 1000).to_item()))


HOME, AWAY = "us-east-1", "eu-west-1"
REFUSED = UnavailableError("cloudformation.DescribeStacks", "connection refused")


class TwoRegions:
    """A home region and a second region. Mutable."""

    def __init__(self) -> None:
        self.regions = {name: Lively(world=World(), region=name) for name in (HOME, AWAY)}
        self.home = self.regions[HOME]
        self.silent: dict[str, Exception] = {}
        self.states = MemoryRegionStates()
        for name in self.regions:
            self.states.save(RegionState(region=name, phase=Phase.READY, deployments=1))

    def send(self, region: str, *records: dict[str, Any]) -> None:
        self.regions[region].world.send([*records])
        self.regions[region].world.compact_all()

    def close(self, *regions: str, month: str = "2026-10") -> None:
        for name in regions or self.regions:
            world = self.regions[name].world
            world.jobs.closer.close(month, world.deadline())

    def connect(self, *, region: str, **_place: object) -> Lively:
        if region in self.silent:
            raise self.silent[region]
        if region not in self.regions:
            raise CommandFailedError(f"not deployed in {region}") from SettingsError(["no stack"])
        return self.regions[region]

    @property
    def stage(self) -> Stage[Lively]:
        return Stage(home=HOME, connect=lambda name: self.connect(region=name), states=self.states)

    @contextmanager
    def typed(self) -> Iterator[None]:
        with typed_at(self.connect, property(lambda _session: self.stage)):
            yield


# Placeholder in the help text -> a valid value for the argument.
_VALUES: Mapping[str, str] = {
    "YYYY-MM": "2026-10",
    "DIR": "/dev/null/try",
    "REGION": "eu-west-1",
    "SQL": "SELECT 1",
    "NUMBERS": "17",
    "SHELL": "bash",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A command without subcommands, and the words of its name."""

    words: tuple[str, ...]
    command: TyperCommand | TyperGroup

    @property
    def options(self) -> list[TyperOption]:
        return [each for each in self.command.params if isinstance(each, TyperOption) and not each.hidden]

    @property
    def arguments(self) -> list[TyperArgument]:
        return [each for each in self.command.params if isinstance(each, TyperArgument)]

    @property
    def needed(self) -> list[str]:
        """A valid value for each required argument."""
        return [_VALUES.get(each.metavar or "", "edge-7f3a") for each in self.arguments if each.required]


def tree() -> list[tuple[tuple[str, ...], Any]]:
    """All commands and command groups with their names, root first."""
    return [*_below((), get_command(app))]


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name in getattr(command, "commands", ()):
        yield from _below((*words, name), command_named(command, name))


def command_named(group: Any, name: str) -> Any:
    """A command of a group; the root group loads its commands lazily."""
    return load(name) if isinstance(group, RootGroup) else group.commands[name]


def leaves() -> list[Leaf]:
    return [
        Leaf(words=words, command=command)
        for words, command in tree()
        if not isinstance(command, TyperGroup) or command.invoke_without_command
    ]


def groups() -> list[tuple[str, ...]]:
    return [words for words, command in tree() if isinstance(command, TyperGroup)]


def long_name(option: TyperOption) -> str:
    return next(name for name in option.opts if name.startswith("--"))


@cache
def commands_with(option: str) -> frozenset[str]:
    """Names of the commands that have an option, such as `report usage`."""
    return frozenset(
        " ".join(words) for words, command in tree() if any(option in parameter.opts for parameter in command.params)
    )


def read_commands() -> frozenset[str]:
    """Names of the commands that return data."""
    return commands_with("--format")


def command_of(line: list[str]) -> str:
    """Name of the command in a command line."""
    known = [line[:words] for words in range(len(line), 0, -1) if " ".join(line[:words]) in read_commands()]
    return " ".join(known[0])


def help_texts() -> Iterator[tuple[str, str]]:
    """Name of each command, with the help texts of the command, its options and its arguments, as paragraphs."""
    for words, command in tree():
        texts = [command.help, *(one.help for one in command.params)]
        yield " ".join(words), "\n\n".join(text for text in texts if text)
