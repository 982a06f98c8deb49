"""`metering demo`: the whole service on this machine, from deployment to proof, in acts, leaving nothing behind."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from metering.adapters.checkout import checkout_dir
from metering.adapters.emulator.state import load_state, running_endpoint
from metering.cli.command import Session, command
from metering.cli.commands.developer.demo_acts import ACTS, BATCHES, RECORDS_PER_BATCH
from metering.cli.commands.developer.demo_stage import Demo, perform, show_end
from metering.cli.commands.developer.local import stop_leftovers
from metering.cli.commands.developer.local_page import page_link
from metering.cli.failures import CommandFailedError

demo_app = typer.Typer()


@command(demo_app, "demo", checkout=True)
def demo(
    session: Session,
    batches: Annotated[
        int, typer.Option("--batches", min=1, help="Number of synthetic messages, sent along with the real ones.")
    ] = BATCHES,
    records_per_batch: Annotated[
        int, typer.Option(min=2, max=1_000, help="Records in each synthetic message.")
    ] = RECORDS_PER_BATCH,
    seed: Annotated[int, typer.Option(help="The same seed in the same hour gives the same traffic.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it up, and print a link to its usage explorer: metering local down.")
    ] = False,
) -> None:
    """Run the whole service here: start an emulator, deploy, replay traffic, prove, report, and stop again.

    It needs no AWS account and no container, takes about a minute, and leaves nothing behind, unless --keep is given.
    An act that fails says so, and the others go on.
    """
    # Said before the first act begins.
    checkout_dir()
    began = time.monotonic()
    show = Demo(
        region_name=session.stated_region,
        now_s=int(time.time()),
        batches=batches,
        records_per_batch=records_per_batch,
        seed=seed,
        keep=keep,
    )
    if keep and (endpoint := running_endpoint()):
        raise CommandFailedError(f"A local stage is up already at {endpoint}.", "Stop it first: metering local down")
    stop_leftovers(show.name)
    link = None
    try:
        played = perform(ACTS, show)
        link = _link(show)
    finally:
        if link is None:
            stop_leftovers(show.name)
    show_end(played, time.monotonic() - began, link=link)
    failed = [each.name for each in played if each.failed]
    if failed:
        raise CommandFailedError(f"Of the demo failed: {', '.join(failed)}.", "What went wrong stands above.")


def _link(show: Demo) -> str | None:
    """The link to the page, if the stage is to stay up and stands."""
    state = load_state(show.name) if show.keep and show.deployed is not None else None
    return None if state is None else page_link(state)
