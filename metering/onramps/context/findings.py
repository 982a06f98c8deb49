"""What is wrong with a description, and what was left out of a context, in words and bounded."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAX_PROBLEMS = 20
MAX_NOTES = 100


class Findings:
    """Problems refuse a description; notes stand in the context that it becomes."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._notes: set[str] = set()

    def problem(self, text: str) -> None:
        """Say what contradicts itself."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(text)

    def note(self, text: str) -> None:
        """Say what was left out."""
        self._notes.add(text)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = sorted(self._notes)
        if len(notes) <= MAX_NOTES:
            return tuple(notes)
        return (*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES:,} more notes were left out")

    def network(self, text: str, owner: str) -> IPv4Network | IPv6Network | None:
        """The network of a CIDR block of `owner`; None if it is none, which is a problem."""
        try:
            return ip_network(text)
        except ValueError:
            self.problem(f"{owner} has {text[:60]!r}, which is no CIDR block")
            return None

    def address(self, text: str, owner: str) -> IPv4Address | IPv6Address | None:
        """The address of `owner`; None if it is none, which is a problem."""
        try:
            return ip_address(text)
        except ValueError:
            self.problem(f"{owner} has {text[:60]!r}, which is no address")
            return None
