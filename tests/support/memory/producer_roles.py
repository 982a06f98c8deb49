"""`ProducerRoles` in memory."""

from __future__ import annotations

from metering.operations.access import ProducerRole


class MemoryProducerRoles:
    """Roles of one region, by the name of their producer. Each created role gets a unique id of its own.

    Attributes:
        roles: The existing roles; a test may change them.
    """

    def __init__(self) -> None:
        self.roles: dict[str, ProducerRole] = {}
        self._made = 0

    def find(self, name: str) -> ProducerRole | None:
        return self.roles.get(name)

    def put(self, name: str, *, trusted_arn: str) -> ProducerRole:
        before = self.roles.get(name)
        if before is None:
            self._made += 1
        role = ProducerRole(
            arn=f"arn:aws:iam::000000000000:role/metering-local-producer-{name}",
            role_id=f"AROA{self._made:017d}" if before is None else before.role_id,
            trusted=(trusted_arn or "arn:aws:iam::000000000000:root",),
        )
        self.roles[name] = role
        return role

    def remove(self, name: str) -> bool:
        self.roles.pop(name, None)
        return True
