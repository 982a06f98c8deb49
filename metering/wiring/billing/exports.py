"""Places of exports: a folder of this machine, or a prefix of a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.s3.log_buckets import S3LogStore
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.adapters.aws.session import Clients
from metering.adapters.folders import FolderLogStore
from metering.reports.exports.destination import Destination

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def folder_destination(folder: Path) -> Destination:
    """A folder, which is made if it does not exist.

    Raises:
        OSError: It cannot be made, or it is no folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return Destination(objects=FolderLogStore(folder), prefix="", name=str(folder))


def bucket_destination(
    bucket: str, prefix: str, environ: Mapping[str, str], *, region: str, endpoint: str | None
) -> Destination:
    """A prefix of a bucket, written with the credentials of the environment.

    Args:
        bucket: Its name.
        prefix: Beginning of the keys; a `/` is put after it.
        environ: Environment of the process.
        region: Region to ask first; S3 says where the bucket is.
        endpoint: URL; None for AWS.

    Raises:
        OperationFailedError: The bucket does not exist, or may not be listed.
    """
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    client = Clients.from_env(environ, region=region, endpoint_url=endpoint).s3
    # A log store says in words what is wrong with a bucket of anyone.
    next(iter(S3LogStore(client, bucket).list(folder)), None)
    return Destination(objects=S3ObjectStore(client, bucket), prefix=folder, name=f"s3://{bucket}/{folder}")
