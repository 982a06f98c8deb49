"""Who pays for whom, in the home region's bucket: `organization/<version>.json`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.billing.documents.strict_json import DocumentRefusedError, canonical
from metering.billing.documents.versions import NumberedDocuments
from metering.billing.organization.document import organization_value, read_organization
from metering.billing.organization.payers import Organization
from metering.errors import ObjectDamagedError
from metering.stores.bucket import ORGANIZATION_PREFIX

if TYPE_CHECKING:
    from metering.billing.documents.versions import Numbered
    from metering.stores.objects import ObjectStore


class OrganizationStore:
    """All versions of the organization. Nothing is ever replaced."""

    def __init__(self, objects: ObjectStore) -> None:
        self._documents = NumberedDocuments(objects, ORGANIZATION_PREFIX)

    def versions(self) -> list[int]:
        """Numbers of the versions, in order."""
        return self._documents.numbers()

    def listed(self) -> list[tuple[int, int]]:
        """Number of each version and the second at which it was written, in order."""
        return self._documents.listed()

    def newest(self) -> Organization:
        """The organization in force; version 0, in which each account is its own payer, if none was ever put."""
        found = self._documents.newest()
        return Organization() if found is None else _organization(found)

    def get(self, version: int) -> Organization:
        """One version; version 0 has no payers.

        Raises:
            ObjectMissingError: There is none.
            ObjectDamagedError: Its object is no organization.
        """
        return Organization() if version == 0 else _organization(self._documents.get(version))

    def put(self, organization: Organization) -> Organization:
        """Write an organization as the next version.

        Returns:
            The organization as it was written, or the newest one if that says the same.

        Raises:
            DocumentRefusedError: It contradicts itself.
        """
        read_organization(canonical(organization_value(organization)), "the organization")

        def document(number: int, newest: Numbered | None) -> dict[str, object] | None:
            made = organization_value(replace(organization, version=number))
            before = None if newest is None else organization_value(replace(_organization(newest), version=number))
            return None if made == before else made

        written = self._documents.append(document)
        return Organization() if written is None else _organization(written)


def _organization(found: Numbered) -> Organization:
    try:
        read = read_organization(found.body, found.key)
    except DocumentRefusedError as error:
        raise ObjectDamagedError(found.key, error.reason) from error
    if read.version != found.number:
        raise ObjectDamagedError(found.key, f"it says that it is version {read.version}")
    return read
