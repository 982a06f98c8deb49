"""What invoices are made of, as they need it: usage of months over all regions, and versions of prices and payers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.organization.payers import Organization
    from metering.billing.prices.book import Override, PriceBook
    from metering.billing.usage.ports import RegionMonth


class UsageSource(Protocol):
    """Usage of every month of a stage."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region that holds data of the stage, sorted."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """Those of the regions that cannot be read now, and why."""
        ...

    def month(self, month: str) -> Sequence[RegionMonth]:
        """One month of each region that can be read. Asked again, it is what it was."""
        ...

    def damages(self, month: str) -> Iterator[str]:
        """What of the closed month is not as its regions froze it, a sentence each, with the object's name."""
        ...


class Books(Protocol):
    """Price books by name and version."""

    def newest(self, name: str) -> PriceBook | None:
        """The version in force; None if the book was never imported."""
        ...

    def get(self, name: str, version: int) -> PriceBook:
        """A version. Raises a MeteringError that names it if it is not there or cannot be read."""
        ...


class OverridesVersion(Protocol):
    """An immutable version of all overrides."""

    @property
    def version(self) -> int: ...

    @property
    def sha256(self) -> str: ...

    @property
    def overrides(self) -> tuple[Override, ...]: ...


class OverrideVersions(Protocol):
    """Overrides by version; version 0 has none."""

    def newest(self) -> OverridesVersion: ...

    def get(self, version: int) -> OverridesVersion: ...


class Organizations(Protocol):
    """Organizations by version; version 0 names nobody."""

    def newest(self) -> Organization: ...

    def get(self, version: int) -> Organization: ...
