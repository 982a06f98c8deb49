"""SDK clients that only read: what serves answers with a person's own credentials must not be able to write.

The credentials may allow anything. A call that is not known to read is refused before it is signed, whichever adapter
makes it, so that a fault in a route cannot become a write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from metering.adapters.aws.session import Clients
from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Callable

# First words of operations that change nothing. `ReceiveMessage` hides messages from others, so it is none.
_READING = ("BatchGet", "Describe", "Get", "Head", "List", "Query", "Scan")


class ReadOnlyError(MeteringError):
    """A call was refused, because it is not known to only read.

    Attributes:
        operation: The call, as `service.Operation`.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(operation)
        self.operation = operation

    def __str__(self) -> str:
        return f"{self.operation} is refused: only calls that read are made here"


class ReadOnlyClients(Clients):
    """`Clients` that refuse calls which change something, with `ReadOnlyError`."""

    def _make(self, service: str) -> object:
        made = cast("_Client", super()._make(service))
        made.meta.events.register("before-parameter-build", _refuse_writes)
        return made


def _refuse_writes(*, model: _Operation, **_others: object) -> None:
    if not model.name.startswith(_READING):
        raise ReadOnlyError(f"{model.service_model.service_name}.{model.name}")


# What is used of the SDK's own classes, which have no types.
class _Service(Protocol):
    service_name: str


class _Operation(Protocol):
    name: str
    service_model: _Service


class _Events(Protocol):
    def register(self, event_name: str, handler: Callable[..., None]) -> None: ...


class _Meta(Protocol):
    events: _Events


class _Client(Protocol):
    meta: _Meta
