"""`metering serve`: the HTTP API and the explorer page on this machine."""

from __future__ import annotations

import importlib.util
import secrets
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import asks_for_all, connections
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError

if TYPE_CHECKING:
    from metering.api.local_server import LocalServer
    from metering.wiring.connection import RegionConnection

serve_app = typer.Typer()

_EXAMPLES = """Examples:

    metering serve

    metering serve --region all --stage prod --port 8090
"""
_NEEDED = ("fastapi", "uvicorn")
_MOST_PORT = 65_535


@command(serve_app, "serve", everywhere=True, epilog=_EXAMPLES)
def serve(
    session: Session,
    port: Annotated[
        int, typer.Option("--port", min=0, max=_MOST_PORT, metavar="PORT", help="Port of 127.0.0.1; 0: any free one.")
    ] = 8080,
) -> None:
    """Serve the HTTP API and the usage explorer on this machine, with your own credentials; it only reads.

    Nothing is deployed, and no other machine can reach it. It prints a link with a new token, which is good until
    it stops; whatever the credentials allow, no call is made that changes something. With --region all, regions are
    merged as the reports do.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise WrongUsageError(
            f"This needs {' and '.join(missing)}, which this installation lacks.",
            "Install it: pip install 'metering[cli,serve]'",
        )
    regions = [each.read_only() for each in connections(session)]
    for each in regions:
        _open(each)
    # As the tokens of the API are: the page and programs take either.
    secret = f"mtr_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    server = _server(regions, secret, port)
    where = "all its regions" if asks_for_all(session) else regions[0].region
    say(f"The usage explorer of stage {session.stage} in {where}, and the HTTP API behind it. It only reads.")
    sys.stdout.write(f"{server.url}#token={secret}\n")
    sys.stdout.flush()
    say("The link holds the token: whoever has it sees all usage, as long as this runs. Ctrl-C stops it.")
    try:
        server.run()
    except KeyboardInterrupt:
        # That is how it ends.
        say("Stopped.")


def _open(region: RegionConnection) -> None:
    """Make what requests share before they share it: errors show now, and no two threads make the same thing."""
    _ = (region.items, region.objects, region.settings, region.view)


def _server(regions: list[RegionConnection], secret: str, port: int) -> LocalServer:
    from metering.api.app import build
    from metering.api.limits import Limits
    from metering.api.local_server import LocalServer
    from metering.api.parts import ApiParts
    from metering.api.tokens import OneToken

    # One person asks, and pays: nobody else is to be kept from asking. Budgets of a request hold as anywhere.
    limits = Limits(token_rate_per_s=1_000.0, token_burst=1_000, deadline_s=300.0)
    parts = ApiParts(regions=regions, tokens=OneToken(secret=secret), limits=limits, clock=regions[0].clock)
    try:
        return LocalServer(app=build(parts), port=port)
    except OSError as error:
        raise CommandFailedError(
            f"Port {port} of this machine cannot be had ({error.strerror}).",
            "Name another one with --port, or 0 for any that is free.",
        ) from error
