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
    from metering.api.parts import ApiParts
    from metering.api.serving.server import LocalServer
    from metering.wiring.answers.costs import BillingRegions
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
            "Install it: pip install 'transfer-metering[cli,serve]'",
        )
    # As the tokens of the API are: the page and programs take either.
    secret = f"mtr_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    parts = _parts(session, secret)
    server = _server(parts, port)
    where = "all its regions" if parts.everywhere else parts.regions[0].region
    say(f"The usage explorer of stage {session.stage} in {where}, and the HTTP API behind it. It only reads.")
    sys.stdout.write(f"{server.url}#token={secret}\n")
    sys.stdout.flush()
    say("The link holds the token: whoever has it sees all usage, as long as this runs. Ctrl-C stops it.")
    try:
        server.run()
    except KeyboardInterrupt:
        # That is how it ends.
        say("Stopped.")


def _parts(session: Session, secret: str) -> ApiParts:
    place = _Place()
    regions = [place.opened(each) for each in connections(session)]
    billing = _billing(session, place)
    # Slow to import, and a command that cannot reach its region does not need it.
    from metering.api.limits import Limits
    from metering.api.parts import ApiParts
    from metering.api.tokens import OneToken
    from metering.wiring.answers.usage import Everywhere

    return ApiParts(
        regions=regions,
        tokens=OneToken(secret=secret),
        # One person asks, and pays: nobody else is to be kept from asking. Budgets of a request hold as anywhere.
        limits=Limits(
            token_rate_per_s=1_000.0,
            token_burst=1_000,
            token_reads_per_s=1_000.0,
            token_reads=100_000,
            deadline_s=300.0,
        ),
        clock=regions[0].clock,
        everywhere=Everywhere(left_out=session.regions.left_out) if asks_for_all(session) else None,
        billing=None if billing is None else lambda: billing,
    )


class _Place:
    """Regions of a stage over clients that only read, each once."""

    def __init__(self) -> None:
        self._opened: dict[str, RegionConnection] = {}

    def opened(self, region: RegionConnection) -> RegionConnection:
        """The region, with what its requests share made: errors show now, and no two threads make the same thing."""
        if region.region not in self._opened:
            made = self._opened[region.region] = region.read_only()
            _ = (made.items, made.objects, made.settings, made.view)
        return self._opened[region.region]


def _billing(session: Session, place: _Place) -> BillingRegions | None:
    from metering.cli.billing.home import billing_home, billing_regions
    from metering.wiring.answers.costs import BillingRegions

    try:
        home = billing_home(session)
        regions = billing_regions(session, home)
    except CommandFailedError as error:
        say(f"Costs are not served: {error}", "yellow")
        return None
    return BillingRegions(
        home=place.opened(home), regions=[place.opened(each) for each in regions], left_out=session.regions.left_out
    )


def _server(parts: ApiParts, port: int) -> LocalServer:
    from metering.api.app import build
    from metering.api.serving.server import LocalServer

    try:
        return LocalServer(app=build(parts), port=port)
    except OSError as error:
        raise CommandFailedError(
            f"Port {port} of this machine cannot be had ({error.strerror}).",
            "Name another one with --port, or 0 for any that is free.",
        ) from error
