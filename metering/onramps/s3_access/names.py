"""Names of S3 server access logs.

AWS names a file `YYYY-mm-DD-HH-MM-SS-<16 characters>` below the prefix that the bucket's owner chose. With partitioned
names, `<account>/<region>/<bucket>/YYYY/mm/DD/` stands between the two. The time is the delivery, or with partitions
by event time the day of the events (Amazon S3 User Guide, "Amazon S3 server access log format").
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from metering.onramps.names import FileName, identity_of, unpacked_name
from metering.usage.locations import is_region

KIND = "s3-access"

_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})-([0-9A-F]{16})")
_PARTITION = re.compile(r"(?:.*/)?([0-9]{12})/([a-z0-9-]+)/([a-z0-9.-]{3,63})/[0-9]{4}/[0-9]{2}/[0-9]{2}/")


def recognise(key: str) -> FileName | None:
    """What a key says if it is that of an S3 server access log.

    The identity is the name alone: a replica of a log bucket has the same names, and is no second log. The slot stays
    open, because files of these logs come whenever AWS has some.
    """
    folder, slash, name = key.rpartition("/")
    # A prefix need not end with a slash: AWS appends the name to it as it is.
    # AWS packs these files never; who packs a copy adds a suffix, and it is the same file.
    name = unpacked_name(name)
    named = _NAME.search(name)
    if named is None or named.end() != len(name) or not _is_time(named[1]):
        return None
    partition = _PARTITION.fullmatch(folder + slash)
    if partition is not None and named.start() == 0 and is_region(partition[2]):
        account_id, region, bucket = partition.groups()
    else:
        account_id = region = bucket = ""
    identity = identity_of("s3", named[0])
    return FileName(kind=KIND, identity=identity, account_id=account_id, region=region, source=bucket)


def _is_time(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
