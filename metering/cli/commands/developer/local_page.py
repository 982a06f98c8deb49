"""The explorer page of a stage on this machine: one link that opens it, with a token in its fragment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.emulator.api_address import api_address
from metering.cli.stages.borrowed import clients_of
from metering.errors import SettingsError
from metering.fleet.ports import RegionStacks
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.adapters.emulator.state import LocalState

# The emulator keeps nothing when it stops, and nobody lets it run for so long.
_LIFE_S = 30 * DAY_S


def page_link(state: LocalState) -> str | None:
    """Make an operator's token, and return the link that opens the page with it; None for a stage without an API.

    The token is in the fragment, which no browser sends to a server.

    Raises:
        UnavailableError: The emulator gives no answer.
    """
    from metering.adapters.aws.runtime import SystemClock
    from metering.adapters.aws.stacks import read_outputs, stack_outputs
    from metering.ledger.notes.tokens import Role
    from metering.operations.tokens import TokenBook
    from metering.wiring.region import RegionPorts

    clients = clients_of(state)
    try:
        outputs = read_outputs(clients, RegionStacks.of(state.stage).api)
    except SettingsError:
        return None
    region = RegionPorts(clients, stack_outputs(clients, state.stage))
    made = TokenBook(items=region.items, clock=SystemClock()).create(
        role=Role.OPERATOR, accounts=None, life_s=_LIFE_S, made_by="metering local", label="this machine"
    )
    return f"{api_address(outputs['ApiUrl'], state.endpoint).url}#token={made.text}"
