"""Connections to a deployed region, built from the outputs of its stacks."""

from collections.abc import Mapping
from dataclasses import dataclass

from metering.ports import ItemStore, ObjectStore
from metering.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConnection:
    """One deployed region.

    Attributes:
        endpoint: AWS endpoint, or None for AWS itself.
        outputs: CONTRACT's stack outputs by logical name, of the data stack.
        settings: Table names, bucket, queue URLs and topics of the region, as the functions know them.
    """

    endpoint: str | None
    region: str
    stage: str
    outputs: Mapping[str, str]
    settings: Settings
    items: ItemStore
    objects: ObjectStore


def connect(*, endpoint: str | None, region: str, stage: str) -> RegionConnection:
    """Look up the stacks of a stage and connect to what they name.

    Raises:
        CommandFailedError: Nothing answers at the endpoint, or the stage is not deployed there.
    """
    raise NotImplementedError
