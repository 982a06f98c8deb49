"""`metering local`: the embedded AWS emulator on 127.0.0.1 with the stacks deployed."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from metering.adapters.aws.fleet.deployed_regions import DeployedRegions
from metering.adapters.aws.fleet.deployment import run_deployment
from metering.adapters.checkout import checkout_dir
from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import LocalState, forget_state, is_running, load_state, save_state
from metering.cli.command import Session, command, progress, say
from metering.cli.connecting import connect
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.reports.answer import Answer, Column

local = typer.Typer(
    help="The whole service on this machine: an AWS emulator on 127.0.0.1 with the stacks deployed.",
    no_args_is_help=True,
)

PortOption = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1. Default: 4566, or a free one if it is taken."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="A field of the stage's configuration (metering/fleet/stage.py)."
    ),
]

_UP_EXAMPLES = """Examples:

    metering local up
    metering replay --scenario mixed --batches 2000 --manifest m.json
    metering verify --manifest m.json --wait 2m
    metering local down
"""


@command(local, "up", reads=True, epilog=_UP_EXAMPLES)
def up(session: Session, port: PortOption = None, settings: SettingsOption = None) -> None:
    """Start the emulator and deploy the stacks. If they are up already, change nothing."""
    state = load_state()
    if state is not None and is_running(state) and state.deployed:
        _check_same(state, session, port)
        say(f"Already up at {state.endpoint}.")
    else:
        stop_leftovers()
        state = start_local(session.region_name, session.stage, port=port, overrides=settings or ())
    session.write(_status_answer(state, running=True))


@command(local, "down")
def down(session: Session) -> None:
    """Stop the emulator and its functions. Its data is lost. If it is not running, do nothing."""
    state = load_state()
    if state is None or not is_running(state):
        say("Nothing is running.")
    else:
        emulator.stop(state.pid)
        say(f"Stopped the emulator at {state.endpoint} (pid {state.pid}).")
    forget_state()


@command(local, "status", reads=True)
def status(session: Session) -> None:
    """Show where the emulator runs. Exits with 1 if it does not run."""
    state = load_state()
    running = state is not None and is_running(state)
    session.write(_status_answer(state, running=running))
    if not running or state is None:
        say("Nothing is running. To start it: metering local up")
        raise typer.Exit(1)
    if state.deployed and not _has_pager(state):
        say("An alarm would page no one: the page topic has no confirmed subscription.", style="yellow")


@command(local, "reset", reads=True)
def reset(session: Session) -> None:
    """Start over with no data: stop the emulator, start it on the same port, and deploy the stacks."""
    state = load_state()
    if state is None or not is_running(state):
        raise CommandFailedError("Nothing is running, so nothing can be reset.", "To start it: metering local up")
    stop_leftovers()
    fresh = start_local(state.region, state.stage, port=int(state.endpoint.rpartition(":")[2]))
    session.write(_status_answer(fresh, running=True))


def start_local(
    region: str,
    stage: str,
    *,
    port: int | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    name: str = "emulator",
) -> LocalState:
    """Start the emulator on a free port and deploy the stacks; keep the state under `name`.

    Raises:
        WrongUsageError: The port is taken.
        OperationFailedError: This is no checkout of the project.
        MeteringError: The emulator or the deployment failed; then nothing is left running.
    """
    # Said before the emulator is started, not after.
    checkout_dir()
    if port is not None and emulator.is_port_used(port):
        raise WrongUsageError(f"Port {port} is taken.", "Without --port, a free one is used.")
    began = time.monotonic()
    with _steps() as step:
        step("starting the emulator")
        running = emulator.start(port or emulator.free_port(), region=region)
        state = LocalState(endpoint=running.endpoint, region=region, stage=stage, pid=running.pid, began=running.began)
        save_state(state, name)
        try:
            _deploy(state, overrides, step)
        except BaseException:
            emulator.stop(running.pid)
            forget_state(name)
            raise
    deployed = LocalState(
        endpoint=state.endpoint, region=region, stage=stage, pid=state.pid, began=state.began, deployed=True
    )
    save_state(deployed, name)
    say(f"Up at {state.endpoint} in {time.monotonic() - began:.0f} s: stage {stage}, region {region}.")
    return deployed


def stop_leftovers(name: str = "emulator") -> None:
    """Stop the emulator that an earlier start left running under `name`, and forget it."""
    state = load_state(name)
    if state is not None and is_running(state):
        emulator.stop(state.pid)
    forget_state(name)


def _deploy(state: LocalState, overrides: list[str] | tuple[str, ...], step: "Step") -> None:
    def tell(event: Mapping[str, object]) -> None:
        if event.get("event") == "phase":
            step(f"deploying: {event.get('phase')}")
        elif event.get("event") == "resource":
            step(f"deploying: {event.get('stack')} {event.get('done')}/{event.get('total') or '?'}")

    run_deployment(
        stage=state.stage,
        region=state.region,
        endpoint=state.endpoint,
        environ={**os.environ, **emulator.client_environment(state.endpoint, None, region=state.region)},
        progress=tell,
        settings=overrides,
    )


class Step:
    """Shows the present step in one line that is redrawn. Mutable."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def __call__(self, text: str) -> None:
        self._bar.update(self._task, description=text)


@contextmanager
def _steps() -> Iterator[Step]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with progress(*columns) as bar:
        yield Step(bar)


def _has_pager(state: LocalState) -> bool:
    region = connect(endpoint=state.endpoint, region=state.region, stage=state.stage)
    return DeployedRegions(lambda _: region.clients, stage=state.stage).pager_subscriptions(state.region) > 0


def _check_same(state: LocalState, session: Session, port: int | None) -> None:
    if state.stage != session.stage:
        raise CommandFailedError(
            f"Stage {state.stage} is up at {state.endpoint}, not {session.stage}.", "Stop it first: metering local down"
        )
    if port is not None and not state.endpoint.endswith(f":{port}"):
        raise CommandFailedError(
            f"It is up at {state.endpoint}, not on port {port}.", "Stop it first: metering local down"
        )


def _status_answer(state: LocalState | None, *, running: bool) -> Answer:
    row: dict[str, str | int | bool | None] = {
        "running": running,
        "deployed": running and state is not None and state.deployed,
        "endpoint": state.endpoint if state is not None and running else None,
        "region": state.region if state is not None and running else None,
        "stage": state.stage if state is not None and running else None,
        "pid": state.pid if state is not None and running else None,
    }
    columns = (
        Column(name="running", kind="flag"),
        Column(name="deployed", kind="flag"),
        *(Column(name=name) for name in ("endpoint", "region", "stage")),
        Column(name="pid", kind="integer"),
    )
    footer = () if not running or state is None else (f"export AWS_ENDPOINT_URL={state.endpoint}",)
    return Answer(columns=columns, rows=[row], document=row, footer=footer)
