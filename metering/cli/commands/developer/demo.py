"""`metering demo`: the whole service on this machine, from deployment to proof, in acts, leaving nothing behind."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from metering.adapters.checkout import checkout_dir
from metering.cli.command import Session, command
from metering.cli.commands.developer.demo_acts import ACTS, BATCHES, RECORDS_PER_BATCH, STATE
from metering.cli.commands.developer.demo_stage import Demo, perform, show_end
from metering.cli.commands.developer.local import stop_leftovers
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
) -> None:
    """Run the whole service here: start an emulator, deploy, replay traffic, prove, report, and stop again.

    It needs no AWS account and no container, takes about a minute, and leaves nothing behind. An act that fails says
    so, and the others go on.
    """
    # Said before the first act begins.
    checkout_dir()
    began = time.monotonic()
    show = Demo(
        region_name=session.region_name,
        now_s=int(time.time()),
        batches=batches,
        records_per_batch=records_per_batch,
        seed=seed,
    )
    stop_leftovers(STATE)
    try:
        played = perform(ACTS, show)
    finally:
        stop_leftovers(STATE)
    show_end(played, time.monotonic() - began)
    failed = [each.name for each in played if each.failed]
    if failed:
        raise CommandFailedError(f"Of the demo failed: {', '.join(failed)}.", "What went wrong stands above.")
