"""What the name of a log file says. AWS names each file once and for ever, so the name is the identity of the file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_IDENTITY_CHARS = 120
"""A batch id has up to 128 characters, and a part adds its number."""

CONTENT_SCHEME = "sha256:"
"""Identities of files without AWS's name begin with it."""

_FIT_FOR_ID = re.compile(r"[A-Za-z0-9._:-]+")

# `<account>_vpcflowlogs_<region>_<flow log>_<time>_<hash>.log.gz` or `.log.parquet`, below any prefix, plain or Hive
# (Amazon VPC User Guide, "Flow log files"). The logs of transit gateways have names of the same form.
_FLOW_LOG = re.compile(
    r"(?P<account>[0-9]{12})_vpcflowlogs_(?P<region>[a-z0-9-]+)_(?P<source>fl-[0-9a-z]+)_"
    r"(?P<slot>[0-9]{8}T[0-9]{4}Z)_[0-9A-Za-z]+\.log(?P<suffix>|\.gz|\.parquet)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """What the name of a log file says.

    Attributes:
        kind: Kind of log, a name of `metering.onramps.kinds`.
        identity: Identity of the file, up to 120 characters, fit for a batch id. Empty for a file without AWS's name:
            the hash of its decompressed content becomes its identity.
        account_id: Account that the name states, 12 digits; empty if it states none.
        region: Region that the name states; empty if it states none.
        source: What writes such files: a flow-log id, a distribution, a logged bucket. Empty if the name does not say.
        slot_s: Start of the time that the file is for, in epoch seconds; None if the name does not say.
        parquet: Whether the suffix says Parquet.
        version: Version of the log if the key states it, such as `v2`; empty if it does not.
    """

    kind: str
    identity: str
    account_id: str = ""
    region: str = ""
    source: str = ""
    slot_s: int | None = None
    parquet: bool = False
    version: str = ""


def identity_by_content(sha256: str) -> str:
    """Identity of a file without AWS's name: the hash of its decompressed content."""
    return f"{CONTENT_SCHEME}{sha256}"


def unpacked_name(name: str) -> str:
    """A file's name without the suffix of its packing, which copies gain and lose."""
    return name.removesuffix(".gz").removesuffix(".zst")


def identity_of(scheme: str, name: str) -> str:
    """Identity of a file that AWS named: `flow:<name>`, or the hash of a name that is too long or unfit for an id."""
    identity = f"{scheme}:{name}"
    if len(identity) <= MAX_IDENTITY_CHARS and _FIT_FOR_ID.fullmatch(name) is not None:
        return identity
    return f"{scheme}:{hashlib.sha256(name.encode()).hexdigest()}"


def flow_log_name(key: str) -> FileName | None:
    """What a key or path says if it is that of a VPC flow log as AWS names it, else None.

    Only its last part counts, because prefixes and partitions change when files are copied; and not its packing, which
    changes when a copy is unpacked. The time is the start of the five minutes in which the file's records end.
    """
    name = key.rpartition("/")[2]
    found = _FLOW_LOG.fullmatch(name)
    slot_s = None if found is None else _slot_s(found["slot"])
    if found is None or slot_s is None:
        return None
    return FileName(
        kind="vpc-flow",
        identity=identity_of("flow", unpacked_name(name)),
        account_id=found["account"],
        region=found["region"],
        source=found["source"],
        slot_s=slot_s,
        parquet=found["suffix"] == ".parquet",
    )


def _slot_s(label: str) -> int | None:
    try:
        return int(datetime.strptime(label, "%Y%m%dT%H%MZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
