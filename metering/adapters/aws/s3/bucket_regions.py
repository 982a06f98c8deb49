"""Regions of the buckets of an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# S3 tells the regions only if the answer comes in pages (S3 API, ListBuckets).
_PAGE_BUCKETS = 1_000


def bucket_regions(client: S3Client) -> dict[str, str]:
    """Region of each bucket of the caller's account, as far as S3 tells it.

    Raises:
        UnavailableError: S3 gave no answer.
    """
    regions: dict[str, str] = {}
    with translated("s3.ListBuckets"):
        for page in client.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": _PAGE_BUCKETS}):
            for bucket in page.get("Buckets", []):
                if region := bucket.get("BucketRegion"):
                    regions[bucket["Name"]] = region
    return regions
