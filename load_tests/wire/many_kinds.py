"""A region of many usage kinds: every account has its own services, so no two accounts need the same kinds.

The service identifies an account's kinds by numbers within that account (P45). Many kinds in a region mean many
dictionaries, and so do not widen an account's items.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.replay.records import FLOWS
from metering.replay.synthesis import Shipment, account_id
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Mapping

# No other service may have its edge as the metered side, so this service keeps its name.
_FIXED = "AmazonCloudFront"
_RENAMED = [flow for flow in FLOWS if flow.service != _FIXED]
_RECORD = re.compile(r'"account_id":"(\d{12})","service":"(\w+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyKinds:
    """Kinds of a region, by account.

    Attributes:
        kinds: Minimum number of different kinds.
        accounts: That have them.
    """

    kinds: int
    accounts: int

    def of_batch(self, shipment: Shipment, number: int) -> Shipment:
        """Put its accounts' services into a batch of inline records."""
        body = _RECORD.sub(
            lambda found: f'"account_id":"{found[1]}","service":"{self._named(found[2], found[1], number)}"',
            shipment.body,
        )
        totals = {
            key._replace(service=self._named(key.service, key.account_id, number)): total
            for key, total in shipment.sent.totals.items()
        }
        return replace(shipment, body=body, sent=replace(shipment.sent, totals=totals))

    def all(self, seed: int) -> Mapping[UsageKey, Total]:
        """Every kind of every account of a seed, as zero usage."""
        ids = [account_id(seed, number) for number in range(self.accounts)]
        return {
            UsageKey(
                0,
                each,
                UsageType(flow.usage_type),
                self._named(flow.service, each, way),
                flow.from_location,
                flow.to_location,
            ): ZERO
            for each in ids
            for way in range(self._ways)
            for flow in FLOWS
        }

    @property
    def _names(self) -> int:
        """Number of names that a service has in the region."""
        return -(-self.kinds // len(_RENAMED))

    @property
    def _ways(self) -> int:
        """Number of names that it has in an account."""
        return -(-self._names // self.accounts)

    def _named(self, service: str, account: str, number: int) -> Service:
        if service == _FIXED:
            return Service(service)
        # The last eight digits of an invented account id are its number.
        return Service(f"{service}x{(int(account[-8:]) * self._ways + number % self._ways) % self._names}")
