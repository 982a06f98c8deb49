"""`Account` over the account API, as far as the endpoint has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, translated
from metering.domain.regions import ListedRegion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_account import AccountClient

# ListRegions: at most 50 a page (account API reference).
_PAGE = 50
_UNKNOWN_REGION = frozenset({"ValidationException", "ResourceNotFoundException", "NotFoundException"})


class AwsAccount:
    """The account of the client's credentials."""

    def __init__(self, client: AccountClient) -> None:
        self._client = client

    def regions(self) -> Sequence[ListedRegion]:
        with translated("account.ListRegions"):
            pages = self._client.get_paginator("list_regions").paginate(PaginationConfig={"PageSize": _PAGE})
            found = [region for page in pages for region in page.get("Regions", [])]
        return [
            ListedRegion(name=region["RegionName"], opt_status=region["RegionOptStatus"])
            for region in found
            if "RegionName" in region and "RegionOptStatus" in region
        ]

    def opt_status(self, region: str) -> str | None:
        try:
            with translated("account.GetRegionOptStatus"):
                answer = self._client.get_region_opt_status(RegionName=region)
        except ClientError as error:
            if error_code(error) in _UNKNOWN_REGION:
                return None
            raise
        return answer.get("RegionOptStatus")

    def enable(self, region: str) -> None:
        with translated("account.EnableRegion"):
            self._client.enable_region(RegionName=region)
