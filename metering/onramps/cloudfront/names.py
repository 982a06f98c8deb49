"""Names of CloudFront standard logs.

Both versions name a file `<distribution>.<YYYY-MM-DD-HH>.<unique>` with a suffix. The hour is that of the requests;
files for it may come up to 24 hours later. Version 2 puts `AWSLogs/<account>/CloudFront/` before it, unless the
delivery has a prefix of its own (Amazon CloudFront Developer Guide, "Access logs (standard logs)").
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from metering.onramps.names import FileName, identity_of, unpacked_name

KIND = "cloudfront"

_NAME = re.compile(r"([A-Z][0-9A-Z]{9,31})\.([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2})\.[0-9A-Za-z]{6,32}((?:\.[a-z0-9]+)*)")
_ACCOUNT = re.compile(r"(?:^|/)AWSLogs/(?:aws-account-id=)?([0-9]{12})/(?:aws-service=)?CloudFront/")


def recognise(key: str) -> FileName | None:
    """What a key says if it is that of a CloudFront standard log."""
    name = key.rpartition("/")[2]
    found = _NAME.fullmatch(name)
    slot_s = None if found is None else _hour_s(found[2])
    if found is None or slot_s is None:
        return None
    account = _ACCOUNT.search(key)
    # Whoever unpacks a copy takes the suffix away; it is the same file.
    identity = identity_of("cf", unpacked_name(name))
    return FileName(
        kind=KIND,
        identity=identity,
        account_id=account[1] if account is not None else "",
        source=found[1],
        slot_s=slot_s,
        parquet=found[3].endswith(".parquet"),
        # Only version 2 writes the account into the key.
        version="v2" if account is not None else "",
    )


def _hour_s(label: str) -> int | None:
    try:
        return int(datetime.strptime(label, "%Y-%m-%d-%H").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
