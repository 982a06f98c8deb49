"""Runs a demo: one act after another, each with a description and its duration."""

from __future__ import annotations

import sys
import time
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from metering.audit.verification import SentBatches
from metering.cli import command
from metering.cli.failures import CommandFailedError, CommandStoppedError
from metering.errors import MeteringError
from metering.reports.sql.ahead import in_thread
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.wiring.connection import RegionConnection

T = TypeVar("T")

# A longer step is considered hanging: with the default traffic, none takes a quarter of this.
_STEP_S = 10 * MINUTE_S

# Commands to try after the demo, in lines of at most 60 columns.
NEXT = (
    "metering local up",
    "metering replay --scenario week --manifest m.json",
    "metering verify --manifest m.json --wait 5m",
    # Seven times 24 hours, counted back from now, touch eight calendar days.
    "metering report usage --group-by day --last 8d --chart",
    "metering cost --prices sample --last 8d --group-by day",
    "metering local down",
)


@dataclass(slots=True, kw_only=True)
class Demo:
    """State shared by the acts. Mutable.

    Attributes:
        region_name: Region to deploy to.
        now_s: Start of the demo, epoch seconds; all traffic is before this time.
        batches, records_per_batch, seed: The made-up traffic.
        deployed: The deployed region; None before the deployment.
        sent: Sent batches, with the verdicts that are expected for them.
        keep: Whether the stage is kept after the demo.
    """

    region_name: str
    now_s: int
    batches: int
    records_per_batch: int
    seed: int
    deployed: RegionConnection | None = None
    sent: SentBatches = field(default_factory=SentBatches)
    keep: bool = False

    @property
    def name(self) -> str:
        """Name under which the state of the emulator is stored. A kept stage uses the name of `metering local`."""
        return "emulator" if self.keep else "demo"

    @property
    def region(self) -> RegionConnection:
        """The region that stands.

        Raises:
            CommandFailedError: None does.
        """
        if self.deployed is None:
            raise CommandFailedError("No region is deployed.")
        return self.deployed


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act of a demo. To add an act, write its function and add an entry to `ACTS`.

    Attributes:
        name: One word.
        about: A sentence about it.
        play: Does it, and prints.
        needed: Whether the other acts cannot run without this act.
    """

    name: str
    about: str
    play: Callable[[Demo], None]
    needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A completed act, with its duration in seconds."""

    name: str
    took_s: float
    failed: bool


def perform(acts: Sequence[Act], demo: Demo) -> list[Played]:
    """Play all acts. A failed act prints its error; the next acts still run, unless all acts need it."""
    played = []
    for number, act in enumerate(acts, start=1):
        tell(f"\n[{number}/{len(acts)}] {act.name}: {act.about}", style="bold cyan")
        began, failed = time.monotonic(), False
        try:
            act.play(demo)
        except CommandStoppedError:
            raise
        except MeteringError as error:
            failed = True
            command.tell_of(error)
        played.append(Played(name=act.name, took_s=time.monotonic() - began, failed=failed))
        if failed and act.needed:
            tell("The other acts need this one, so the demo ends here.")
            break
    return played


def show_end(played: Sequence[Played], took_s: float, *, link: str | None = None) -> None:
    """Print the durations of the acts and of the whole demo, and suggest what to try next.

    `link` opens the page of a stage that was kept; None if the stage was stopped.
    """
    seconds = ", ".join(f"{each.name} {each.took_s:.0f}{' (failed)' if each.failed else ''}" for each in played)
    tell(f"\nSeconds: {seconds}. The demo took {took_s:.0f} s.")
    if link is None:
        tell("The emulator is stopped.")
    lines = NEXT if link is None else tuple(line for line in NEXT if line != "metering local up")
    tell("\nTry next, in this folder:", style="bold")
    for line in (f"export PATH={_programs()}:$PATH", *lines):
        tell(f"  {line}")
    if link is not None:
        tell("\nThe service is still up. Explore its usage:", style="bold")
        # A wrapped link cannot be opened.
        sys.stdout.write(f"{link}\n")


def _programs() -> str:
    """Folder of the `metering` script, as a shell in this folder names it."""
    programs = Path(sys.prefix) / "bin"
    return f"$PWD/{programs.relative_to(Path.cwd())}" if programs.is_relative_to(Path.cwd()) else str(programs)


def tell(text: str, style: str = "") -> None:
    """Print a text on stdout; lines break only between words."""
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(text, style=style))


def limited(step: str, work: Callable[[], T], *, more_s: int = 0) -> T:
    """Run a step of the demo with a time limit.

    Raises:
        CommandFailedError: The step exceeded its time limit.
    """
    limit_s = _STEP_S + more_s
    future = in_thread(work)
    try:
        return future.result(timeout=limit_s)
    except StillWaiting as error:
        if future.done():
            raise
        problem = f"The demo was stopped, because {step} took longer than {limit_s // MINUTE_S} minutes."
        raise CommandFailedError(problem, "Run it again.") from error


def seen(step: str, work: Callable[[], T]) -> T:
    """Run a step that prints nothing, while a spinner shows."""
    with command.spinner(step):
        return limited(step, work)
