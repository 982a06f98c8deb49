"""`Account` over the account API, in partitions that have it.

GovCloud, the isolated partitions and the European sovereign cloud do not. There the SDK makes up a host name that does
not answer, so the adapter looks into the SDK's endpoint data first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import botocore.session
from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, is_unknown_call, translated
from metering.errors import OperationFailedError
from metering.fleet.regions import ListedRegion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_account import AccountClient

# ListRegions gives at most 50 regions a page (account API reference).
_PAGE = 50
_UNKNOWN_REGION = frozenset({"ValidationException", "ResourceNotFoundException", "NotFoundException"})
_OPTED_IN = "ENABLED"


def has_account_api(partition: str) -> bool:
    """Whether the SDK's endpoint data has the account API in a partition (`aws`, `aws-us-gov`)."""
    names = botocore.session.get_session().get_available_regions("account", partition, allow_non_regional=True)
    return bool(names)


class AwsAccount:
    """Account of the client's credentials.

    Args:
        client: Client of the account API.
        custom_endpoint: The client has an emulator's endpoint, so the API is there in any partition.
    """

    def __init__(self, client: AccountClient, *, custom_endpoint: bool) -> None:
        self._client = client
        self._there = custom_endpoint or has_account_api(client.meta.partition)

    def regions(self) -> Sequence[ListedRegion]:
        if not self._there:
            raise _unlisted(f"Partition {self._client.meta.partition}")
        try:
            with translated("account.ListRegions"):
                pages = self._client.get_paginator("list_regions").paginate(PaginationConfig={"PageSize": _PAGE})
                found = [region for page in pages for region in page.get("Regions", [])]
        except ClientError as error:
            if not is_unknown_call(error):
                raise
            raise _unlisted("This endpoint") from error
        return [
            ListedRegion(name=region["RegionName"], opt_status=region["RegionOptStatus"])
            for region in found
            if "RegionName" in region and "RegionOptStatus" in region
        ]

    def opt_status(self, region: str) -> str | None:
        if not self._there:
            return None
        try:
            with translated("account.GetRegionOptStatus"):
                answer = self._client.get_region_opt_status(RegionName=region)
        except ClientError as error:
            if error_code(error) in _UNKNOWN_REGION:
                return None
            if is_unknown_call(error):
                # An emulator without accounts that opt in to anything serves every region.
                return _OPTED_IN
            raise
        return answer.get("RegionOptStatus")

    def enable(self, region: str) -> None:
        with translated("account.EnableRegion"):
            self._client.enable_region(RegionName=region)


def _unlisted(what: str) -> OperationFailedError:
    return OperationFailedError(
        f"{what} has no account API, so its regions cannot be listed.",
        "Name each: `metering region add <region>` builds one that is not listed.",
    )
